"""Octets to text by a charset name that a stranger chose (RFC 2978).

Python's own look-up is not used with such a name: it imports modules, remembers every failure for ever, and knows
codecs that are no charsets (zlib, punycode, unicode_escape). A fixed table maps the names that mail uses, and where the
WHATWG encoding standard has a name, to what it says: senders name the smaller charset and send the larger one.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Callable, Mapping
from encodings.aliases import aliases
from functools import lru_cache, partial
from typing import Protocol

_NAMES = """
    ascii big5hkscs cp037 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp857 cp858 cp860 cp861 cp862 cp863 cp864
    cp865 cp866 cp869 cp874 cp932 cp949 cp950 cp1125 cp1140 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257
    cp1258 euc_jis_2004 euc_jisx0213 euc_jp gb18030 hz iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext
    iso2022_kr iso8859_10 iso8859_13 iso8859_14 iso8859_15 iso8859_16 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6
    iso8859_7 iso8859_8 johab koi8_r koi8_t koi8_u kz1048 mac_croatian mac_cyrillic mac_greek mac_iceland mac_latin2
    mac_roman mac_romanian mac_turkish ptcp154 shift_jis_2004 shift_jisx0213 utf_16 utf_16_be utf_16_le utf_32_be
    utf_32_le utf_7 utf_8
"""
_CODECS = frozenset(_NAMES.split())
# What a charset is read as: the larger one that holds it (WHATWG encoding 4.2).
_LARGER = {
    "latin_1": "cp1252", "iso8859_9": "cp1254", "iso8859_11": "cp874", "tis_620": "cp874", "gb2312": "gb18030",
    "gbk": "gb18030", "euc_kr": "cp949", "big5": "big5hkscs", "shift_jis": "cp932", "iso2022_jp": "iso2022_jp_ext",
    "iso2022_jp_1": "iso2022_jp_ext", "utf_8_sig": "utf_8", "utf_32": "utf_32_le",
}  # fmt: skip
# Names that are neither Python's nor made of letters and a code page's number, by what they are read as.
_MORE = {
    "ascii": "us usascii iso646us",
    "utf_8": "unicode11utf8 unicode20utf8 xunicode20utf8 utf8mb3 utf8mb4 utf8n",
    "utf_7": "unicode11utf7 unicode20utf7 csunicode11utf7",
    "utf_16": "unicode csunicode iso10646ucs2 ucs2 unicodefeff",
    "utf_16_be": "unicodefffe",
    "utf_32_le": "iso10646ucs4 ucs4",
    "iso8859_6": "csiso88596e csiso88596i iso88596e iso88596i",
    "iso8859_7": "suneugreek",
    "iso8859_8": "csiso88598e csiso88598i iso88598e iso88598i logical visual",
    "iso8859_15": "csisolatin9",
    "koi8_r": "koi koi8",
    "koi8_u": "koi8ru",
    "mac_roman": "csmacintosh mac",
    "mac_cyrillic": "macukrainian macukraine",
    "mac_latin2": "macce",
    "mac_iceland": "macicelandic",
    "gb18030": "csgb2312 gb cngb gb180302005 gb180302022",
    "big5hkscs": "cnbig5 xbig5 big5eten big5hkscs2004",
    "euc_jp": "cseucpkdfmtjapanese eucjpms",
    "cp932": "windows31j cswindows31j shiftjisx xshiftjis",
    "iso2022_jp_ext": "iso2022jpms xwindowsiso2022jp",
    "cp949": "cseuckr csksc56011987 isoir149 ksc56011989",
}
# Code pages of Windows that have a name of their own (the numbers of .NET and of HTML from Office).
_PAGES = {
    367: "ascii", 813: "iso8859_7", 819: "cp1252", 912: "iso8859_2", 923: "iso8859_15", 936: "gb18030", 943: "cp932",
    951: "big5hkscs", 970: "cp949", 1200: "utf_16_le", 1201: "utf_16_be", 1361: "johab", 1381: "gb18030",
    1386: "gb18030", 10000: "mac_roman", 10006: "mac_greek", 10007: "mac_cyrillic", 10029: "mac_latin2",
    10079: "mac_iceland", 10081: "mac_turkish", 10082: "mac_croatian", 12000: "utf_32_le", 12001: "utf_32_be",
    20127: "ascii", 20866: "koi8_r", 20932: "euc_jp", 20936: "gb18030", 20949: "cp949", 21866: "koi8_u",
    50220: "iso2022_jp_ext", 50221: "iso2022_jp_ext", 50222: "iso2022_jp_ext", 50225: "iso2022_kr", 51932: "euc_jp",
    51936: "gb18030", 51949: "cp949", 52936: "hz", 54936: "gb18030", 65000: "utf_7", 65001: "utf_8",
    38598: "iso8859_8", 874: "cp874", 931: "cp932",
    28591: "cp1252", 28599: "cp1254", 28601: "cp874", **{28590 + n: f"iso8859_{n}" for n in (*range(2, 9), 13, 15)},
}  # fmt: skip
_JIS_SHIFT = b"\x1b$"  # old Japanese mail has it without saying so
_NAME_LIMIT = 60  # characters that are looked at
_NOT_IN_KEY = re.compile(r"[^a-z0-9]+")
_PAGE = re.compile(
    r"x?(?:cp|ccsid|codepage|csibm|dos|ibm|ms|msdos|oem|win|windows|windowscp)?0*([1-9]\d{2,4})(?:\+euro)?"
)


def _key(name: str) -> str:
    """Names differ in case, hyphens and underscores, and in what mistaken senders put around them (`'utf-8';`)."""
    return _NOT_IN_KEY.sub("", name.lower())


def _table() -> dict[str, str]:
    known = {name: _LARGER.get(codec, codec) for name, codec in aliases.items()}
    known |= {codec: codec for codec in _CODECS} | _LARGER
    known |= {name: codec for codec, names in _MORE.items() for name in names.split()}
    found = {_key(name): codec for name, codec in known.items() if codec in _CODECS}
    return found | {name.replace("iso8859", "8859"): codec for name, codec in found.items()}


_BY_KEY = _table()


def codec_name(charset: str) -> str | None:
    """The name of Python's codec for a charset name in any case, None for an unknown one."""
    return _codec(charset[:_NAME_LIMIT])


