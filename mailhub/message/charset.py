"""Octets to text by a charset name that a stranger chose (RFC 2978).

Python's own look-up is not used with such a name: it imports modules, remembers every failure for ever, and knows
codecs that are no charsets (zlib, punycode, unicode_escape). A fixed table maps the names that mail uses. UTF-7 is not
among them: its decoder holds back a shifted run until it ends, however long that is.
"""

from __future__ import annotations

import codecs
from encodings.aliases import aliases
from typing import Protocol

_NAMES = """
    ascii big5 big5hkscs cp037 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp857 cp858 cp860 cp861 cp862 cp863
    cp864 cp865 cp866 cp869 cp874 cp932 cp949 cp950 cp1125 cp1140 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256
    cp1257 cp1258 euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hz iso2022_jp iso2022_jp_1 iso2022_jp_2
    iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr iso8859_10 iso8859_11 iso8859_13 iso8859_14 iso8859_15
    iso8859_16 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9 johab koi8_r koi8_u
    kz1048 latin_1 mac_cyrillic mac_greek mac_iceland mac_latin2 mac_roman mac_turkish ptcp154 shift_jis
    shift_jis_2004 shift_jisx0213 tis_620 utf_16_be utf_16_le utf_32_be utf_32_le utf_8
    utf_8_sig
"""
_CODECS = frozenset(_NAMES.split())
# Senders name the smaller charset and send the larger one (as the WHATWG encoding standard observes).
_LARGER = {"latin_1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949"}
_MORE = {
    "x_gbk": "gb18030",
    "utf_16": "utf_16_le",  # Python's own refuses pieces without a byte order mark
    "utf_32": "utf_32_le",
    "x_sjis": "shift_jis",
    "x_mac_roman": "mac_roman",
    "windows_31j": "cp932",
    "windows_874": "cp874",
    "ks_c_5601_1987": "cp949",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_6_i": "iso8859_6",
}


def _table() -> dict[str, str]:
    names = {name: codec for name, codec in aliases.items() if codec in _CODECS}
    names |= {codec: codec for codec in _CODECS}
    names |= {name.replace("iso8859", "iso_8859"): codec for name, codec in names.items()}
    return {name: _LARGER.get(codec, codec) for name, codec in (names | _MORE).items()}


_BY_NAME = _table()


def codec_name(charset: str) -> str | None:
    """The name of Python's codec for a charset name in any case, None for an unknown one."""
    return _BY_NAME.get(charset.strip().lower().replace("-", "_").replace(".", "_"))


def decode(octets: bytes, charset: str = "") -> str:
    """The text of `octets`. Never fails: without a usable charset they are UTF-8, or else Windows-1252."""
    codec = _declared(charset)
    if codec is not None:
        return octets.decode(codec, "replace")
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
    return _Guess() if codec is None else codecs.getincrementaldecoder(codec)("replace")


class _Guess:
    """UTF-8 up to the first mistake, Windows-1252 from the piece on in which that is."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf_8")()

    def decode(self, octets: bytes, final: bool = False) -> str:
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
