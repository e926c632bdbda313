"""Mail as files, PATH/USER/FOLDER/*.eml: other programs may add files and remove them. Flags are kept by mailhub.

Each USER has an INBOX. Where it is not there, its disk is taken to be away: mail waits until it is back.
"""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NoReturn
from uuid import uuid4

from attrs import frozen

from mailhub.api import Component, Flags, NotPermitted, SimpleStore, StoreUnavailable


@frozen
class FolderOptions:
    path: Path


class EmlFolder(SimpleStore):
    options: FolderOptions

    def _path(self, *names: str) -> Path:
        parts = [part for name in names for part in name.split("/")]
        if {"", ".", ".."}.intersection(parts) or "\0" in "".join(parts):
            raise NotPermitted("There is no such name here")
        return self.options.path.joinpath(*parts)

    def users(self) -> list[str]:
        found = [each.name for each in os.scandir(self.options.path) if "@" in each.name and each.is_dir()]
        return found or _away(f"{self.options.path} has no users")

    def folders(self, user: str) -> list[str]:
        top = self._path(user)
        found = [Path(place, name) for place, names, _ in os.walk(top, onerror=_away) for name in names]
        names = sorted(str(folder.relative_to(top)) for folder in found)  # INBOX comes before Inbox, and is the one
        return names if "INBOX" in names else _away(f"{top} has no INBOX")

    def messages(self, user: str, folder: str) -> list[str]:
        return sorted(name for name in os.listdir(self._path(user, folder)) if name.endswith(".eml"))

    def read(self, user: str, folder: str, key: str) -> bytes:
        octets = self._path(user, folder, key).read_bytes()
        added = b"\r" in octets or key.endswith("+.eml")
        return octets if added else octets.replace(b"\n", b"\r\n")  # as Unix programs write it

    def add(self, user: str, folder: str, octets: bytes, flags: Flags, date: int) -> str:
        path = self._path(user, folder, f"{date:010}-{uuid4()}+.eml")
        with NamedTemporaryFile(dir=path.parent, suffix=".tmp") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
            os.link(file.name, path)  # has its name when it is whole; the temporary one goes, whatever happens
        self._sync(path.parent)
        return path.name

    def remove(self, user: str, folder: str, key: str) -> None:
        path = self._path(user, folder, key)
        path.unlink()
        self._sync(path.parent)

    def _sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _away(what: object) -> NoReturn:
    raise StoreUnavailable(detail=str(what))  # an empty list would mean that all is gone for good


eml_folder = Component("store", "eml-folder", EmlFolder, FolderOptions)