@lru_cache(maxsize=512)
def _codec(charset: str) -> str | None:
    key = _key(charset)
    if codec := _BY_KEY.get(key):
        return codec
    if page := _PAGE.fullmatch(key):
        number = int(page[1])
        codec = _PAGES.get(number) or f"cp{number}"
        return codec if codec in _CODECS else None
    return _BY_KEY.get(key.lstrip("x")) if key.startswith("x") else None


def decode(octets: bytes, charset: str = "") -> str:
    """The text of `octets`. Never fails: without a usable charset they are UTF-8, or ISO-2022-JP if they have its
    shifts, or else Windows-1252."""
    codec = _declared(charset) if charset else None
    if codec == "utf_8":
        return octets.decode("utf-8", "replace")
    if codec is not None:
        return incremental_decoder(charset).decode(octets, True)
    if octets.find(_JIS_SHIFT) >= 0 and octets.isascii():
        return incremental_decoder("iso-2022-jp").decode(octets, True)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


class Decoder(Protocol):
    """What `incremental_decoder` gives."""

    def decode(self, octets: bytes, final: bool = False) -> str:
        """The text that is certain with these octets."""


def incremental_decoder(charset: str) -> Decoder:
    """`decode` for octets that come in pieces."""
    codec = _declared(charset)
    if codec is None:
        return _Guess()
    if special := _SPECIAL.get(codec):
        return special()
    return codecs.getincrementaldecoder(codec)("replace")


