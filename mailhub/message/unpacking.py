"""Reports that others have packed: gzip and zip, and never more of what is in them than there is room for."""

from __future__ import annotations

import io
import zipfile
import zlib

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_FILES_LIMIT = 100  # in one archive
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others little can become much before anybody has looked
# What zipfile has been seen to raise for nonsense.
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, IndexError)


def unpacked(octets: bytes, limit: int) -> bytes:
    """The one file in it, or itself where it is not packed. Raises ValueError where that is more than `limit` octets,
    or cannot be unpacked."""
    if octets.startswith(_GZIP):
        octets = _of_gzip(octets, limit)
    elif octets.startswith(_ZIP):
        octets = _of_zip(octets, limit)
    if len(octets) > limit:
        raise ValueError("too large")
    return octets


def is_packed(octets: bytes) -> bool:
    """Whether it begins as something does that can be unpacked."""
    return octets.startswith((_GZIP, _ZIP))


def _of_gzip(octets: bytes, limit: int) -> bytes:
    """All members of it (RFC 1952 2.2); what follows them is passed over."""
    found: list[bytes] = []
    left = limit + 1
    while octets.startswith(_GZIP) and left > 0:
        member = zlib.decompressobj(wbits=31)
        try:
            found.append(member.decompress(octets, left))
        except zlib.error as error:
            raise ValueError(f"cannot be unpacked: {error}") from None
        left -= len(found[-1])
        octets = member.unused_data
        if len(found) > _FILES_LIMIT:
            raise ValueError("has too many parts")
    return b"".join(found)


def _of_zip(octets: bytes, limit: int) -> bytes:
    """The first that is called .xml or .json, or else the first."""
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            files = [each for each in archive.infolist() if not each.is_dir()][:_FILES_LIMIT]
            named = [each for each in files if each.filename.lower().endswith((".xml", ".json"))]
            if not files:
                raise ValueError("has nothing in it")
            chosen = (named or files)[0]
            if chosen.compress_type not in _METHODS:
                raise ValueError("is packed in an unusual way")
            with archive.open(chosen) as file:
                return file.read(limit + 1)
    except _FAULTS as error:
        raise ValueError(f"cannot be unpacked: {error}") from None
