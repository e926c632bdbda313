"""Plugin files as modules of `twisted.plugins`: each is run by its own source, and anew when that has changed.

Compiled files (`.pyc`) and `dropin.cache` are neither read nor written. What has run is the process's, as `sys.modules`
is, so there is one `MODULES`.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import importlib
import importlib.util
import linecache
import marshal
import os
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from mailhub.keys import Key

LOAD_SECONDS = Key("limits", "plugin_load_seconds", 30, 1, 3600)  # for all files that are run at one time

PACKAGE = "twisted.plugins"
SIZE_LIMIT = 4 << 20  # octets of one file
_STARTED = time.time()


def read(path: Path) -> bytes:
    """The source in a file. Raises OSError whose `strerror` says why there is none."""
    # Opening a pipe would wait for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        source = file.read(SIZE_LIMIT + 1)
    if len(source) > SIZE_LIMIT:
        raise OSError(errno.EFBIG, f"it is larger than {SIZE_LIMIT >> 20} MiB", str(path))
    return source


@attrs.frozen(eq=False)
class Run:
    """A file that has run: its module, the digest of the source, and the names that it imports, wherever in it."""

    name: str  # that it was imported by, whatever the file calls itself
    path: Path
    module: ModuleType
    digest: bytes
    imports: frozenset[str]


def _run(name: str, module: ModuleType, path: Path, source: bytes) -> Run:
    return Run(name, path, module, hashlib.sha256(source).digest(), _imports(source, name, path))


def _imports(source: bytes, name: str, path: Path) -> frozenset[str]:
    """Every name that may be a module, in full."""
    tree = ast.parse(source)
    names: set[str] = set()
    inside = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            with suppress(ImportError):
                base = importlib.util.resolve_name(relative, inside)
                names.add(base)
                names.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(names)


class _Loader(SourceFileLoader):
    """Compiles the source that is there now, and tells `MODULES` what has run."""

    _source = b""

    def get_data(self, path: str) -> bytes:
        """See `importlib.abc.ResourceLoader`."""
        return read(Path(path))

    def get_code(self, fullname: str) -> Any:
        """See `importlib.abc.InspectLoader`."""
        self._source = self.get_data(self.path)
        return compile(self._source, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`."""
        linecache.checkcache(self.path)
        with MODULES.at(Path(self.path)):
            super().exec_module(module)
        MODULES.has_run(_run(self.name, module, Path(self.path), self._source))


@attrs.frozen(eq=False)
class _Saved:
    """The modules of plugin files at one time."""

    runs: Mapping[str, Run]
    files: Mapping[str, Path]
    modules: Mapping[str, ModuleType]


