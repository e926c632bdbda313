"""What the server writes: untagged responses, response codes, and strings of every kind (RFC 3501 7 and 9).

Functions named for a response return the complete line, `* ` and CRLF included, for `machine.untagged`. Those whose
name ends in `_code` return what stands between the brackets, for the `code` of `machine.ok` and its like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from mailhub.message.flags import Flags, ordered
from mailhub.message.mailbox_names import DELIMITER, INBOX
from mailhub.message.nstring import string
from mailhub.wire.imap import names, sets

# --- strings (4.3) ---------------------------------------------------------------------------------------------------

_ASTRING_ATOM = re.compile(rb"[!#$&'+-\[\]^-z|}~]+")


def astring(octets: bytes) -> bytes:
    """An atom where the grammar allows it, else a `string`. NIL is quoted, lest a reader take it for nothing."""
    if _ASTRING_ATOM.fullmatch(octets) and octets.upper() != b"NIL":
        return octets
    return string(octets)


def mailbox(name: str) -> bytes:
    """A mailbox name as the wire writes it. Always quoted (INBOX excepted): older clients want it so."""
    return b"INBOX" if name == INBOX else string(names.encode(name))


def text(words: str) -> bytes:
    """Human-readable text for the end of a line: one line of printable ASCII, of bounded length, never empty."""
    return _UNPRINTABLE.sub("?", words[:_TEXT_LIMIT]).encode() or b"-"


_UNPRINTABLE = re.compile("[^\x20-\x7e]")
_TEXT_LIMIT = 400


# --- status responses (7.1) ------------------------------------------------------------------------------------------


def status_response(tag: str, condition: str, words: str, code: bytes = b"") -> bytes:
    """A whole line such as `A1 NO [CANNOT] Not so`; the tag "*" makes it untagged."""
    return b"%b %b %b%b\r\n" % (tag.encode(), condition.encode(), b"[" + code + b"] " if code else b"", text(words))


def ok(words: str, code: bytes = b"") -> bytes:
    """Untagged OK (7.1.1), for the codes of SELECT and for news."""
    return status_response("*", "OK", words, code)


# --- untagged responses (7.2 to 7.4) ---------------------------------------------------------------------------------


def _untagged(*parts: bytes) -> bytes:
    return b"* " + b" ".join(parts) + b"\r\n"


def _parenthesised(parts: Iterable[bytes]) -> bytes:
    return b"(" + b" ".join(parts) + b")"


def capability(names_: Iterable[str]) -> bytes:
    """CAPABILITY (7.2.1)."""
    return _untagged(capability_code(names_))


def listing(attributes: Iterable[str], name: str, *, child_info: bool = False) -> bytes:
    """LIST (7.2.2); attributes such as `\\Noselect`. `child_info`: the CHILDINFO item SUBSCRIBED (RFC 5258 3.5)."""
    extended = [b'("CHILDINFO" ("SUBSCRIBED"))'] if child_info else []
    return _untagged(b"LIST", _attributes(attributes), _DELIMITER, mailbox(name), *extended)


def hierarchy(root: str) -> bytes:
    """The answer to LIST with an empty pattern: the delimiter, and the root of the reference (6.3.8)."""
    return _untagged(b"LIST", b"(\\Noselect)", _DELIMITER, string(names.encode(root)))


def lsub(attributes: Iterable[str], name: str) -> bytes:
    """LSUB (7.2.3)."""
    return _untagged(b"LSUB", _attributes(attributes), _DELIMITER, mailbox(name))


def status(name: str, items: Iterable[tuple[str, int]]) -> bytes:
    """STATUS (7.2.4)."""
    counts = (b"%b %d" % (item.encode(), number) for item, number in items)
    return _untagged(b"STATUS", mailbox(name), _parenthesised(counts))


def search(numbers: Iterable[int]) -> bytes:
    """SEARCH (7.2.5); without numbers too."""
    return _untagged(b"SEARCH", *(b"%d" % number for number in numbers))


def flags(available: Flags) -> bytes:
    """FLAGS (7.2.6): what messages of the mailbox may have."""
    return _untagged(b"FLAGS", _flag_list(available))


def exists(count: int) -> bytes:
    """EXISTS (7.3.1)."""
    return b"* %d EXISTS\r\n" % count


def recent(count: int) -> bytes:
    """RECENT (7.3.2)."""
    return b"* %d RECENT\r\n" % count


def namespace(personal: Sequence[str]) -> bytes:
    """NAMESPACE (RFC 2342 5): prefixes of personal namespaces; there are none of others and none shared."""
    spaces = b"".join(_parenthesised((string(names.encode(prefix)), _DELIMITER)) for prefix in personal)
    return _untagged(b"NAMESPACE", b"(" + spaces + b")" if spaces else b"NIL", b"NIL", b"NIL")


def identity(fields: Mapping[str, str]) -> bytes:
    """ID (RFC 2971 3.2)."""
    if not fields:
        return _untagged(b"ID", b"NIL")
    strings = (string(word.encode()) for field in fields.items() for word in field)
    return _untagged(b"ID", _parenthesised(strings))


def enabled(names_: Iterable[str]) -> bytes:
    """ENABLED (RFC 5161 3.2)."""
    return _untagged(b"ENABLED", *(name.encode() for name in names_))


_DELIMITER = string(DELIMITER.encode())


def _attributes(attributes: Iterable[str]) -> bytes:
    return _parenthesised(attribute.encode() for attribute in attributes)


def _flag_list(available: Flags) -> bytes:
    return _parenthesised(flag.encode() for flag in ordered(available))


# --- response codes (7.1, and the RFCs named) ------------------------------------------------------------------------

READ_ONLY = b"READ-ONLY"
READ_WRITE = b"READ-WRITE"
TRYCREATE = b"TRYCREATE"
BADCHARSET = b"BADCHARSET (UTF-8 US-ASCII)"
TOOBIG = b"TOOBIG"  # RFC 7889 4
USEATTR = b"USEATTR"  # RFC 6154 3
# RFC 5530 3
UNAVAILABLE = b"UNAVAILABLE"
AUTHENTICATIONFAILED = b"AUTHENTICATIONFAILED"
PRIVACYREQUIRED = b"PRIVACYREQUIRED"
NOPERM = b"NOPERM"
EXPUNGEISSUED = b"EXPUNGEISSUED"
SERVERBUG = b"SERVERBUG"
CANNOT = b"CANNOT"
LIMIT = b"LIMIT"
OVERQUOTA = b"OVERQUOTA"
ALREADYEXISTS = b"ALREADYEXISTS"
NONEXISTENT = b"NONEXISTENT"


def capability_code(names_: Iterable[str]) -> bytes:
    """CAPABILITY."""
    return b"CAPABILITY " + " ".join(names_).encode()


def permanentflags_code(storable: Flags, *, keywords: bool = True) -> bytes:
    """PERMANENTFLAGS; with `keywords` the client may make up new ones (`\\*`)."""
    listed = _flag_list(storable)
    if not keywords:
        return b"PERMANENTFLAGS " + listed
    return b"PERMANENTFLAGS " + (listed[:-1] + b" \\*)" if storable else b"(\\*)")


def uidnext_code(uid: int) -> bytes:
    """UIDNEXT."""
    return b"UIDNEXT %d" % uid


def uidvalidity_code(validity: int) -> bytes:
    """UIDVALIDITY."""
    return b"UIDVALIDITY %d" % validity


def unseen_code(number: int) -> bytes:
    """UNSEEN: the sequence number of the first message without \\Seen."""
    return b"UNSEEN %d" % number


def appenduid_code(validity: int, uid: int) -> bytes:
    """APPENDUID (RFC 4315 3)."""
    return b"APPENDUID %d %d" % (validity, uid)


def copyuid_code(validity: int, sources: Iterable[int], targets: Iterable[int]) -> bytes:
    """COPYUID (RFC 4315 3): message by message; nothing copied has no code, so both must have members."""
    return b"COPYUID %d %b %b" % (validity, sets.compact(sources), sets.compact(targets))
