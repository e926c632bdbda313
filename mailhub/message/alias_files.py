"""Tables of aliases as other servers have them: `aliases(5)` of sendmail, and `virtual(5)` and `regexp_table(5)` of
Postfix.

What a line has that is not taken over is told with the line's number: nothing of a table is left out silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import attrs

from mailhub.message.address import Address, fold_local, parse_domain, parse_local, to_ascii
from mailhub.message.aliases import REGEX, PatternAlias

Format = Literal["aliases", "virtual", "regexp"]
FILE_LIMIT = 16 << 20  # octets
ENTRY_LIMIT = 200_000
FAULT_LIMIT = 100
TARGET_LIMIT = 10_000  # of one entry
_INCLUDES = 3  # in one another

Read = Callable[[str], bytes]
"""Gives the octets of an included file. Raises OSError."""

Answer = Literal["", "fail", "defer", "discard"]
_ANSWERS: dict[str, Answer] = {":fail:": "fail", ":defer:": "defer", ":blackhole:": "discard"}

# Words in quotes or angle brackets and anything else up to a comma.
_TARGET = re.compile(r'\s*((?:"(?:[^"\\]|\\.)*"|<[^>]*>|\\.|[^,"<\\])*)(?:,|$)', re.DOTALL)
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')
_NAME = re.compile(r"([^:\s]+)\s*:")
_PAIR = re.compile(r"\\(.)")
_REGEXP = re.compile(r"(!?)(\W)(.*)\2([a-zA-Z]*)\s+(.*)", re.DOTALL)
_GROUP = re.compile(r"\$(?:(\d)|\{(\d)\}|\((\d)\))|\$\$")


@attrs.frozen
class Entry:
    """One line of a table. `name` is an address, "@domain", a bare local part or `regex:` and a pattern; so are
    `targets`, where a bare one is in the domain of the name, and "@domain" means the same name in that domain. `answer`
    with its `text` stands instead of targets."""

    line: int
    name: str
    targets: tuple[str, ...] = ()
    answer: Answer = ""
    text: str = ""


@attrs.frozen
class Fault:
    """What cannot be taken over. `line` 0: the file as a whole."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@attrs.frozen
class Table:
    """What a file says. `domains` are those that a Postfix table declares."""

    entries: tuple[Entry, ...] = ()
    domains: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


class _Wrong(ValueError):
    """A line cannot be taken over."""


def read_table(octets: bytes, form: Format, include: Read | None = None) -> Table:
    """Read a file. Never raises: what is wrong is among the faults."""
    if len(octets) > FILE_LIMIT:
        return Table(faults=(Fault(0, f"larger than {FILE_LIMIT} octets"),))
    entries: dict[str, Entry] = {}
    domains: dict[str, None] = {}
    faults: list[Fault] = []
    read = {"aliases": _alias, "virtual": _virtual, "regexp": _regexp}[form]
    for number, line in _logical_lines(octets):
        if len(entries) >= ENTRY_LIMIT or len(faults) >= FAULT_LIMIT:
            faults.append(Fault(number, "too many lines, or mistakes: the rest was not read"))
            break
        try:
            text = line.decode()
            if not text.isprintable() and not text.replace("\t", " ").isprintable():
                raise _Wrong("holds control characters")
            entry = read(number, text, include)
            if isinstance(entry, str):
                domains[entry] = None
                continue
            if entry.name in entries:
                raise _Wrong(f"{entry.name} is there already, in line {entries[entry.name].line}")
            entries[entry.name] = entry
        except UnicodeDecodeError:
            faults.append(Fault(number, "is not UTF-8 text"))
        except ValueError as error:
            faults.append(Fault(number, str(error)))
    return Table(tuple(entries.values()), tuple(domains), tuple(faults))


