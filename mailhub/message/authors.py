"""Who a message says it is from (RFC 5322 3.6.2), and who has sent it again (3.6.6)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.message.address import Address, parse_domain, to_ascii
from mailhub.message.address_list import MISSING_DOMAIN, MISSING_MAILBOX, MailboxSpec, parse
from mailhub.message.encoded_word import decode_words
from mailhub.message.header import raw_fields, unfold
from mailhub.message.resent import last_resent

AUTHORS_LIMIT = 1000  # addresses of a field whose domains are looked at
_LENGTH_LIMIT = 65_536  # octets of a field of which all is sure to be read


def authors(header: bytes) -> Sequence[Address]:
    """The addresses of the From field, at least one; members of groups, too. Raises ValueError with what is wrong: the
    field is missing, there are several, or it has what is no address."""
    fields = [octets for name, octets in raw_fields(header) if name == b"from"]
    if len(fields) != 1:
        raise ValueError("Message has several From fields" if fields else "Message has no From field")
    return _addresses("From", fields[0])


@attrs.frozen
class AuthorDomains:
    """What From says of domains: how many such `fields` there are, and the `domains` (A-labels) in them, each once, of
    which an address literal is none. `doubtful`: there is what a reader might be shown as an address, and nobody can
    say of which domain; or too much to say. `readable` is False of a header of which nothing is known."""

    fields: int = 0
    domains: Sequence[str] = ()
    doubtful: bool = False
    readable: bool = True


def author_domains(header: bytes) -> AuthorDomains:
    """Those of a header. Never raises."""
    fields = [octets.partition(b":")[2] for name, octets in raw_fields(header) if name == b"from"]
    found: dict[str, None] = {}
    doubtful = False
    for octets in fields:
        specs = parse(unfold(octets), addresses=AUTHORS_LIMIT)
        doubtful |= len(specs) >= AUTHORS_LIMIT or len(octets) > _LENGTH_LIMIT
        for spec in specs:
            try:
                domain = _domain(spec)
            except ValueError:
                doubtful = True
            else:
                found[domain] = None
    return AuthorDomains(len(fields), [domain for domain in found if domain and domain[0] != "["], doubtful)


def _domain(spec: MailboxSpec) -> str:
    """The domain (A-labels), "" for none: `root` says nothing of one. Raises ValueError where it cannot be read, and
    where a local part looks like an address itself, as it stands or decoded."""
    if spec.domain is None:
        return ""  # where a group begins, and where it ends
    local = spec.local or b""
    if b"@" in local or (b"=?" in local and "@" in decode_words(local)):
        raise ValueError("local part has an @")
    if spec.domain == MISSING_DOMAIN:
        return ""
    domain = parse_domain(spec.domain.decode())
    return domain if domain.isascii() else to_ascii(domain)


def resenters(header: bytes) -> Sequence[Address]:
    """Who has sent the message again last, by Resent-From and Resent-Sender; nobody where nobody has. Raises ValueError
    with what is wrong: Resent-From is missing, or one of them has what is no address."""
    fields = list(raw_fields(header))
    latest = dict(fields[place] for place in last_resent(fields))
    if not latest:
        return []
    if b"resent-from" not in latest:
        raise ValueError("Message is resent and has no Resent-From field")
    found = list(_addresses("Resent-From", latest[b"resent-from"]))
    if b"resent-sender" in latest:
        found += _addresses("Resent-Sender", latest[b"resent-sender"])
    return found


def _addresses(name: str, field: bytes) -> Sequence[Address]:
    specs = parse(unfold(field.partition(b":")[2]))
    found = []
    for spec in specs:
        if spec.domain is None:
            continue  # where a group begins, and where it ends
        try:
            if spec.local == MISSING_MAILBOX or spec.domain == MISSING_DOMAIN:
                raise ValueError
            address = Address((spec.local or b"").decode(), parse_domain(spec.domain.decode()))
            if Address.parse(str(address)) != address:
                raise ValueError
        except ValueError:
            raise ValueError(f"{name} field has what is no address") from None
        found.append(address)
    if not found:
        raise ValueError(f"{name} field names nobody")
    return found
