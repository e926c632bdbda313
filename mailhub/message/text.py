"""The text of a message, decoded piece by piece: for SEARCH (RFC 3501 6.4.4) and for a preview."""

from __future__ import annotations

import binascii
import re
import unicodedata

from mailhub.message.charset import codec_name, incremental_decoder
from mailhub.message.encoded_word import BASE64, NOT_BASE64, decode_base64

_HOLD_ASCII = frozenset({None, "ascii", "utf_8", "cp1252"})  # codecs; None where there is no charset
_ESCAPE = 0x1B  # what is in no charset may be in ISO-2022-JP
_LONG_LINE = 4096  # octets without a line end that are held back
_FOOTER = re.compile(rb"\n(?:--|__)")
_FOOTER_STARTS = (b"\n", b"\n-", b"\n_")
# White space before a line end or the end; a run of it is looked at only from its first octet.
_BEFORE_LINE_END = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")


class TextDecoder:
    """The text of a leaf whose octets come in pieces: transfer encoding (RFC 2045 6) undone, then the charset.

    Never fails: mistakes in either become replacement characters or are passed over. What is held back between two
    pieces is at most a line, and that bounded.
    """

    def __init__(self, encoding: str, charset: str) -> None:
        """Both names in lower case, as the part tree has them."""
        self._transfer = _TRANSFER.get(encoding, _Identity)()
        self._charset = incremental_decoder(charset)

    def feed(self, octets: bytes) -> str:
        """The text that is certain with these octets."""
        return self._charset.decode(self._transfer.feed(octets))

    def finish(self) -> str:
        """The text that is left when no more octets come."""
        return self._charset.decode(self._transfer.finish(), True)


def ascii_text(octets: bytes, encoding: str, charset: str) -> str | None:
    """The text of octets that are ASCII and mean it: in no transfer encoding, and in a charset that holds ASCII. None
    for any other, for which there is `TextDecoder`."""
    if encoding in _TRANSFER or not octets.isascii() or codec_name(charset) not in _HOLD_ASCII:
        return None
    return None if octets.find(_ESCAPE) >= 0 else octets.decode("ascii")


class _Identity:
    def feed(self, octets: bytes) -> bytes:
        return octets

    def finish(self) -> bytes:
        return b""


class _Base64:
    """Up to the first padding in groups. After it whole lines of base64 are another piece, which some senders put
    there; anything else (a list's footer) is the end. Without padding a line of dashes is (`-- `, `____`)."""

    def __init__(self) -> None:
        self.rest = b""  # less than a group, or after padding a line that has not ended
        self.held = b""  # what may become the beginning of a line of dashes; none of it is base64
        self.padded = False
        self.ended = False

    def feed(self, octets: bytes) -> bytes:
        if self.padded:
            return self._more(octets)
        octets = self.held + octets
        self.held = next((start for start in _FOOTER_STARTS if octets.endswith(start)), b"")
        padding = octets.find(b"=")
        if footer := _FOOTER.search(octets, 0, padding if padding >= 0 else len(octets)):
            self.padded = self.ended = True
            first, self.rest = decode_base64(self.rest + octets[: footer.start()]), b""
            return first
        if padding >= 0:
            self.padded = True
            first, self.rest = decode_base64(self.rest + octets[:padding]), b""
            return first + self._more(octets[padding:])
        kept = self.rest + octets.translate(None, NOT_BASE64)
        whole = len(kept) // 4 * 4
        self.rest = kept[whole:]
        return binascii.a2b_base64(kept[:whole])

    def finish(self) -> bytes:
        return self._more(b"\n") if self.padded else decode_base64(self.rest)

    def _more(self, octets: bytes) -> bytes:
        found = []
        *lines, self.rest = (self.rest + octets).split(b"\n")
        if len(self.rest) > _LONG_LINE:
            cut = self.rest.rfind(b"=") + 1 or _LONG_LINE
            lines.append(self.rest[:cut])
            self.rest = self.rest[cut:]
        for line in lines:
            line = line.strip()
            *padded, last = line.split(b"=")
            self.ended = self.ended or bool(line.translate(None, BASE64)) or len(last) % 4 != 0
            if self.ended:
                self.rest = b""
                break
            found += [decode_base64(block) for block in (*padded, last) if block]
        return b"".join(found)


class _QuotedPrintable:
    """Line by line; a line that is too long to hold back is cut where no escape is.

    White space at the end of a line is none of it, so that a soft line break may have some after it (RFC 2045 6.7).
    """

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, octets: bytes) -> bytes:
        octets = self.rest + octets
        cut = octets.rfind(b"\n") + 1
        if len(octets) - cut > _LONG_LINE:
            escape = octets.rfind(b"=", len(octets) - _LONG_LINE)
            cut = len(octets) if escape < 0 else escape
        self.rest = octets[cut:]
        return self._decoded(octets[:cut])

    def finish(self) -> bytes:
        return self._decoded(self.rest)

    def _decoded(self, octets: bytes) -> bytes:
        return binascii.a2b_qp(_BEFORE_LINE_END.sub(b"", octets))


_TRANSFER: dict[str, type[_Identity] | type[_Base64] | type[_QuotedPrintable]] = {
    "base64": _Base64,
    "quoted-printable": _QuotedPrintable,
}


def fold(text: str) -> str:
    """The form in which text is compared: without case, compatibility characters taken apart (in RFC 5051's spirit)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
