"""The floors of docs/architecture.rst hold: no module imports from a higher floor or from a sibling, no imports go in
a circle, and nothing stands on too much."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mailhub"

# The longest prefix decides.
FLOORS = {
    "mailhub": -2,
    "mailhub.credentials": -1,
    "mailhub.errors": -1,
    "mailhub.keys": -1,
    "mailhub.message": 0,
    "mailhub.wire": 0,
    "mailhub.answers": 1,
    "mailhub.durable": 1,
    "mailhub.agents": 5,
    "mailhub.alone": 5,
    "mailhub.api": 5,
    "mailhub.guard": 1,
    "mailhub.watchdog": 1,
    "mailhub.interfaces": 1,
    "mailhub.log": 1,
    "mailhub.threads": 1,
    "mailhub.store": 2,
    "mailhub.auth": 2,
    "mailhub.net": 2,
    "mailhub.delivery": 3,
    "mailhub.foreign": 3,
    "mailhub.checks": 2,
    "mailhub.sieve": 3,
    "mailhub.protocols": 4,
    "mailhub.web": 4,
    "mailhub.config": 5,
    "mailhub.hub_view": 5,
    "mailhub.plugin_faults": 5,
    "mailhub.checker_strings": 5,
    "mailhub.plugin_files": 5,
    "mailhub.plugin_list": 5,
    "mailhub.plugin_modules": 5,
    "mailhub.plugin_trial": 5,
    "mailhub.plugins": 5,
    "mailhub.component_guards": 5,
    "mailhub.components": 5,
    "mailhub.logins": 5,
    "mailhub.control": 5,
    "mailhub.data_folder": 5,
    "mailhub.explain": 5,
    "mailhub.explain_ways": 5,
    "mailhub.queue_desk": 5,
    "mailhub.questions": 5,
    "mailhub.reload": 5,
    "mailhub.store_swap": 5,
    "mailhub.service": 5,
    "mailhub.services": 5,
    "mailhub.logfile": 5,
    "mailhub.signals": 5,
    "mailhub.store_realm": 5,
    "mailhub.systemd": 5,
    "mailhub.tap": 5,
    "mailhub.demo": 5,
    "mailhub.doors": 5,
    "mailhub.embedding": 5,
    "mailhub.avatars": 5,
    "mailhub.builtin": 5,
    "mailhub.cli": 5,
    "mailhub.testing": 5,
}
# The second plan's rooms have their floor before their first module.
PLANNED = {"mailhub.sieve", "mailhub.web"}
# Floor 0 is pure: nothing that waits, knows the time, or touches the machine.
FORBIDDEN_BELOW_1 = {"twisted", "asyncio", "threading", "socket", "time", "random", "os", "sqlite3", "email"}


# Rooms on one floor that do not know each other: what two of them need stands below them. Those of floor 1 are not
# among them, for threads and log are made by its contracts.
SIBLINGS = [
    {"mailhub.wire.imap", "mailhub.wire.pop3", "mailhub.wire.smtp"},
    {"mailhub.store", "mailhub.auth", "mailhub.net", "mailhub.checks"},
    {"mailhub.store.sqlite", "mailhub.store.memory"},
    {"mailhub.delivery", "mailhub.foreign", "mailhub.sieve"},
    {"mailhub.protocols.imap", "mailhub.protocols.pop3", "mailhub.protocols.smtp", "mailhub.web"},
]
# The longest way from a module over its imports to one that imports nothing of mailhub, both ends counted.
DEPTH = 14
FILE_LINES = 600
FUNCTION_LINES = 80


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("mailhub", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def floor(module: str) -> int:
    prefix = module
    while prefix not in FLOORS:
        prefix = prefix.rpartition(".")[0]
        assert prefix, f"{module} stands on no floor"
    # A new top-level module must be given its floor: only the package itself answers for "mailhub".
    assert prefix != "mailhub" or module == "mailhub", f"{module} is not in the table of floors"
    return FLOORS[prefix]


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported(tree: ast.Module) -> set[str]:
    """Every module imported at run time, wherever in the file the import stands."""
    names: set[str] = set()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.stmt) and is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending.extend(ast.iter_child_nodes(node))
    return names


IMPORTS = {name: imported(ast.parse(path.read_text())) for name, path in MODULES.items()}
INTERNAL = {name: {n for n in names if n in MODULES and n != name} for name, names in IMPORTS.items()}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_only_from_lower_floors(module: str) -> None:
    upward = {target for target in INTERNAL[module] if floor(target) > floor(module)}
    assert not upward, f"{module} imports from above: {sorted(upward)}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if floor(m) <= 0))
def test_floor_zero_is_pure(module: str) -> None:
    impure = {n for n in IMPORTS[module] if n.partition(".")[0] in FORBIDDEN_BELOW_1}
    assert not impure, f"{module} imports {sorted(impure)}"


# What a realm of twisted.mail is given and raises, which is no protocol: for those that serve such realms alone.
VALUES_OF_TWISTEDS_MAIL = {
    "twisted.mail.imap4",
    "twisted.mail.imap4.IllegalMailboxEncoding",
    "twisted.mail.imap4.MailboxCollision",
    "twisted.mail.imap4.MailboxException",
    "twisted.mail.imap4.MessageSet",
    "twisted.mail.imap4.NoSuchMailbox",
    "twisted.mail.imap4.ReadOnlyMailbox",
    "twisted.mail.smtp",
    "twisted.mail.smtp.Address",
    "twisted.mail.smtp.AddressError",
    "twisted.mail.smtp.SMTPClientError",
    "twisted.mail.smtp.SMTPServerError",
    "twisted.mail.smtp.User",
}


def test_nobody_uses_twisteds_mail_protocols_or_the_email_package() -> None:
    used = {
        (name, n)
        for name, names in IMPORTS.items()
        for n in names
        if n.startswith("twisted.mail") or n.partition(".")[0] == "email"
    }
    permitted = {
        (name, n)
        for name, n in used
        if (
            name.startswith("mailhub.foreign")
            and (n.startswith("twisted.mail.interfaces") or n in VALUES_OF_TWISTEDS_MAIL)
        )
        # What tests of applications are given is what they would have made of the octets themselves.
        or (name in {"mailhub.testing.serving", "mailhub.testing.promises"} and n.partition(".")[0] == "email")
    }
    assert used == permitted


def test_there_are_no_import_cycles() -> None:
    # An edge to a package is no edge to its modules: their own __init__ files are empty, but for the contracts', which
    # no contract imports.
    remaining = {name: set(targets) for name, targets in INTERNAL.items()}
    while ready := [name for name, targets in remaining.items() if not targets & remaining.keys()]:
        for name in ready:
            del remaining[name]
    assert not remaining, f"cycles among {sorted(remaining)}"


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@pytest.mark.parametrize("rooms", SIBLINGS, ids=lambda rooms: " ".join(sorted(rooms)))
def test_siblings_do_not_know_each_other(rooms: set[str]) -> None:
    met = [
        (module, target)
        for room in rooms
        for module in MODULES
        if within(module, room)
        for target in INTERNAL[module]
        if any(within(target, other) for other in rooms - {room})
    ]
    assert not met


@pytest.mark.parametrize("room", ["mailhub.message", "mailhub.store"])
def test_neither_messages_nor_stores_know_protocols(room: str) -> None:
    met = [(m, t) for m in MODULES if within(m, room) for t in INTERNAL[m] if within(t, "mailhub.wire")]
    assert not met


@pytest.mark.parametrize("room", sorted(FLOORS))
def test_every_room_of_the_table_is_there_or_will_be(room: str) -> None:
    assert (room in MODULES) != (room in PLANNED)


@functools.cache
def longest_way(module: str) -> tuple[str, ...]:
    return (module, *max(map(longest_way, sorted(INTERNAL[module])), key=len, default=()))


def test_nothing_stands_on_too_much() -> None:
    """Who changes a module has this many others above it at most to think of, one upon the other."""
    way = max(map(longest_way, MODULES), key=len)
    assert len(way) <= DEPTH, " -> ".join(way)


def test_the_reactor_is_named_at_the_roof_only() -> None:
    users = {name for name, names in IMPORTS.items() if "twisted.internet.reactor" in names}
    assert all(floor(name) == 5 for name in users), sorted(users)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_is_read_at_a_time_is_not_too_long(module: str) -> None:
    """A mirror, not a goal: what grows beyond this mostly has two thoughts in it."""
    text = MODULES[module].read_text()
    assert text.count("\n") <= FILE_LINES
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES]
    assert not long
