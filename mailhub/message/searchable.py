"""What of header fields is searched: the text that a reader sees, decoded, on one line (RFC 3501 6.4.4).

Encoded words are not searched as they stand: nobody reads base64.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mailhub.message.address_list import MISSING_DOMAIN, MISSING_MAILBOX, MailboxSpec, parse
from mailhub.message.charset import decode
from mailhub.message.encoded_word import decode_words
from mailhub.message.header import VALUE_LIMIT

# What most mail has: one address, with a name that needs no quotes. It reads as it stands.
_USUAL = re.compile(rb"(?:[!#-'*+\-/-9?A-Z^-~\x80-\xff]+ )*<[!#-'*+\--9?A-Z^-~]+@[0-9A-Za-z.-]+>")
_ATOMS = re.compile(r"[^\x00-\x20\x7f()<>@,;:\\\"\[\]]+")
_PHRASE = re.compile(r"[^\x00-\x1f\x7f()<>@,;:\\\"\[\].]+")


def words(bodies: Iterable[bytes]) -> str:
    """The text of unfolded field bodies, each on a line."""
    return "\n".join(map(decode_words, bodies))


def addresses(body: bytes) -> Iterator[str]:
    """The addresses of an unfolded address field as ENVELOPE has them, each as a line: `Name <user@xx.example>`.

    Comments are not among them, nor is white space within an address. Where a name or a local part has to be quoted,
    it stands there both with its quotes and without. A group gives its name.
    """
    if _USUAL.fullmatch(body):
        yield decode(body)
        return
    for spec in parse(body, octets=VALUE_LIMIT):
        yield from _lines(spec)


def _lines(spec: MailboxSpec) -> Iterator[str]:
    name = decode_words(spec.name) if spec.name else ""
    if spec.local is None:
        return
    if spec.domain is None:
        yield decode_words(spec.local)
        return
    local = "" if spec.local is MISSING_MAILBOX else decode(spec.local)
    domain = "" if spec.domain is MISSING_DOMAIN else f"@{decode(spec.domain)}"
    if spec.route:
        yield decode(spec.route)
    if not (local or domain):
        yield name
        return
    yield f"{name} <{local}{domain}>" if name else f"<{local}{domain}>"
    quoted_name, quoted_local = _quoted(name, _PHRASE), _quoted(local, _ATOMS)
    if (quoted_name, quoted_local) != (name, local):
        yield f"{quoted_name} <{quoted_local}{domain}>" if name else f"<{quoted_local}{domain}>"


def _quoted(text: str, plain: re.Pattern[str]) -> str:
    if not text or plain.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
