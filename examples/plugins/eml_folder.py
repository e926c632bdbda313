"""Mail as files, PATH/USER/FOLDER/*.eml: other programs may add files and remove them. Flags are kept by mailhub."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from uuid import uuid4

from attrs import frozen

from mailhub.api import Component, Flags, NotPermitted, SimpleStore


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
        return [folder.name for folder in self.options.path.glob("*@*/")]

    def folders(self, user: str) -> set[str]:
        top = self._path(user)
        return {"INBOX", *(str(folder.relative_to(top)) for folder in top.rglob("*/"))}

    def messages(self, user: str, folder: str) -> list[str]:
        return sorted(file.name for file in self._path(user, folder).glob("*.eml"))

    def read(self, user: str, folder: str, key: str) -> bytes:
        octets = self._path(user, folder, key).read_bytes()
        added = b"\r" in octets or key.endswith("+.eml")
        return octets if added else octets.replace(b"\n", b"\r\n")  # as Unix programs write it

    def add(self, user: str, folder: str, octets: bytes, flags: Flags, date: int) -> str:
        path = self._path(user, folder, f"{date:010}-{uuid4()}+.eml")
        path.parent.mkdir(exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".tmp") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
            os.link(file.name, path)  # has its name when it is whole; the temporary one goes, whatever happens
        self._sync(path.parent, path.parent.parent)
        return path.name

    def remove(self, user: str, folder: str, key: str) -> None:
        path = self._path(user, folder, key)
        path.unlink()
        self._sync(path.parent)

    def _sync(self, *folders: Path) -> None:
        for descriptor in [os.open(folder, os.O_RDONLY) for folder in folders]:
            os.fsync(descriptor)
            os.close(descriptor)


eml_folder = Component("store", "eml-folder", EmlFolder, FolderOptions)
