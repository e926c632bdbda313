"""Checkers by a string of `twisted.cred.strcred`, such as `file:/etc/mail-passwords`: anybody's plugins that make them.

Their files are found and run as mailhub's plugin files are, so that `dropin.cache` counts for them as little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.strcred import ICheckerFactory
from twisted.plugin import IPlugin

from mailhub import plugin_faults
from mailhub.config.reader import Place
from mailhub.plugin_files import find
from mailhub.plugin_modules import MODULES

_WORD = b"ICheckerFactory"  # what their files speak of


@attrs.frozen
class CheckerStrings:
    """The plugins, by the word that their strings begin with, and a line for each file that could not be run."""

    factories: Mapping[str, Any]
    broken: tuple[str, ...] = ()

    def made(self, place: Place, kind: str, argument: str) -> ICredentialsChecker:
        """The checker of one string. What follows its colon may be a secret, which is not told. Raises
        ConfigurationError."""
        if kind not in self.factories:
            broken = "".join(f"; not loaded: {line}" for line in self.broken)
            known = ", ".join(sorted(self.factories))
            raise place.error(f"no plugin makes checkers of {kind!r} strings; known: {known}{broken}")
        factory = self.factories[kind]
        if kind == "file":
            argument = str(place.folder / argument)
            if not Path(argument).is_file():
                raise place.error(f"there is no file {argument}")
        try:
            made: ICredentialsChecker = factory.generateChecker(argument)
        except BaseException as error:
            raise place.error(f"{kind!r}: {error or type(error).__name__}") from None
        if fault := plugin_faults.component_fault("checker", made):
            raise place.error(f"{kind!r} ({plugin_faults.source(factory)}): {fault}")
        if isinstance(made, InMemoryUsernamePasswordDatabaseDontUse):
            # strcred fills it with text, but credentials are octets: nobody could log in (Twisted 26.10).
            made.users = {_octets(user): _octets(password) for user, password in made.users.items()}
        return made


def load_strings(folders: Iterable[Path] = ()) -> CheckerStrings:
    """Run the files in every `twisted/plugins/` folder on the path, and in `folders`, that speak of such plugins."""
    files = find(folders, _WORD).files
    errors = MODULES.load(files, files.keys())
    found: dict[str, Any] = {}
    broken = [f"{files[name]}: {type(error).__name__}: {error}" for name, error in errors.items()]
    for name in files.keys() - errors.keys():
        for factory in list(vars(MODULES.runs[name].module).values()):
            if _is_factory(factory):
                found.setdefault(factory.authType, factory)
    return CheckerStrings(found, tuple(sorted(broken)))


def _is_factory(value: Any) -> bool:
    declared: tuple[Any, Any] = (IPlugin, ICheckerFactory)
    try:
        return all(interface.providedBy(value) for interface in declared) and isinstance(value.authType, str)
    except BaseException:
        return False  # what raises when it is looked at is none


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
