"""What others have packed."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.unpacking import unpacked

TEXT = b"<feedback/>\n" * 20


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", method) as archive:
        for name, text in files:
            archive.writestr(name, text)
    return octets.getvalue()


def by_length(packed: bytes) -> str:
    """What is packed has the time in it, and tests are to have the same names in all their processes."""
    return str(len(packed))


@pytest.mark.parametrize(
    "packed",
    [
        TEXT,
        gzip.compress(TEXT),
        gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
        gzip.compress(TEXT) + b"\0\0\0",
        zipped(("a.example!b.example!1!2.xml", TEXT)),
        zipped(("readme.txt", b"x"), ("REPORT.XML", TEXT)),
        zipped(("noname", TEXT), method=zipfile.ZIP_STORED),
    ],
    ids=by_length,
)
def test_every_way_of_packing(packed: bytes) -> None:
    assert unpacked(packed, len(TEXT)) == TEXT
    with pytest.raises(ValueError, match="too large"):
        unpacked(packed, len(TEXT) - 1)


@pytest.mark.parametrize("packed", [gzip.compress(bytes(1 << 26), 9), zipped(("a.xml", bytes(1 << 26)))], ids=by_length)
def test_a_bomb_is_not_unpacked(packed: bytes) -> None:
    assert len(packed) < 100_000
    with pytest.raises(ValueError, match="too large"):
        unpacked(packed, 1 << 20)


def test_what_is_packed_twice_is_left_as_it_is() -> None:
    inner = gzip.compress(bytes(1 << 26))
    assert unpacked(gzip.compress(inner), 1 << 20) == inner


@pytest.mark.parametrize(
    "packed",
    [
        b"\x1f\x8b",
        b"\x1f\x8bnonsense",
        gzip.compress(TEXT)[:-30] + b"x" * 30,
        b"PK\x03\x04nonsense",
        zipped(),
        zipped(("a.xml", TEXT), method=zipfile.ZIP_BZIP2),
        zipped(("a.xml", TEXT), method=zipfile.ZIP_LZMA),
        zipped(("a.xml", TEXT)).replace(zlib.compress(TEXT)[2:-4], b"?" * len(zlib.compress(TEXT)[2:-4])),
        gzip.compress(b"") * 200,
    ],
    ids=by_length,
)
def test_nonsense(packed: bytes) -> None:
    if packed in (b"\x1f\x8b", zipped()):
        assert len(unpacked(packed, 100)) <= 22
        return
    with pytest.raises(ValueError, match=r"cannot be unpacked|too many|unusual"):
        unpacked(packed, 1 << 20)


@given(st.binary(max_size=300), st.sampled_from([b"\x1f\x8b\x08", b"PK\x03\x04", b""]), st.integers(0, 200))
def test_whatever_comes(octets: bytes, start: bytes, place: int) -> None:
    good = zipped(("a.xml", TEXT))
    for each in (start + octets, good[:place] + octets + good[place:]):
        try:
            assert len(unpacked(each, 1000)) <= 1000
        except ValueError:
            continue