@attrs.define(eq=False)
class Modules:
    """What has run, by name, and where the files of names are. A finder of `sys.meta_path`."""

    runs: dict[str, Run] = attrs.field(factory=dict)
    running: list[Path] = attrs.field(factory=list)  # one inside the other
    noted: Callable[[Path | None], object] = attrs.field(default=lambda path: None)  # the innermost, when it changes
    _files: dict[str, Path] = attrs.field(factory=dict)
    _outside: dict[Path, tuple[int, int]] = attrs.field(factory=dict)  # first seen: time (nanoseconds) and octets

    # --- For the import system -------------------------------------------------------------------------------------

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        package = name.rpartition(".")[0]
        if package == PACKAGE:
            file = self._files.get(name)
            if file is None:
                return None
            inside = [str(file.parent)] if file.name == "__init__.py" else None
            return importlib.util.spec_from_file_location(
                name, file, loader=_Loader(name, str(file)), submodule_search_locations=inside
            )
        if isinstance(getattr(sys.modules.get(package), "__loader__", None), _Loader):
            for folder in path or ():
                spec = FileFinder(folder, (_Loader, [".py"])).find_spec(name)
                if spec is not None and spec.loader is not None:
                    return spec
        return None

    def has_run(self, run: Run) -> None:
        """Keep what a file has become."""
        self.runs[run.name] = run
        for path in self._imported(run):
            with suppress(OSError):
                self._outside.setdefault(path, _stamp(path))

    @contextmanager
    def at(self, path: Path) -> Iterator[None]:
        """Inside, what runs is of this file."""
        self.running.append(path)
        self.noted(path)
        try:
            yield
        finally:
            self.running.pop()
            self.noted(self.running[-1] if self.running else None)

    def _imported(self, run: Run) -> Iterator[Path]:
        """Files of modules that are not ours."""
        for name in run.imports:
            file = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(file, str) and file and name not in self.runs and name not in self._files:
                yield Path(file)

    # --- For who looks for plugins ---------------------------------------------------------------------------------

    def place(self, files: Mapping[str, Path]) -> None:
        """These may be imported, by the names of their modules."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        importlib.invalidate_caches()
        self._files = {name: path for name, path in self._files.items() if path.is_file()} | dict(files)

    def waiting(self, files: Mapping[str, Path], again: Collection[str] | None = None) -> set[str]:
        """Which of these `load` would run."""
        stale = self._stale(files, again)
        return {name for name in files if name in stale or not self._has(name)}

    def load(self, files: Mapping[str, Path], again: Collection[str] | None = None) -> dict[str, BaseException]:
        """Have every one of these files, by the names of their modules, run as it is now: those that have not, those
        that have changed, and those that import such. With `again`, others than these and what they import stay as they
        are though they have changed. What was raised, by name. A name that did not run is no module.
        """
        self.place(files)
        self._drop(self._stale(files, again))
        imported = {name for name in files if name in sys.modules and not self._has(name)}
        others = {name for name in imported if not self._adopt(name, files[name])}
        self._drop(self._with_users(others))
        errors: dict[str, BaseException] = {}
        for name in files:
            if self._has(name):
                continue
            self._drop({name})
            try:
                importlib.import_module(name)
                if name not in self.runs:
                    raise ImportError("it leaves no module")
            except BaseException as error:  # what a file raises is no reason to end: SystemExit, KeyboardInterrupt
                errors[name] = error
                self._drop({name})
        return errors

    def _drop(self, names: Collection[str]) -> None:
        """They have not run, nor has what lies in them."""
        for name in names:
            self.runs.pop(name, None)
            for inner in [one for one in sys.modules if one.startswith(f"{name}.")]:
                self.runs.pop(inner, None)
                _put(inner, None)
            _put(name, None)

    def _has(self, name: str) -> bool:
        return name in self.runs and sys.modules.get(name) is self.runs[name].module

    def _stale(self, files: Mapping[str, Path], again: Collection[str] | None) -> set[str]:
        looked_at = self.runs.keys() if again is None else self._reached(again, files)
        return self._with_users(
            {
                name
                for name, run in self.runs.items()
                if not self._has(name) or (name in looked_at and self._changed(name, run, files))
            }
        )

    def _reached(self, again: Collection[str], files: Mapping[str, Path]) -> set[str]:
        """These and what they import of ours, as they have run and as they are now, and so on."""
        reached: set[str] = set()
        waiting = set(again)
        while waiting:
            name = waiting.pop()
            reached.add(name)
            run = self.runs.get(name)
            imports = set(run.imports) if run is not None else set()
            path = files.get(name) or self._files.get(name) or (run.path if run is not None else None)
            if path is not None:
                with suppress(OSError, ValueError, SyntaxError, RecursionError, MemoryError):
                    imports |= _imports(read(path), name, path)
            imports |= {inner for inner in self.runs if inner.startswith(f"{name}.")}
            waiting |= {one for one in imports if one in self.runs or one in files or one in self._files} - reached
        return reached

    def _with_users(self, stale: set[str]) -> set[str]:
        """And those that import such."""
        while more := {name for name in self.runs.keys() - stale if any(self._uses(name, old) for old in stale)}:
            stale |= more
        return stale

    @staticmethod
    def _changed(name: str, run: Run, files: Mapping[str, Path]) -> bool:
        if files.get(name, run.path) != run.path:
            return True
        try:
            return hashlib.sha256(read(run.path)).digest() != run.digest
        except OSError:
            return True

    def _uses(self, name: str, other: str) -> bool:
        """Whether one imports the other, or lies in it."""
        return other in self.runs[name].imports or name.startswith(f"{other}.")

    def _adopt(self, name: str, path: Path) -> bool:
        """Take over a module that twistd has imported when it looked for its commands, if it is what the source says:
        some files, such as those that register something, cannot run twice."""
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None)
        if module is None or spec is None or spec.origin is None or Path(spec.origin).resolve() != path.resolve():
            return False
        if isinstance(spec.loader, _Loader) or getattr(spec, "_initializing", False) or path.name == "__init__.py":
            return False
        try:
            source = read(path)
            if not _made_of(source, path, spec.cached):
                return False
            self.has_run(_run(name, module, path, source))
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
            return False
        return True

    def edited(self) -> list[Path]:
        """Files that are not any more what has run."""
        return [run.path for name, run in self.runs.items() if self._changed(name, run, {})]

    def changed_outside(self) -> list[Path]:
        """Files that plugin files import from elsewhere, and that are not what they were: they do not run again."""
        changed = []
        for path in {path for run in self.runs.values() for path in self._imported(run)} & self._outside.keys():
            with suppress(OSError):  # being installed anew
                if _stamp(path) != self._outside[path]:
                    changed.append(path)
        return sorted(changed)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever is raised inside, all is as it was then: new files have not run."""
        saved = self._save()
        try:
            yield
        except BaseException:
            self._restore(saved)
            raise

    def _save(self) -> _Saved:
        return _Saved(dict(self.runs), dict(self._files), dict(_plugin_modules()))

    def _restore(self, saved: _Saved) -> None:
        for name in {name for name, _ in _plugin_modules()} - saved.modules.keys():
            _put(name, None)
        for name, module in saved.modules.items():
            _put(name, module)
        self.runs, self._files = dict(saved.runs), dict(saved.files)


def _plugin_modules() -> list[tuple[str, ModuleType]]:
    return [(name, module) for name, module in list(sys.modules.items()) if name.startswith(f"{PACKAGE}.")]


def _put(name: str, module: ModuleType | None) -> None:
    """Have a name of `sys.modules` be this module, in its package, too; None: no module."""
    package, _, tail = name.rpartition(".")
    holder = sys.modules.get(package)
    if module is not None:
        sys.modules[name] = module
        if holder is not None:
            setattr(holder, tail, module)
    else:
        sys.modules.pop(name, None)
        if holder is not None:
            vars(holder).pop(tail, None)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _made_of(source: bytes, path: Path, cached: str | None) -> bool:
    """Whether what was imported came of this source: of a compiled file that is equal, or of the source itself when
    this process began."""
    with suppress(OSError, TypeError):
        compiled = Path(cached or "").read_bytes()[16:]  # behind its header
        try:
            return bool(marshal.loads(compiled) == compile(source, str(path), "exec", dont_inherit=True))
        except (EOFError, ValueError, TypeError):
            return False
    return path.stat().st_mtime < _STARTED


MODULES = Modules()