def _logical_lines(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Each with the number of its first line. White space at its beginning continues the line before; lines that are
    empty or begin with # are passed over."""
    begun, found = 0, b""
    for number, line in enumerate(octets.split(b"\n"), 1):
        text = line.rstrip()
        if not text or text.lstrip().startswith(b"#"):
            continue
        if text[:1] in b" \t" and begun:
            found += b" " + text.lstrip()
            continue
        if begun:
            yield begun, found
        begun, found = number, text.lstrip()
    if begun:
        yield begun, found


# --- aliases(5) -------------------------------------------------------------------------------------------------------


def _alias(number: int, line: str, include: Read | None) -> Entry:
    quoted = _QUOTED_NAME.match(line)
    found = quoted or _NAME.match(line)
    if found is None:
        raise _Wrong('is no "name: target, ..."')
    name = _PAIR.sub(r"\1", found[1]) if quoted else found[1]
    name = "@" if name == "*" else _name(name if quoted is None else _requoted(name))
    value = line[found.end() :].strip()
    for word, answer in _ANSWERS.items():
        if value.lower().startswith(word):
            return Entry(number, name, answer=answer, text=_printable(value[len(word) :]))
    if value == "/dev/null":
        return Entry(number, name, answer="discard")
    return Entry(number, name, tuple(_targets(value, include, 0)))


def _targets(text: str, include: Read | None, depth: int) -> list[str]:
    found: dict[str, None] = {}
    for word in _split(text):
        if word.lower().startswith(":include:"):
            more = _included(word[len(":include:") :].strip().strip('"'), include, depth)
        else:
            more = [_target(word)]
        found.update(dict.fromkeys(more))
        if len(found) > TARGET_LIMIT:
            raise _Wrong(f"has more than {TARGET_LIMIT} targets")
    if not found:
        raise _Wrong("has no target")
    return list(found)


def _split(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TARGET.match(text, at)
        if found is None or found.end() == at:
            raise _Wrong(f"{text[at : at + 40]!r} is no target")
        at = found.end()
        if word := found[1].strip():
            yield word


def _included(path: str, include: Read | None, depth: int) -> list[str]:
    if include is None:
        raise _Wrong(f":include:{path} is not read here")
    if depth == _INCLUDES:
        raise _Wrong(f":include: is nested more than {_INCLUDES} deep")
    if not path.startswith("/"):
        raise _Wrong(f":include:{path} is no absolute path")
    try:
        octets = include(path)
        if len(octets) > FILE_LIMIT:
            raise _Wrong(f"{path}: larger than {FILE_LIMIT} octets")
        lines = [line.strip() for line in octets.decode().splitlines()]
    except OSError as error:
        raise _Wrong(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise _Wrong(f"{path}: is not UTF-8 text") from None
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            try:
                found += _targets(line, include, depth + 1)
            except ValueError as error:
                raise _Wrong(f"{path}, line {number}: {error}") from None
    return found


def _target(word: str) -> str:
    plain = word.strip('"')
    if plain.startswith("|"):
        raise _Wrong(f'{plain!r} is a program: have an agent of the type "pipe", and a transport that leads to it')
    if plain.startswith("/"):
        raise _Wrong(f"{plain!r} is a file, and mail is kept in accounts alone: name an account, or leave it out")
    if plain.startswith(":") or plain.lower().startswith("error:"):
        raise _Wrong(f"{plain!r} can only stand alone, and is not among the targets that are known")
    if word.endswith(">") and "<" in word:
        word = word[word.rindex("<") + 1 : -1]
    return _address(word.removeprefix("\\"))


# --- virtual(5), regexp_table(5) --------------------------------------------------------------------------------------


def _virtual(number: int, line: str, include: Read | None) -> Entry | str:
    name, *rest = line.split(None, 1)
    if not rest:
        raise _Wrong(f"{name} has no target")
    if "@" not in name and "." in name:
        try:
            return _domain(name)  # a domain is declared; what stands behind it says nothing
        except ValueError:
            pass  # then it is a user
    targets = [word.strip() for part in _split(rest[0]) for word in _words(part)]
    whole = [target for target in targets if target.startswith("@")]
    if whole and (len(targets) > 1 or not name.startswith("@")):
        raise _Wrong(f"{whole[0]} can only be the single target of a whole domain")
    found = tuple("@" + _domain(word[1:]) if word.startswith("@") else _target(word) for word in targets)
    return Entry(number, _name(name), tuple(dict.fromkeys(found)))


def _words(text: str) -> Sequence[str]:
    """Postfix takes white space between targets as well as commas."""
    return [text] if '"' in text or "<" in text else text.split()


def _regexp(number: int, line: str, include: Read | None) -> Entry:
    if line.split(None, 1)[0].lower() in ("if", "endif"):
        raise _Wrong("if and endif are not known here")
    found = _REGEXP.fullmatch(line)
    if found is None:
        raise _Wrong('is no "/pattern/flags target"')
    refused, _, pattern, flags, value = found.groups()
    if refused:
        raise _Wrong("a pattern that must not match (!) is not known here")
    if unknown := set(flags) - set("i"):
        raise _Wrong(f'the flag "{min(unknown)}" is not known here')
    # Postfix is content with a match in the middle.
    start = "" if pattern.startswith("^") else ".*?"
    end = "" if pattern.endswith("$") and not pattern.endswith("\\$") else ".*"
    name = f"{REGEX}{start}(?:{pattern}){end}"
    targets = tuple(_GROUP.sub(_group, word.replace("\\", "\\\\")) for part in _split(value) for word in _words(part))
    for target in targets:
        if target.startswith(("|", "/", ":")):
            raise _Wrong(f"{target!r} is no address")
        if "@" not in target:
            raise _Wrong(f"{target!r} needs its domain")
    return Entry(number, name, PatternAlias.parse(name, targets).targets)


def _group(found: re.Match[str]) -> str:
    number = found[1] or found[2] or found[3]
    return f"\\{number}" if number else "$"


# --- Names ------------------------------------------------------------------------------------------------------------


def _name(text: str) -> str:
    try:
        if text.startswith("@"):
            return "@" + _domain(text[1:])
        if "@" in (text.rpartition('"')[2] if text.startswith('"') else text):
            return Address.parse(text).key
        return str(Address(fold_local(parse_local(text)), "x")).rpartition("@")[0]
    except ValueError as error:
        raise _Wrong(f"{text!r} is no name: {error}") from None


def _address(text: str) -> str:
    try:
        if "@" in text.rpartition('"')[2]:
            return str(Address.parse(text))
        return str(Address(parse_local(text), "x")).rpartition("@")[0]
    except ValueError as error:
        raise _Wrong(f"{text!r} is no address: {error}") from None


def _requoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _domain(text: str) -> str:
    domain = parse_domain(text)
    if domain.startswith("["):
        raise _Wrong(f"{text} is an address literal, not a domain")
    return domain if domain.isascii() else to_ascii(domain)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).strip()[:200]


def in_domain(texts: Iterable[str], domain: str) -> tuple[str, ...]:
    """Names without a domain, and "@" for all others of one, in this one."""
    return tuple([_in_domain(text, domain) for text in texts])


def _in_domain(text: str, domain: str) -> str:
    if text == "@":
        return f"@{domain}"
    return text if text.startswith(REGEX) or "@" in text.rpartition('"')[2] else f"{text}@{domain}"
