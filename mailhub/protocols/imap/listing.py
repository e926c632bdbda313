"""What LIST and LSUB show of an account's mailboxes (RFC 3501 6.3.8 and 6.3.9, RFC 5258, RFC 6154)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from mailhub.message.mailbox_names import INBOX, ancestors
from mailhub.message.record import MailboxInfo
from mailhub.wire.imap import responses
from mailhub.wire.imap.commands import List, Lsub
from mailhub.wire.imap.names import Pattern


@attrs.frozen
class Hierarchy:
    """The mailboxes that exist, and the names above them that do not."""

    special_use: dict[str, str]
    parents: frozenset[str]
    subscribed: frozenset[str]

    @classmethod
    def of(cls, mailboxes: Iterable[MailboxInfo], subscribed: Iterable[str]) -> Hierarchy:
        """Built anew for each LIST: a backend may change behind our back."""
        special_use = {info.name: info.special_use for info in mailboxes}
        parents = frozenset(parent for name in special_use for parent in ancestors(name))
        return cls(special_use, parents, frozenset(subscribed))

    @property
    def names(self) -> list[str]:
        """Every name that LIST knows, INBOX first."""
        return _in_order({*self.special_use, *self.parents})

    def attributes(self, name: str) -> list[str]:
        """RFC 3348 and RFC 6154 attributes; a name that is only a step to others cannot be selected."""
        found = ["\\HasChildren" if name in self.parents else "\\HasNoChildren"]
        if name not in self.special_use:
            found.insert(0, "\\Noselect" if name in self.parents else "\\NonExistent")
        elif self.special_use[name]:
            found.append(self.special_use[name])
        return found


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != INBOX, name))


def list_responses(command: List, hierarchy: Hierarchy) -> Iterator[bytes]:
    """The LIST lines that answer a command; nothing for a name that does not match, so that the caller can pause."""
    if command.patterns == ("",):
        yield responses.hierarchy("")
        return
    pattern = Pattern(command.reference, command.patterns)
    if "SUBSCRIBED" in command.selection:
        yield from _list_subscribed(command, hierarchy, pattern)
        return
    with_subscribed = "SUBSCRIBED" in command.returns
    only_special = "SPECIAL-USE" in command.selection
    for name in hierarchy.names:
        if not pattern.matches(name) or (only_special and not hierarchy.special_use.get(name)):
            yield b""
            continue
        attributes = hierarchy.attributes(name)
        if with_subscribed and name in hierarchy.subscribed:
            attributes.append("\\Subscribed")
        yield responses.listing(attributes, name)


def _list_subscribed(command: List, hierarchy: Hierarchy, pattern: Pattern) -> Iterator[bytes]:
    """Selection option SUBSCRIBED, with RECURSIVEMATCH also the names above (RFC 5258 3)."""
    selected = hierarchy.subscribed
    if "SPECIAL-USE" in command.selection:
        selected = frozenset(name for name in selected if hierarchy.special_use.get(name))
    above: frozenset[str] = frozenset()
    if "RECURSIVEMATCH" in command.selection:
        above = frozenset(parent for name in selected for parent in ancestors(name))
    for name in _in_order({*selected, *above}):
        if not pattern.matches(name):
            yield b""
            continue
        attributes = hierarchy.attributes(name)
        if name in hierarchy.subscribed:
            attributes.append("\\Subscribed")
        yield responses.listing(attributes, name, child_info=name in above)


def lsub_responses(command: Lsub, subscribed: Sequence[str]) -> Iterator[bytes]:
    """The LSUB lines, like `list_responses`. A subscribed name below one that `%` matches makes that one show up, as
    \\Noselect (6.3.9)."""
    if command.pattern is None:
        return
    if not command.pattern:
        yield responses.lsub(["\\Noselect"], "")
        return
    pattern = Pattern(command.reference, [command.pattern])
    known = frozenset(subscribed)
    above: set[str] = set()
    if command.pattern.endswith("%"):
        above = {parent for name in subscribed for parent in ancestors(name)}
    for name in _in_order(known | above):
        attributes = [] if name in known else ["\\Noselect"]
        yield responses.lsub(attributes, name) if pattern.matches(name) else b""
