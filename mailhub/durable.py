"""A message on disk, for whoever answers for it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def keep(path: str | Path, octets: bytes) -> None:
    """Write a new file, whole and durable when this returns: by that name there is all of it or nothing, and nothing
    that is there is overwritten. It blocks; a receiver calls it in a thread.

    Raises FileExistsError, OSError.
    """
    path = Path(path)
    descriptor, beside = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        os.link(beside, path)
    finally:
        with suppress(OSError):
            os.unlink(beside)
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        # Whoever is told so has it again.
        with suppress(OSError):
            path.unlink()
        raise
