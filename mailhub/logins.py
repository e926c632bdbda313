"""Who may log in, and who there is: the checkers and directories of [auth]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.cred.checkers import ICredentialsChecker

from mailhub import plugin_faults
from mailhub.auth.checkers import AccountsChecker, not_of_passwords
from mailhub.auth.directories import Directories, DirectoryLimits, GuardedDirectory, directory_of
from mailhub.checker_strings import CheckerStrings, load_strings
from mailhub.component_guards import guard_of
from mailhub.threads import FewThreads

if TYPE_CHECKING:
    from mailhub.components import Hub
    from mailhub.guard import Guard
    from mailhub.plugins import Catalogue


def checkers(hub: Hub, catalogue: Catalogue) -> list[ICredentialsChecker]:
    """[auth] checkers, in order. Raises ConfigurationError."""
    return [_checker(hub, catalogue, name) for name in hub.settings.auth.checkers]


def _checker(hub: Hub, catalogue: Catalogue, name: str) -> ICredentialsChecker:
    """A component; or what `twisted.cred.strcred` makes of a string such as `file:/etc/mail-passwords`."""
    config = hub.settings
    place = config.place("auth", "checkers")
    kind, colon, argument = name.partition(":")
    known = ("checker", name) in config.parts or name in catalogue.names("checker")
    strings = CheckerStrings({}) if known else load_strings(config.plugins)
    made: ICredentialsChecker
    if not known and (colon or kind in strings.factories):
        made = strings.made(place, kind, argument)
    else:
        made = catalogue.build(config.part("checker", name, place), hub)
    if fault := not_of_passwords(made):
        file = plugin_faults.source(made)
        raise place.error(f"{type(made).__name__} cannot check passwords: {fault} ({kind!r}, {file})")
    return made


def checker_guards(hub: Hub, catalogue: Catalogue, found: Sequence[ICredentialsChecker]) -> list[Guard]:
    config = hub.settings
    place, guards = config.place("auth", "checkers"), []
    for name, made in zip(config.auth.checkers, found, strict=True):
        if ("checker", name) in config.parts or name in catalogue.names("checker"):
            guards.append(guard_of(hub, catalogue, config.part("checker", name, place)))
        else:
            # What follows the colon may be a secret.
            file = plugin_faults.source(made)
            guards.append(hub.guards.make("checker", name.partition(":")[0], file))
    return guards


def directories(hub: Hub, catalogue: Catalogue, found: Sequence[ICredentialsChecker]) -> Directories:
    """[auth] directories, in order, and behind them the checkers that can tell."""
    config, asked = hub.settings, []
    complete = config.auth.users_known_elsewhere is None
    place = config.place("auth", "directories")
    for name in config.auth.directories:
        part = config.part("directory", name, place)
        asked.append(GuardedDirectory(catalogue.build(part, hub), guard_of(hub, catalogue, part)))
    for name, checker in zip(config.auth.checkers, found, strict=True):
        if isinstance(checker, AccountsChecker) and hub.store is hub.database.store:
            continue  # the store has told
        directory = directory_of(checker, FewThreads(hub.environment.threads, f"checker {name}"))
        complete = complete and directory is not None
        if directory is not None:
            guard = _directory_guard(hub, name, checker)
            asked.append(GuardedDirectory(directory, guard))
    limits = config.of(DirectoryLimits)
    return Directories(asked, hub.store, hub.environment.clock, limits, complete=complete)


def _directory_guard(hub: Hub, name: str, checker: ICredentialsChecker) -> Guard:
    """Of a checker that is asked who there is: its own, for what fails here need not fail at logins."""
    config = hub.settings
    part = config.part("checker", name, config.place("auth", "checkers"))
    word = name.partition(":")[0]  # what follows may be a secret
    if word in config.auth.directories:
        word = f"checker {word}"
    return hub.guards.make("directory", word, plugin_faults.source(checker), part.guard.timeout_seconds)
