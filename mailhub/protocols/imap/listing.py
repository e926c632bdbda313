"""What LIST and LSUB show of an account's mailboxes (RFC 3501 6.3.8 and 6.3.9, RFC 5258, RFC 6154)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from mailhub.message.record import MailboxInfo
from mailhub.wire.imap import responses
from mailhub.wire.imap.commands import List, Lsub
from mailhub.wire.imap.names import INBOX, Pattern, ancestors


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


def list_responses(command: List, hierarchy: Hierarchy) -> list[bytes]:
    """The LIST lines that answer a command."""
    if command.patterns == ("",):
        return [responses.hierarchy("")]
    pattern = Pattern(command.reference, command.patterns)
    if "SUBSCRIBED" in command.selection:
        return _list_subscribed(command, hierarchy, pattern)
    with_subscribed = "SUBSCRIBED" in command.returns
    only_special = "SPECIAL-USE" in command.selection
    lines = []
    for name in hierarchy.names:
        if pattern.matches(name) and not (only_special and not hierarchy.special_use.get(name)):
            attributes = hierarchy.attributes(name)
            if with_subscribed and name in hierarchy.subscribed:
                attributes.append("\\Subscribed")
            lines.append(responses.listing(attributes, name))
    return lines


def _list_subscribed(command: List, hierarchy: Hierarchy, pattern: Pattern) -> list[bytes]:
    """Selection option SUBSCRIBED, with RECURSIVEMATCH also the names above (RFC 5258 3)."""
    selected = hierarchy.subscribed
    if "SPECIAL-USE" in command.selection:
        selected = frozenset(name for name in selected if hierarchy.special_use.get(name))
    above: frozenset[str] = frozenset()
    if "RECURSIVEMATCH" in command.selection:
        above = frozenset(parent for name in selected for parent in ancestors(name))
    lines = []
    for name in _in_order({*selected, *above}):
        if pattern.matches(name):
            attributes = hierarchy.attributes(name)
            if name in hierarchy.subscribed:
                attributes.append("\\Subscribed")
            lines.append(responses.listing(attributes, name, child_info=name in above))
    return lines


def lsub_responses(command: Lsub, subscribed: Sequence[str]) -> list[bytes]:
    """The LSUB lines. A subscribed name below one that `%` matches makes that one show up, as \\Noselect (6.3.9)."""
    if not command.pattern:
        return [responses.lsub(["\\Noselect"], "")]
    pattern = Pattern(command.reference, [command.pattern])
    names = {name: False for name in subscribed if pattern.matches(name)}
    if command.pattern.endswith("%"):
        for name in subscribed:
            for parent in ancestors(name):
                if parent not in names and pattern.matches(parent):
                    names[parent] = True
    return [responses.lsub(["\\Noselect"] if names[name] else [], name) for name in _in_order(names)]