class _Guess:
    """UTF-8 up to the first mistake, Windows-1252 from the piece on in which that is; ISO-2022-JP from its first shift
    on in a piece of ASCII."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf_8")()
        self._other: Decoder | None = None

    def decode(self, octets: bytes, final: bool = False) -> str:
        if self._other is None and _JIS_SHIFT in octets and octets.isascii():
            self._other = incremental_decoder("iso-2022-jp")
        if self._other is not None:
            return self._other.decode(octets, final)
        held = self._decoder.getstate()[0]
        try:
            return self._decoder.decode(octets, final)
        except UnicodeDecodeError:
            self._decoder = codecs.getincrementaldecoder("cp1252")("replace")
            return self._decoder.decode(held + octets, final)


def _declared(charset: str) -> str | None:
    """The codec that is to be believed: none for what is no charset, or the one that says nothing."""
    codec = codec_name(charset)
    return None if codec == "ascii" else codec


# --- What Python's codecs do otherwise than mail needs it ------------------------------------------------------------


class _Utf16:
    """The byte order is what a mark says; without one that in which the first zeros stand where Latin text has them."""

    _LOOKED_AT = 64  # octets

    def __init__(self) -> None:
        self._start = b""
        self._decoder: Decoder | None = None

    def decode(self, octets: bytes, final: bool = False) -> str:
        if self._decoder is None:
            self._start += octets
            if len(self._start) < self._LOOKED_AT and not final:
                return ""
            octets, self._start = self._start, b""
            big = octets.startswith(b"\xfe\xff") or (
                not octets.startswith(b"\xff\xfe")
                and octets[0 : self._LOOKED_AT : 2].count(0) > octets[1 : self._LOOKED_AT : 2].count(0)
            )
            octets = octets[2:] if octets[:2] in (b"\xfe\xff", b"\xff\xfe") else octets
            self._decoder = codecs.getincrementaldecoder("utf_16_be" if big else "utf_16_le")("replace")
        return self._decoder.decode(octets, final)


class _Utf7:
    """RFC 2152. Python's own decoder holds a shifted run back until it ends, however long that is."""

    _RUN = re.compile(r"\+([A-Za-z0-9+/]*)(-?)")

    def __init__(self) -> None:
        self._held = ""  # the end of a run that may go on, with its "+"
        self._high = b""  # the first half of a pair before that

    def decode(self, octets: bytes, final: bool = False) -> str:
        text = self._held + octets.decode("ascii", "replace")
        self._held = ""
        end = len(text)

        def characters(run: re.Match[str]) -> str:
            digits = run[1]
            goes_on = run.end() == end and not run[2] and not final
            if goes_on:
                whole = max(0, len(digits) - 1) // 8 * 8  # a group of eight holds three units
                self._held = "+" + digits[whole:]
                digits = digits[:whole]
            elif not digits:
                return "+"
            units = binascii.a2b_base64(digits + "A" * (-len(digits) % 4))[: len(digits) * 6 // 16 * 2]
            units, self._high = self._high + units, b""
            if goes_on and 0xD8 <= (units[-2] if units else 0) <= 0xDB:
                units, self._high = units[:-2], units[-2:]
            return units.decode("utf_16_be", "replace")

        return self._RUN.sub(characters, text)


class _Repaired:
    """A codec whose mistakes are repaired where there are few: each costs a call."""

    _FEW = 2000  # mistakes of one piece

    def __init__(self, codec: str, errors: str, signs: Mapping[int, int] | None = None) -> None:
        """`errors`: the handler's name. `signs`: characters that are to be others."""
        self._decoder = codecs.getincrementaldecoder(codec)("replace")
        self._errors = errors
        self._signs = signs

    def decode(self, octets: bytes, final: bool = False) -> str:
        decoder = self._decoder
        state = decoder.getstate()
        text = decoder.decode(octets, final)
        if 0 < text.count("\ufffd") <= self._FEW:
            decoder.setstate(state)
            decoder.errors = self._errors
            text = decoder.decode(octets, final)
            decoder.errors = "replace"
        return text if self._signs is None or text.isascii() else text.translate(self._signs)


def _repair_jis(error: UnicodeError) -> tuple[str, int]:
    """Two octets of EUC-JP or ISO-2022-JP that Python's tables lack, by way of Windows-31J.

    In ISO-2022-JP katakana of one octet, which some write without a shift, are taken as well.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    pair = error.object[error.start : error.start + 2]
    if pair[0] >= 0x80 and error.encoding.startswith("iso2022"):
        return (pair[:1].decode("cp932") if 0xA1 <= pair[0] <= 0xDF else "\ufffd"), error.start + 1
    row, cell = pair[0] & 0x7F, pair[-1] & 0x7F
    if len(pair) == 2 and 0x21 <= row <= 0x7E and 0x21 <= cell <= 0x7E:
        lead = ((row + 1) >> 1) + (0x70 if row < 0x5F else 0xB0)
        trail = cell + 0x7E if row % 2 == 0 else cell + (0x1F if cell < 0x60 else 0x20)
        text = bytes((lead, trail)).decode("cp932", "replace")
        if "\ufffd" not in text:
            return text, error.start + 2
    return "\ufffd", error.start + 1


def _repair_big5(error: UnicodeError) -> tuple[str, int]:
    """What Windows has beside the Hong Kong characters (the euro sign above all)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    text = error.object[error.start : error.start + 2].decode("cp950", "replace")
    return (text, error.start + 2) if len(text) == 1 and text != "\ufffd" else ("\ufffd", error.start + 1)


def _repair_gbk(error: UnicodeError) -> tuple[str, int]:
    """0x80 is the euro sign (WHATWG encoding 10.1.1)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return ("\u20ac" if error.object[error.start] == 0x80 else "\ufffd"), error.start + 1


def _repair_hebrew(error: UnicodeError) -> tuple[str, int]:
    """A vowel point that windows-1255 has in the WHATWG's index."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return ("\u05ba" if error.object[error.start] == 0xCA else "\ufffd"), error.start + 1


codecs.register_error("mailhub.jis", _repair_jis)
codecs.register_error("mailhub.big5", _repair_big5)
codecs.register_error("mailhub.gbk", _repair_gbk)
codecs.register_error("mailhub.hebrew", _repair_hebrew)
# JIS X 0208 has rows of NEC and IBM that Python lacks, and these signs as Windows-31J and the WHATWG's index have them.
_SIGNS = str.maketrans("\u301c\u2016\u2212\xa2\xa3\xac", "\uff5e\u2225\uff0d\uffe0\uffe1\uffe2")
_BELARUSIAN = str.maketrans("\u255d\u256c", "\u045e\u040e")  # letters that KOI8-U has in the WHATWG's index alone
_SPECIAL: dict[str, Callable[[], Decoder]] = {
    "utf_16": _Utf16,
    "utf_7": _Utf7,
    "koi8_u": partial(_Repaired, "koi8_u", "replace", _BELARUSIAN),
    "cp1255": partial(_Repaired, "cp1255", "mailhub.hebrew"),
    "big5hkscs": partial(_Repaired, "big5hkscs", "mailhub.big5"),
    "gb18030": partial(_Repaired, "gb18030", "mailhub.gbk"),
    "euc_jp": partial(_Repaired, "euc_jp", "mailhub.jis", _SIGNS),
    "iso2022_jp_ext": partial(_Repaired, "iso2022_jp_ext", "mailhub.jis", _SIGNS),
    "iso2022_jp_2": partial(_Repaired, "iso2022_jp_2", "mailhub.jis", _SIGNS),
}
