"""Where plugin files are: in every `twisted/plugins/` folder on the path, and in the folders that the configuration
names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

import twisted.plugins
from mailhub.plugin_modules import PACKAGE, read

FILES_LIMIT = 10_000  # names in one folder
_OTHERS = {"site-packages", "dist-packages"}  # where other programs put theirs


@attrs.frozen
class Found:
    """What lies in the folders: `files` are to be run, by the names of their modules; `hidden` are not, for a file that
    is another has their name (its path is the value); `faults` are lines about what is none."""

    files: dict[str, Path]
    hidden: dict[Path, Path]
    faults: tuple[str, ...]


def find(folders: Iterable[Path] = (), word: bytes = b"mailhub") -> Found:
    """Look into the folders on the path, and into these after them. The first of two files of one name counts. Where
    other programs put theirs, those count that speak of `word`."""
    names: dict[str, Path] = {}
    files: dict[str, Path] = {}
    hidden: dict[Path, Path] = {}
    faults: list[str] = []
    for folder in _folders(folders):
        try:
            found = sorted(_plugin_files(folder))
        except FileNotFoundError:
            continue  # most of the path has none
        except OSError as error:
            faults.append(f"{folder}: cannot be read: {error.strerror}")
            continue
        for path in found:
            name = path.parent.name if path.name == "__init__.py" else path.stem
            if not name.isidentifier():
                faults.append(f"{path}: is not run: a plugin file's name is letters, digits and _, without spaces or -")
            elif not _is_ours(path, word):
                names.setdefault(name, path)
            elif name in names:
                if not _equal(path, names[name]):
                    hidden[path] = names[name]
            else:
                names[name] = files[f"{PACKAGE}.{name}"] = path
    return Found(files, hidden, tuple(faults))


def _folders(folders: Iterable[Path]) -> Iterator[Path]:
    seen = set()
    for folder in (*map(Path, twisted.plugins.__path__), *folders):
        real = folder.resolve()
        if real not in seen:
            seen.add(real)
            yield folder.absolute()


def _plugin_files(folder: Path) -> Iterator[Path]:
    """Files and packages. Raises OSError."""
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number == FILES_LIMIT:
                raise OSError(0, f"there are more than {FILES_LIMIT} files in it")
            if entry.name.startswith((".", "__")):
                continue
            path = folder / entry.name
            if entry.name.endswith(".py"):
                yield path
            elif (path / "__init__.py").is_file():
                yield path / "__init__.py"


def _is_ours(path: Path, word: bytes) -> bool:
    """To run all that other programs put there would take a while. What cannot be read may be ours."""
    if not _OTHERS.intersection(path.parts) and path.parent != Path(str(twisted.plugins.__file__)).parent:
        return True
    try:
        return word in read(path)
    except OSError:
        return True


def _equal(one: Path, other: Path) -> bool:
    """A copy, as of an installed plugin whose source is at hand, too."""
    try:
        return read(one) == read(other)
    except OSError:
        return False
