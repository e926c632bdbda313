"""A git history: each commit is a message with its patch, each branch a folder; INBOX is the one checked out."""

import re
from pathlib import Path
from subprocess import PIPE, Popen, run

from attrs import frozen

from mailhub.api import Component, Message, MessageGone, SimpleStore

LARGEST = 10_000_000  # octets; patches that are longer end there


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

    def users(self) -> tuple[str, ...]:
        return self.options.users

    def folders(self, user: str) -> list[str]:
        return ["INBOX", *self._git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")]

    def messages(self, user: str, folder: str) -> list[Message]:
        start = "HEAD" if folder == "INBOX" else f"refs/heads/{folder}"
        lines = self._git("log", "--reverse", "--format=%H %ct", start, "--")
        return [Message(line.split()[0], date=int(line.split()[1])) for line in lines]

    def read(self, user: str, folder: str, key: str) -> bytes:
        show = [
            "show",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--format=email",
            "--stat",
            "--patch",
            key,
            "--",
        ]
        with Popen(["git", "-C", self.options.path, "-c", "log.showSignature=no", *show], stdout=PIPE) as process:
            assert process.stdout is not None
            _, octets = process.stdout.readline(), process.stdout.read(LARGEST)  # the first line is that of an mbox
            process.kill()
        if not octets:
            raise MessageGone
        return re.sub(rb"\r?\n", b"\r\n", b"Message-ID: <%s@git>\n" % key.encode() + octets)


git_store = Component("store", "git", GitStore, GitOptions)
