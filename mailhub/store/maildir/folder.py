"""One folder of a Maildir, which other programs read and write at the same time. All of it blocks.

They move files from new to cur and rename them when flags change, at any moment: a file is looked for again, under the
name that it has now, whenever it is not where it was. A message is only taken for gone when it is missing twice, the
second time in directories at rest, for one that is read while a file in it is renamed may show neither name.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs

from mailhub.errors import MessageDamaged, MessageGone, StoreUnavailable
from mailhub.message import flags as flag_names
from mailhub.message.flags import NO_FLAGS, Flags
from mailhub.store.maildir import keywords, names
from mailhub.store.maildir.directories import Directories, opened
from mailhub.store.maildir.line_ends import Counted, with_crlf, with_lf
from mailhub.store.maildir.manner import SETTLED_NS, Manner, write_all
from mailhub.store.mirror.source import Key, Listed, Read

T = TypeVar("T")

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)  # of file systems without hard links

MESSAGES = 1_000_000  # in a folder
MEANINGS = 1000  # different sets of letters that are remembered
READ_SECONDS = 2.0  # for what is read with one call
LEFT_SECONDS = 36 * 3600  # after which a file in tmp was left by a delivery that was broken off
SWEEP_SECONDS = 3600.0
AGAIN = 5  # times a message is looked for that others are moving
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.define
class Place:
    """Where a message is now: `new` or `cur`, and the names of its file, of which there are several by hard links."""

    directory: str
    file: str
    links: list[tuple[str, str]] = attrs.field(factory=list)


@attrs.frozen
class Met:
    """What was found out about a file when it was first met. `size` None: it has to be read to know."""

    date: int
    size: int | None
    order: tuple[int, int, str]


class Folder:
    """`path` of the folder; `link` says whether that may be a link, as the Maildir's own may."""

    def __init__(self, path: Path, manner: Manner, *, link: bool = False) -> None:
        self.path = path
        self._manner = manner
        self._link = link
        self._places: dict[str, Place] = {}
        self._met: dict[str, Met] = {}
        self._told: dict[str, Flags] = {}  # flags that the mirror knows of
        self._keywords: list[str] = [""] * keywords.NUMBER
        self._meaning: dict[str, Flags] = {}  # of letters
        self._listed: tuple[Listed, ...] = ()
        self._stamp: object = None
        self._swept = float("-inf")

    def weight(self) -> int:
        """Messages that are known."""
        return len(self._places)

    # --- listing -----------------------------------------------------------------------------------------------------

    def listing(self) -> tuple[Listed, ...]:
        """All messages in the order in which they came; the very object of before when nothing is new. Raises
        OSError."""
        with opened(self.path, self._manner, link=self._link) as directories:
            stamp = self._look(directories)
            if stamp is not None and stamp == self._stamp:
                return self._listed
            self._scan(directories)
            self._take_keywords(keywords.read(self.path))
            self._sweep(directories)
            self._stamp = stamp
        listed = tuple(
            sorted(
                (
                    Listed(base, self._flags(place.file), self._met[base].date, self._met[base].size)
                    for base, place in self._places.items()
                    if base in self._met
                ),
                key=lambda each: self._met[str(each.key)].order,
            )
        )
        self._told = {str(each.key): each.flags or NO_FLAGS for each in listed}
        if listed != self._listed:
            self._listed = listed
        return self._listed

    def _look(self, directories: Directories) -> object:
        """What changes when files come, go, or are renamed; None where that could have happened a moment ago."""
        states = [os.fstat(directories[name]) for name in ("new", "cur")]
        with suppress(FileNotFoundError):
            states.append(os.lstat(self.path / keywords.FILE))
        if any(time.time_ns() - state.st_mtime_ns < SETTLED_NS for state in states):
            return None
        return tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)

    def _take_keywords(self, found: list[str]) -> None:
        if found != self._keywords:
            self._keywords = found
            self._meaning.clear()

    def _flags(self, file: str) -> Flags:
        letters = names.parse(file).letters
        flags = self._meaning.get(letters)
        if flags is None:
            flags = names.flags_of(letters, self._keywords)
            if len(self._meaning) < MEANINGS:
                self._meaning[letters] = flags
        return flags

    def _scan(self, directories: Directories) -> None:
        """Find all files anew. What is missing, or not known yet, is looked for again."""
        places: dict[str, Place] = {}
        for turn in range(AGAIN):
            before = self._times(directories)
            places |= self._read(directories)
            at_rest = turn and self._times(directories) == before
            if at_rest or (self._places and all(base in places for base in self._places)):
                break
        self._places = places
        self._met = {base: met for base, met in self._met.items() if base in places}
        for base in places:
            if base not in self._met:
                self._meet(directories, base)

    @staticmethod
    def _times(directories: Directories) -> Sequence[int]:
        return [os.fstat(directories[name]).st_mtime_ns for name in ("new", "cur")]

    def _read(self, directories: Directories) -> dict[str, Place]:
        places: dict[str, Place] = {}
        for directory in ("new", "cur"):
            with os.scandir(directories[directory]) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if not entry.is_file(follow_symlinks=False):
                        self._not_served(directory, entry.name, "is no file")
                    elif len(places) >= MESSAGES:
                        self._manner.say(str(self.path), f"has more than {MESSAGES} messages: the others are left out")
                        return places
                    else:
                        self._take(directories, places, directory, entry.name)
        return places

    def _take(self, directories: Directories, places: dict[str, Place], directory: str, file: str) -> None:
        base = names.parse(file).base
        other = places.get(base)
        if other is None:
            places[base] = Place(directory, file)
            return
        try:
            one = os.stat(other.file, dir_fd=directories[other.directory], follow_symlinks=False)
        except FileNotFoundError:
            places[base] = Place(directory, file)  # it was renamed while the directories were read
            return
        try:
            two = os.stat(file, dir_fd=directories[directory], follow_symlinks=False)
        except FileNotFoundError:
            return
        if (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino):
            # On its way from one to the other; which of the two is about to go only that program knows.
            places[base] = Place(directory, file, [*other.links, (other.directory, other.file)])
            return
        fresh = self._manner.unique()
        self._not_served(directory, file, f"is another message of a name that is taken, and is called {fresh} now")
        info = file.partition(":")[2]
        try:
            os.rename(
                file,
                renamed := f"{fresh}:{info}" if info else fresh,
                src_dir_fd=directories[directory],
                dst_dir_fd=directories[directory],
            )
        except FileNotFoundError:
            return
        places[fresh] = Place(directory, renamed)

    def _meet(self, directories: Directories, base: str) -> None:
        for _ in range(AGAIN):
            place = self._places[base]
            try:
                state = os.stat(place.file, dir_fd=directories[place.directory], follow_symlinks=False)
                break
            except FileNotFoundError:
                self._places |= self._read(directories)  # it was renamed a moment ago
        else:
            return
        if state.st_size > self._manner.size_limit:
            self._not_served(place.directory, place.file, f"has {state.st_size} octets, which are too many")
            return
        parsed = names.parse(place.file)
        told = parsed.attributes
        size = told.get("W")
        if size is not None and (told.get("S", state.st_size) != state.st_size or not self._fits(size, state.st_size)):
            size = None
        self._met[base] = Met(max(0, int(state.st_mtime)), size, parsed.order)

    @staticmethod
    def _fits(size: int, in_file: int) -> bool:
        """Whether so many octets can have come of so many."""
        return in_file <= size <= 2 * in_file

    def _not_served(self, directory: str, file: str, why: str) -> None:
        self._manner.say(str(self.path / directory / file), why)

    def _sweep(self, directories: Directories) -> None:
        """Remove what deliveries of long ago have left in tmp, ours and others'."""
        if time.monotonic() - self._swept < SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        with suppress(OSError), os.scandir(directories["tmp"]) as entries:
            for entry in entries:
                state = entry.stat(follow_symlinks=False)
                last = max(state.st_atime, state.st_mtime, state.st_ctime)
                if stat.S_ISREG(state.st_mode) and time.time() - last > LEFT_SECONDS:
                    with suppress(OSError):
                        os.unlink(entry.name, dir_fd=directories["tmp"])

    # --- reading -----------------------------------------------------------------------------------------------------

    def _tried(self, directories: Directories, base: str, action: Callable[[Place], T]) -> T:
        """Do something with a message's file, wherever others have moved it. Raises MessageGone, OSError."""
        misses = 0
        for _ in range(AGAIN):
            place = self._places.get(base)
            if place is not None:
                with suppress(FileNotFoundError):
                    return action(place)
            self._scan(directories)
            misses += base not in self._places
            if misses > 1:
                break
        raise MessageGone

    def _open(self, directories: Directories, base: str) -> tuple[int, int, bool]:
        """A descriptor for a message's file, its size, and whether it is to be read as it is. Raises MessageGone,
        MessageDamaged, OSError."""

        def action(place: Place) -> tuple[int, int, bool]:
            descriptor = os.open(place.file, _READ, dir_fd=directories[place.directory])
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode) or state.st_size > self._manner.size_limit:
                os.close(descriptor)
                raise MessageDamaged(detail=f"{self.path / place.directory / place.file}: cannot be served")
            told = names.parse(place.file).attributes
            return descriptor, state.st_size, told.get("S") == told.get("W") == state.st_size

        return self._tried(directories, base, action)

    def read(self, bases: Sequence[Key], octets: int) -> Read:
        """See `ISource.read`. Raises OSError where nothing can be read."""
        found: dict[Key, bytes | Exception] = {}
        until = time.monotonic() + READ_SECONDS
        with opened(self.path, self._manner, link=self._link) as directories:
            for base in bases:
                try:
                    found[base] = self._octets(directories, str(base))
                    octets -= len(found[base])  # type: ignore[arg-type]
                except (MessageGone, MessageDamaged) as error:
                    found[base] = error
                except OSError as error:
                    found[base] = StoreUnavailable(detail=str(error))
                if octets < 0 or time.monotonic() > until:
                    break
        return found

    def _octets(self, directories: Directories, base: str) -> bytes:
        descriptor, _, exact = self._open(directories, base)
        with open(descriptor, "rb") as file:
            octets = file.read(self._manner.size_limit)
        return octets if exact else b"".join(with_crlf([octets]))

    def open(self, base: str) -> tuple[int, int, bool]:
        """A descriptor for a message's file, its size, and whether it is to be read as it is. Raises MessageGone,
        OSError."""
        with opened(self.path, self._manner, link=self._link) as directories:
            return self._open(directories, base)

    # --- changing ----------------------------------------------------------------------------------------------------

    def add(self, blocks: Sequence[bytes] | Iterable[bytes], counted: Counted, flags: Flags, date: int) -> str:
        """A new message; durable on return. Raises OSError, TooManyKeywords."""
        letters = self._letters(flags)
        directory = "cur" if letters else "new"
        with opened(self.path, self._manner, link=self._link) as directories:
            draft = self._write(directories["tmp"], blocks, counted, date)
            try:
                for _ in range(AGAIN):
                    base = f"{self._manner.unique()},S={counted.lf_size},W={counted.size}"
                    file = names.file_name(base, letters) if letters else base
                    with suppress(FileExistsError):
                        self._name(draft, file, directories["tmp"], directories[directory])
                        break
                else:
                    raise StoreUnavailable(detail=f"{self.path / directory / file} is there already")
            except BaseException:
                with suppress(OSError):
                    os.unlink(draft, dir_fd=directories["tmp"])
                raise
            self._manner.synchronise(directories[directory])
        self._places[base] = Place(directory, file)
        self._met[base] = Met(date, counted.size, names.parse(base).order)
        self._told[base] = flags
        return base

    def _write(self, tmp: int, blocks: Iterable[bytes], counted: Counted, date: int) -> str:
        draft = self._manner.unique()
        descriptor = os.open(draft, _CREATE, self._manner.mode, dir_fd=tmp)
        try:
            try:
                os.fchmod(descriptor, self._manner.mode)
                for block in with_lf(blocks) if counted.plain else blocks:
                    write_all(descriptor, block)
                # The time of last access keeps other programs from taking it for one that was left behind.
                os.utime(descriptor, (time.time(), date))
                self._manner.synchronise(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft, dir_fd=tmp)
            raise
        return draft

    @staticmethod
    def _name(draft: str, file: str, tmp: int, directory: int) -> None:
        """Not by renaming, which would put it in the place of a file that has the name. Raises FileExistsError."""
        try:
            os.link(draft, file, src_dir_fd=tmp, dst_dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.rename(draft, file, src_dir_fd=tmp, dst_dir_fd=directory)
        else:
            with suppress(OSError):
                os.unlink(draft, dir_fd=tmp)

    def _letters(self, flags: Flags) -> str:
        known = "".join(filter(None, map(names.letter_of, flags)))
        mine = keywords.letters(self._keywords, flags)
        if mine is None:
            in_use = {letter for place in self._places.values() for letter in names.parse(place.file).letters}
            self._take_keywords(keywords.assign(self.path, flags, in_use, self._manner))
            mine = keywords.letters(self._keywords, flags)
        return known + (mine or "")

    def change(self, wanted: Mapping[Key, Flags]) -> Mapping[Key, Exception]:
        """Give messages these flags: what others have changed since the folder was listed stays. Raises OSError,
        TooManyKeywords."""
        errors: dict[Key, Exception] = {}
        with opened(self.path, self._manner, link=self._link) as directories:
            for base, flags in wanted.items():
                try:
                    self._change(directories, str(base), flags)
                except MessageGone:
                    pass  # the next look tells who is gone
                except OSError as error:
                    errors[base] = StoreUnavailable(detail=str(error))
            directories.synchronise()
        return errors

    def _change(self, directories: Directories, base: str, wanted: Flags) -> None:
        def action(place: Place) -> None:
            now = self._flags(place.file)
            told = self._told.get(base, now)
            flags = flag_names.union(
                flag_names.difference(now, flag_names.difference(told, wanted)), flag_names.difference(wanted, told)
            )
            letters = names.parse(place.file).letters
            unknown = [letter for letter in letters if not names.flags_of(letter, self._keywords)]
            file = names.file_name(base, [*self._letters(flags), *unknown])
            if flags != now and (place.directory, place.file) != ("cur", file):
                os.rename(place.file, file, src_dir_fd=directories[place.directory], dst_dir_fd=directories["cur"])
                self._places[base] = Place("cur", file, place.links)
            self._told[base] = wanted

        self._tried(directories, base, action)

    def remove(self, bases: Sequence[Key]) -> tuple[Mapping[Key, Exception], int, int]:
        """See `ISource.remove`; returns octets and messages that went, too. Raises OSError."""
        errors: dict[Key, Exception] = {}
        octets = messages = 0
        with opened(self.path, self._manner, link=self._link) as directories:
            for base in bases:
                try:
                    octets += self._tried(directories, str(base), partial(self._unlink, directories))
                    messages += 1
                except MessageGone:
                    pass
                except OSError as error:
                    errors[base] = StoreUnavailable(detail=str(error))
                    continue
                for table in (self._places, self._met, self._told):
                    table.pop(str(base), None)
            directories.synchronise()
        return errors, octets, messages

    @staticmethod
    def _unlink(directories: Directories, place: Place) -> int:
        size = os.stat(place.file, dir_fd=directories[place.directory], follow_symlinks=False).st_size
        os.unlink(place.file, dir_fd=directories[place.directory])
        for directory, file in place.links:
            with suppress(FileNotFoundError):
                os.unlink(file, dir_fd=directories[directory])
        return size
