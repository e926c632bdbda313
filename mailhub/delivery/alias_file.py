"""The router "aliases-file": a table of aliases of another server, read as it is and again when it changes.

It stands in the list of routers where its aliases are to count, mostly behind "aliases".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from zope.interface import implementer

from mailhub.delivery.routing import NOBODY, is_known, renamed
from mailhub.errors import ConfigurationError, MailError, NoSuchUser, TemporaryError
from mailhub.interfaces import (
    Environment,
    ILocalNames,
    IMailStore,
    IRouter,
    ITransactionView,
    IUserDirectory,
    Route,
)
from mailhub.log import Logger
from mailhub.message.address import Address, fold_local, is_postmaster
from mailhub.message.alias_files import FILE_LIMIT, Entry, Format, in_domain, read_table
from mailhub.message.aliases import PatternAlias, is_pattern

_log = Logger(namespace="mailhub.delivery.routing")

LOOK_SECONDS = 1.0  # how seldom it is asked whether a file has changed

ALIASES_FILE = "aliases-file"  # the router's name
DISCARD = "discard"  # the agent that takes what nobody is to get

Stamp = tuple[int, int, int]


@attrs.frozen
class AliasFileOptions:
    """`format`: `aliases` (/etc/aliases), `virtual` or `regexp` (tables of Postfix)."""

    file: Path
    format: Format = "aliases"


@attrs.frozen
class _Loaded:
    """A file as it was read. `files` are that and all it includes, as they were then; None is one that is not there."""

    named: Mapping[str, Entry]
    patterns: Sequence[PatternAlias]
    files: Mapping[Path, Stamp | None]


@implementer(IRouter)
class AliasFileRouter:
    """See above. Where a changed file has a mistake, the log names its line and the table of before stays in use."""

    def __init__(
        self,
        options: AliasFileOptions,
        names: ILocalNames,
        store: IMailStore,
        environment: Environment,
        directories: IUserDirectory = NOBODY,
    ) -> None:
        """Raises ConfigurationError for a file that cannot be read, or has a mistake."""
        self._options = options
        self._names = names
        self._store = store
        self._environment = environment
        self._directories = directories
        self._loaded = _load(options)
        self._looked = environment.clock.seconds()
        self._refused: Mapping[Path, Stamp | None] | None = None

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """The targets, to be routed themselves. Raises NoSuchUser and TemporaryError where the file says so."""
        domain = recipient.ascii_domain
        if domain not in self._names.domains:
            return None
        await self._refresh()
        if entry := self._entry(recipient):
            return _routes(entry, recipient)
        plain = [each for each, _ in self._names.without_detail(recipient)]
        for each in plain:
            entry = self._entry(each)
            if entry and not await is_known(recipient.key, self._store, self._directories):
                return _routes(entry, recipient, (each.key,))
        return await self._of_others(recipient, [recipient, *plain])

    def _entry(self, address: Address) -> Entry | None:
        return self._loaded.named.get(address.key) or self._loaded.named.get(fold_local(address.local))

    async def _of_others(self, recipient: Address, spellings: Sequence[Address]) -> Sequence[Route] | None:
        """By patterns and catch-alls: for whom nobody else knows, wherever in the list this router stands."""
        everybody = self._loaded.named.get(f"@{recipient.ascii_domain}") or self._loaded.named.get("@")
        if is_postmaster(recipient) or not (everybody or self._loaded.patterns):
            return None
        for each in spellings:
            if self._names.aliases.named(each) or await is_known(each.key, self._store, self._directories):
                return None
        for pattern in self._loaded.patterns:
            if targets := pattern.named(recipient):
                return renamed(recipient, targets)
        return _routes(everybody, recipient) if everybody else None

    async def _refresh(self) -> None:
        now = self._environment.clock.seconds()
        if 0 <= now - self._looked < LOOK_SECONDS:
            return
        self._looked = now  # who asks meanwhile goes on with what is known
        try:
            stamps = await self._environment.threads.run(_stamps, self._loaded.files)
            if stamps in (self._loaded.files, self._refused):
                return
            self._loaded = await self._environment.threads.run(_load, self._options)
            self._refused = None
            _log.info("aliases are read again: file={file}", file=str(self._options.file))
        except ConfigurationError as error:
            self._refused = stamps
            _log.error("aliases are not read again, those of before stay in use: {error:text}", error=str(error))
        except MailError as error:
            _log.warn("aliases cannot be looked at: file={file} ({error:text})", file=self._options.file, error=error)


def _routes(entry: Entry, recipient: Address, via: tuple[str, ...] = ()) -> Sequence[Route]:
    if entry.answer == "fail":
        raise NoSuchUser(entry.text)
    if entry.answer == "defer":
        raise TemporaryError(entry.text)
    if entry.answer == "discard":
        return (Route(DISCARD, recipient),)
    if entry.targets[0].startswith("@"):
        return renamed(recipient, [attrs.evolve(recipient, domain=entry.targets[0][1:])], via)
    return renamed(recipient, [Address.parse(text) for text in in_domain(entry.targets, recipient.ascii_domain)], via)


def _load(options: AliasFileOptions) -> _Loaded:
    """Raises ConfigurationError with the lines that are wrong."""
    files: dict[Path, Stamp | None] = {options.file: None}

    def read(path: str | Path) -> bytes:
        files[Path(path)] = _stamp(Path(path))
        with Path(path).open("rb") as stream:
            return stream.read(FILE_LIMIT + 1)

    try:
        octets = read(options.file)
    except OSError as error:
        raise ConfigurationError(f"{options.file}: cannot be read: {error.strerror}") from None
    table = read_table(octets, options.format, read)
    if table.faults:
        raise ConfigurationError(f"{options.file}: {'; '.join(map(str, table.faults[:5]))}")
    return _Loaded(
        {_key(entry.name): entry for entry in table.entries if not is_pattern(entry.name)},
        [PatternAlias.parse(entry.name, entry.targets) for entry in table.entries if is_pattern(entry.name)],
        files,
    )


def _key(name: str) -> str:
    """As it is looked up: a bare local part without its quotes."""
    if name.startswith('"') and name.endswith('"'):
        return Address.parse(f"{name}@x").local
    return name


def _stamps(files: Mapping[Path, Stamp | None]) -> dict[Path, Stamp | None]:
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
