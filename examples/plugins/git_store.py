"""A git history: each commit is a message with its patch, each branch a folder; INBOX is the one checked out."""

import os
import re
from functools import cached_property
from pathlib import Path
from subprocess import PIPE, Popen, run
from tempfile import TemporaryDirectory

from attrs import frozen

from mailhub.api import Component, Message, MessageGone, SimpleStore, StoreUnavailable

LARGEST = 10_000_000  # octets; patches that are longer end there
CONFIG = "[core]\nbare = true\nrepositoryFormatVersion = 1\n[extensions]\nobjectFormat = {}\n"
ALONE = {"PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}


@frozen
class GitOptions:
    path: Path
    users: tuple[str, ...]


class GitStore(SimpleStore):
    options: GitOptions
    keep_flags = True

    def _git(self, *words: str) -> list[str]:
        command = ["git", "-C", str(self.options.path), *words]
        return run(command, check=True, capture_output=True, text=True, timeout=20).stdout.splitlines()

    @cached_property
    def _objects(self) -> Path:
        return self.options.path.absolute() / self._git("rev-parse", "--git-path", "objects")[0]

    def users(self) -> tuple[str, ...]:
        return self.options.users

    def folders(self, user: str) -> list[str]:
        return ["INBOX", *self._git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")]

    def messages(self, user: str, folder: str) -> list[Message]:
        start = "HEAD" if folder == "INBOX" else f"refs/heads/{folder}"
        lines = [line.split() for line in self._git("rev-list", "--reverse", "--timestamp", start, "--")]
        return [Message(key, date=int(date)) for date, key in lines]

    def read(self, user: str, folder: str, key: str) -> bytes:
        with TemporaryDirectory() as bare:  # with these objects and nothing else, no settings either: they may change
            Path(bare, "refs").mkdir()
            Path(bare, "HEAD").write_text("ref: refs/heads/none")
            Path(bare, "config").write_text(CONFIG.format("sha256" if len(key) == 64 else "sha1"))
            places = {"HOME": bare, "GIT_DIR": bare, "GIT_OBJECT_DIRECTORY": str(self._objects)}
            show = ["git", "show", "--format=email", "--stat", "--patch", "--full-index", key, "--"]
            with Popen(show, stdout=PIPE, cwd=bare, env={**ALONE, **places}) as process:
                assert process.stdout is not None
                _, octets = process.stdout.readline(), process.stdout.read(LARGEST)  # the first line is that of an mbox
                failed = len(octets) < LARGEST and process.wait()
                process.kill()
        if failed and all(message.key != key for message in self.messages(user, folder)):
            raise MessageGone
        if failed:
            raise StoreUnavailable(detail=f"git show {key} ends with {failed}")
        return re.sub(rb"\r?\n", b"\r\n", b"Message-ID: <%s@git>\n" % key.encode() + octets)


git_store = Component("store", "git", GitStore, GitOptions)
