"""ENVELOPE, BODYSTRUCTURE and BODY as IMAP octets that are ready to be sent (RFC 3501 7.4.2).

Every value of the message passes `nstring`: nothing that stands in a header can leave its string.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mailhub.message.address_list import MailboxSpec
from mailhub.message.address_list import parse as parse_addresses
from mailhub.message.header import Header
from mailhub.message.mime import Part, Scan
from mailhub.message.nstring import is_plain, nstring, string
from mailhub.message.parameters import Parameterised, parse, without_comments, words

ADDRESS_OCTET_LIMIT = (
    1 << 18
)  # octets of all address fields of one message, nested ones included; what is cut is left out

_SHORT = 40  # characters
_EXTENSION_FIELDS = (b"content-disposition", b"content-language", b"content-location")
_DESCRIBING_FIELDS = (b"content-id", b"content-description", b"content-md5", *_EXTENSION_FIELDS)

_ELEMENT = re.compile(rb" ?(?:\"(?:[^\"\\]++|\\.)*\"|\{([0-9]+)\}\r\n|([()])|[A-Z0-9]++)")
_LANGUAGE = re.compile(rb"[A-Za-z0-9-]+")


def envelope(header: Header) -> bytes:
    """The ENVELOPE of a message, with its parentheses."""
    return _Writer().envelope(header)


def bodystructure(scan: Scan) -> bytes:
    """The BODYSTRUCTURE of a message, with its parentheses and all extension data."""
    return _Writer().structure(scan)


class _Writer:
    """Writes one answer; counts the octets of address lists that it has read."""

    def __init__(self) -> None:
        self.addresses_left = ADDRESS_OCTET_LIMIT

    def envelope(self, header: Header) -> bytes:
        sender = self._addresses(header, b"from")
        return b"(%b %b %b %b %b %b %b %b %b %b)" % (
            nstring(header.first(b"date")),
            nstring(header.first(b"subject")),
            sender,
            self._addresses(header, b"sender", sender),
            self._addresses(header, b"reply-to", sender),
            self._addresses(header, b"to"),
            self._addresses(header, b"cc"),
            self._addresses(header, b"bcc"),
            nstring(header.first(b"in-reply-to")),
            nstring(header.first(b"message-id")),
        )

    def _addresses(self, header: Header, name: bytes, otherwise: bytes = b"NIL") -> bytes:
        body = header.joined(name)
        if not body:
            return otherwise
        found = parse_addresses(body, octets=self.addresses_left)
        self.addresses_left = max(0, self.addresses_left - len(body))
        return b"(%b)" % b"".join([_address(spec) for spec in found]) if found else otherwise

    def structure(self, scan: Scan) -> bytes:
        """One walk in the order of the message; `pending` holds what is to follow each part with parts inside."""
        pieces: list[bytes] = []
        pending: list[tuple[int, bytes]] = []  # (index of the last part inside, octets after it)
        for index, part in enumerate(scan.tree):
            header = scan.headers[index]
            kind = scan.types[index]
            if kind.value == "text" and not header.has_any(_DESCRIBING_FIELDS):  # nearly all parts with a text
                pieces.append(_plain_text(part, kind))
                tail = b""
            elif part.is_multipart:
                pieces.append(b"(")
                tail = b" %b %b%b)" % (_text(kind.subvalue), _parameters(kind), _extension(header))
            else:
                pieces.append(_fields(part, header, kind))
                tail = b" %b%b)" % (_words(header, b"content-md5"), _extension(header))
                if part.is_message:
                    pieces.append(b" %b " % self.envelope(scan.headers[index + 1]))
                    tail = b" %d%b" % (part.lines, tail)
                elif kind.value == "text":
                    tail = b" %d%b" % (part.lines, tail)
            pending.append((index + part.below, tail))
            while pending and pending[-1][0] == index:
                pieces.append(pending.pop()[1])
        return b"".join(pieces)


def _address(spec: MailboxSpec) -> bytes:
    name, route, local, domain = spec
    if route is None and local and domain and is_plain(b"%b@%b%b" % (local, domain, name or b"")):
        if name is None:
            return b'(NIL NIL "%b" "%b")' % (local, domain)
        return b'("%b" NIL "%b" "%b")' % (name, local, domain)
    return b"(%b %b %b %b)" % (nstring(name), nstring(route), nstring(local), nstring(domain))


@lru_cache(maxsize=512)
def _short_text(text: str) -> bytes:
    return string(text.encode("latin-1"))


def _text(text: str) -> bytes:
    """A word of a media type or a parameter's name: most mail has the same few."""
    return _short_text(text) if len(text) <= _SHORT else string(text.encode("latin-1"))


