"""The text of a message, decoded piece by piece: for SEARCH (RFC 3501 6.4.4) and for a preview."""

from __future__ import annotations

import binascii
import unicodedata

from mailhub.message.charset import incremental_decoder
from mailhub.message.encoded_word import NOT_BASE64, decode_base64

_LONG_LINE = 4096  # octets without a line end that are held back


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


class _Identity:
    def feed(self, octets: bytes) -> bytes:
        return octets

    def finish(self) -> bytes:
        return b""


class _Base64:
    """Up to the first padding: what follows it belongs to nothing."""

    def __init__(self) -> None:
        self.rest = b""
        self.ended = False

    def feed(self, octets: bytes) -> bytes:
        if self.ended:
            return b""
        kept = self.rest + octets.translate(None, NOT_BASE64)
        if b"=" in kept:
            self.ended = True
            self.rest = b""
            return decode_base64(kept)
        whole = len(kept) // 4 * 4
        self.rest = kept[whole:]
        return binascii.a2b_base64(kept[:whole])

    def finish(self) -> bytes:
        return decode_base64(self.rest)


class _QuotedPrintable:
    """Line by line; a line that is too long to hold back is cut where no escape is."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, octets: bytes) -> bytes:
        octets = self.rest + octets
        cut = octets.rfind(b"\n") + 1
        if len(octets) - cut > _LONG_LINE:
            escape = octets.rfind(b"=", len(octets) - _LONG_LINE)
            cut = len(octets) if escape < 0 else escape
        self.rest = octets[cut:]
        return binascii.a2b_qp(octets[:cut])

    def finish(self) -> bytes:
        return binascii.a2b_qp(self.rest)


_TRANSFER: dict[str, type[_Identity] | type[_Base64] | type[_QuotedPrintable]] = {
    "base64": _Base64,
    "quoted-printable": _QuotedPrintable,
}


def fold(text: str) -> str:
    """The form in which text is compared: without case, compatibility characters taken apart (in RFC 5051's spirit)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