def _plain_text(part: Part, kind: Parameterised) -> bytes:
    """A text of whose fields only the type and the encoding are there."""
    return b'("text" %b %b NIL NIL %b %d %d NIL NIL NIL NIL)' % (
        _text(kind.subvalue),
        _parameters(kind),
        _text(part.encoding),
        part.end - part.body,
        part.lines,
    )


def _fields(part: Part, header: Header, kind: Parameterised) -> bytes:
    """RFC 3501 9 body-fields with the media type before them, after an opening parenthesis."""
    return b"(%b %b %b %b %b %b %d" % (
        _text(kind.value),
        _text(kind.subvalue),
        _parameters(kind),
        _words(header, b"content-id", b" "),
        nstring(header.first(b"content-description")),
        _text(part.encoding),
        part.end - part.body,
    )


def _words(header: Header, name: bytes, between: bytes = b"") -> bytes:
    """A value without comments; folded within, as long URIs are (RFC 2557 4.4.1), it is put together again."""
    body = header.first(name)
    return b"NIL" if body is None else string(between.join(words(body)))


def _parameters(kind: Parameterised) -> bytes:
    if not kind.parameters:
        return b"NIL"
    return b"(%b)" % b" ".join([b"%b %b" % (_text(name), string(value)) for name, value in kind.parameters])


def _extension(header: Header) -> bytes:
    """Disposition, language and location, each after a space."""
    if not header.has_any(_EXTENSION_FIELDS):
        return b" NIL NIL NIL"
    disposition = parse(header.first(b"content-disposition") or b"")
    written = b"NIL" if disposition is None else b"(%b %b)" % (_text(disposition.value), _parameters(disposition))
    return b" %b %b %b" % (written, _language(header), _words(header, b"content-location"))


def _language(header: Header) -> bytes:
    body = header.first(b"content-language")
    if body is None:
        return b"NIL"
    tags = _LANGUAGE.findall(without_comments(body))
    return b"(%b)" % b" ".join(map(string, tags)) if tags else b"NIL"


def without_extensions(structure: bytes) -> bytes:
    """BODY, the answer without extension data, from a BODYSTRUCTURE that `bodystructure` wrote."""
    return _Shortener(structure).run()


class _Shortener:
    """Keeps the stretches between the extension data."""

    def __init__(self, structure: bytes) -> None:
        self.structure = structure
        self.kept: list[bytes] = []
        self.start = 0  # of the stretch that is being kept
        self.position = 0

    def run(self) -> bytes:
        outer: list[bool] = []  # for each body around this one: whether it is a multipart
        while True:
            self.position += 1
            if self._at(b"("):
                outer.append(True)  # a multipart, and here begins its first child
                continue
            if self._basic():
                outer.append(False)
                continue
            self._cut()
            while outer and not (outer[-1] and self._at(b"(")):
                outer.pop()
                self._element()  # a multipart's subtype, a message's number of lines
                self._cut()
            if not outer:
                self.kept.append(self.structure[self.start :])
                return b"".join(self.kept)

    def _basic(self) -> bool:
        """Pass over what a body that is no multipart begins with; whether a body follows in it."""
        kind = self._element(), self._element()
        for _ in range(5):  # parameters, id, description, encoding, size
            self._element()
        if kind[0] == b'"text"':
            self._element()
        if kind != (b'"message"', b' "rfc822"'):
            return False
        self._element()  # the envelope
        self.position += 1
        return True

    def _cut(self) -> None:
        """Leave out the extension data, up to the body's closing parenthesis."""
        self.kept.append(self.structure[self.start : self.position])
        while not self._at(b")"):
            self._element()
        self.start = self.position
        self.position += 1

    def _at(self, octet: bytes) -> bool:
        return self.structure.startswith(octet, self.position)

    def _element(self) -> bytes:
        """Pass over one string, number, NIL or list, and the space before it."""
        start = self.position
        depth = 0
        while True:
            token = _ELEMENT.match(self.structure, self.position)
            if token is None:
                raise ValueError("not a BODYSTRUCTURE")
            self.position = token.end() + int(token[1] or 0)
            depth += (token[2] == b"(") - (token[2] == b")")
            if not depth:
                return self.structure[start : self.position]
