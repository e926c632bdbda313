"""Reads one complete command (RFC 3501 9 and the extensions named): its tag, its name, its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, get_args

import attrs

from mailhub.errors import InvalidMailboxName
from mailhub.message import mailbox_names
from mailhub.message.flags import NO_FLAGS
from mailhub.wire.imap import commands, names, responses, search_grammar
from mailhub.wire.imap.commands import Command, ListReturn, ListSelection, StatusItem, StoreMode
from mailhub.wire.imap.fetch_grammar import fetch_items
from mailhub.wire.imap.search_grammar import sequence_set
from mailhub.wire.imap.tokens import BLANKS, BadSyntax, Incomplete, Tokens
from mailhub.wire.sasl import SaslError, plain_credentials

Item = TypeVar("Item")
Choice = TypeVar("Choice", bound=str)

PATTERN_LIMIT = 20  # patterns in one LIST
ENABLE_LIMIT = 50  # names in one ENABLE
ID_FIELD_LIMIT, ID_NAME_LIMIT, ID_VALUE_LIMIT = 30, 30, 1024  # fields, octets, octets: RFC 2971 3.3
SPECIAL_USES = ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")  # RFC 6154 2


class Refused(Exception):
    """The command is well-formed, but the answer is NO whatever the mailboxes hold. `code` is a response code."""

    def __init__(self, code: bytes, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(text)


# --- commands the machine answers itself -----------------------------------------------------------------------------


@attrs.frozen
class Capability(Command):
    """CAPABILITY (6.1.1)."""


@attrs.frozen
class Id(Command):
    """ID (RFC 2971)."""

    fields: tuple[tuple[str, str | None], ...]


@attrs.frozen
class Enable(Command):
    """ENABLE (RFC 5161 3.1), names in capitals."""

    capabilities: tuple[str, ...]


@attrs.frozen
class Authenticate(Command):
    """AUTHENTICATE (6.2.2), with the initial response of RFC 4959 as it was sent."""

    mechanism: str
    initial: bytes | None = attrs.field(repr=False)


# --- reading ---------------------------------------------------------------------------------------------------------


def read_name(tokens: Tokens) -> str:
    """The command's name, after the tag. Raises BadSyntax."""
    name = tokens.word()
    if name == "UID" and tokens.blanks():
        name = f"UID {tokens.word()}"
    return name


def read_arguments(tag: str, name: str, tokens: Tokens) -> Command:
    """The rest of a command of this name. Raises BadSyntax, Refused, KeyError for an unknown name."""
    command = ARGUMENTS[name](tag, tokens)
    tokens.end()
    return command


@attrs.frozen
class AppendLiteral:
    """The arguments of APPEND, its message's literal announced."""

    command: commands.Append
    synchronising: bool


def read_append(tag: str, tokens: Tokens) -> AppendLiteral | None:
    """The arguments of APPEND up to `{size}` CRLF, or None if the literal announced last is not the message.

    Raises BadSyntax, Refused.
    """
    try:
        tokens.space()
        mailbox = _mailbox(tokens)
        if tokens.at_end():
            return None
    except Incomplete:
        return None
    tokens.gap()
    flags, internal_date = NO_FLAGS, None
    if tokens.looking_at(b"("):
        flags = tokens.flag_list()
        tokens.blanks()
    while tokens.looking_at(b"\\"):
        flags |= {tokens.flag()}
        tokens.space()
    if tokens.looking_at(b'"'):
        internal_date = tokens.date_time()
        tokens.blanks()
    tokens.expect(b"{")
    size = tokens.number()
    synchronising = not tokens.accept(b"+")
    tokens.expect(b"}\r\n")
    tokens.end()
    return AppendLiteral(commands.Append(tag, mailbox, flags, internal_date, size), synchronising)


def _mailbox(tokens: Tokens) -> str:
    """The name of a mailbox that should exist. What is in no modified UTF-7 names none: it reads as the empty name,
    which no mailbox has."""
    octets = tokens.astring()
    try:
        return mailbox_names.without_last_separator(names.decode(octets))
    except InvalidMailboxName:
        return ""


def _new_mailbox(tokens: Tokens) -> str:
    """A name that a mailbox may get. The separator at its end announces inferiors, which need no announcement here."""
    octets = tokens.astring()
    try:
        name = mailbox_names.without_last_separator(names.decode(octets))
        mailbox_names.check(name)
    except InvalidMailboxName as error:
        raise Refused(responses.CANNOT, error.text) from None
    return name


def _pattern(tokens: Tokens) -> str | None:
    """A pattern of LIST or its reference; None for what is in no modified UTF-7 and so matches nothing."""
    octets = tokens.astring()
    try:
        return names.decode(octets)
    except InvalidMailboxName:
        return None


def _parenthesised(tokens: Tokens, item: Callable[[Tokens], Item], limit: int) -> list[Item]:
    """`(item item ...)`, possibly empty."""
    items: list[Item] = []
    more = tokens.open()
    while more:
        if len(items) == limit:
            raise tokens.bad("The list is too long")
        items.append(item(tokens))
        more = tokens.more(b")")
    return items


def _one_of(choices: tuple[Choice, ...]) -> Callable[[Tokens], Choice]:
    """Reads a word that must be one of these."""

    def read(tokens: Tokens) -> Choice:
        start = tokens.position
        word = tokens.word()
        for choice in choices:
            if word == choice:
                return choice
        raise BadSyntax(start, f"Expected one of {', '.join(choices)}")

    return read


_status_item = _one_of(get_args(StatusItem))
_list_selection = _one_of(get_args(ListSelection))
_list_return = _one_of(get_args(ListReturn))


# --- the arguments, command by command -------------------------------------------------------------------------------


def _bare(make: Callable[[str], Command]) -> Callable[[str, Tokens], Command]:
    """A command without arguments."""
    return lambda tag, tokens: make(tag)


def _id(tag: str, tokens: Tokens) -> Command:
    tokens.gap()
    start = tokens.position
    if not tokens.looking_at(b"("):
        if tokens.nstring() is not None:
            raise BadSyntax(start, "Expected NIL or a list")
        return Id(tag, ())
    words = _parenthesised(tokens, Tokens.nstring, 2 * ID_FIELD_LIMIT)
    fields = list(zip(words[::2], words[1::2], strict=False))
    if len(words) % 2 or any(name is None or len(name) > ID_NAME_LIMIT for name, _ in fields):
        raise BadSyntax(start, "Expected pairs of field and value")
    if any(value is not None and len(value) > ID_VALUE_LIMIT for _, value in fields):
        raise BadSyntax(start, "A value is too long")
    return Id(tag, tuple((_id_text(name) or "", _id_text(value)) for name, value in fields))


def _id_text(octets: bytes | None) -> str | None:
    """For the log: one printable line."""
    if octets is None:
        return None
    return "".join(char if char.isprintable() else "?" for char in octets.decode("utf-8", "replace"))


def _enable(tag: str, tokens: Tokens) -> Command:
    capabilities: list[str] = []
    while tokens.more() or not capabilities:
        if len(capabilities) == ENABLE_LIMIT:
            raise tokens.bad("The list is too long")
        capabilities.append(tokens.word())
    return Enable(tag, tuple(capabilities))


def _login(tag: str, tokens: Tokens) -> Command:
    tokens.space()
    user = tokens.astring()
    tokens.space()
    password = tokens.astring()
    try:
        return commands.Login(tag, plain_credentials(b"", user, password))
    except SaslError as error:
        raise Refused(responses.AUTHENTICATIONFAILED, f"Authentication failed: {error}") from None


def _authenticate(tag: str, tokens: Tokens) -> Command:
    tokens.space()
    mechanism = tokens.word()
    initial = None
    if tokens.more():
        initial = tokens.rest().rstrip(BLANKS)
    return Authenticate(tag, mechanism, initial)


def _select(tag: str, tokens: Tokens) -> Command:
    return commands.Select(tag, _mailbox_argument(tokens), read_only=False)


def _examine(tag: str, tokens: Tokens) -> Command:
    return commands.Select(tag, _mailbox_argument(tokens), read_only=True)


def _create(tag: str, tokens: Tokens) -> Command:
    tokens.space()
    name = _new_mailbox(tokens)
    uses: list[str] = []
    if tokens.more():
        tokens.open()
        _one_of(("USE",))(tokens)
        tokens.blanks()
        uses = _parenthesised(tokens, _special_use, len(SPECIAL_USES))
        tokens.blanks()
        tokens.expect(b")")
    return commands.Create(tag, name, frozenset(uses))


def _special_use(tokens: Tokens) -> str:
    tokens.expect(b"\\")
    written = f"\\{tokens.word()}"
    for use in SPECIAL_USES:
        if use.upper() == written:
            return use
    raise Refused(responses.USEATTR, "No such special use")


def _delete(tag: str, tokens: Tokens) -> Command:
    return commands.Delete(tag, _mailbox_argument(tokens))


def _rename(tag: str, tokens: Tokens) -> Command:
    name = _mailbox_argument(tokens)
    tokens.space()
    return commands.Rename(tag, name, _new_mailbox(tokens))


def _subscribe(tag: str, tokens: Tokens) -> Command:
    tokens.space()
    return commands.Subscribe(tag, _new_mailbox(tokens))


def _unsubscribe(tag: str, tokens: Tokens) -> Command:
    return commands.Unsubscribe(tag, _mailbox_argument(tokens))


def _list(tag: str, tokens: Tokens) -> Command:
    """RFC 5258 6; RFC 3501's form is the one without any parenthesis."""
    tokens.gap()
    selection: list[ListSelection] = []
    extended = tokens.looking_at(b"(")
    if extended:
        selection = _parenthesised(tokens, _list_selection, 10)
        tokens.space()
    if "RECURSIVEMATCH" in selection and not {"SUBSCRIBED", "SPECIAL-USE"} & set(selection):
        raise tokens.bad("RECURSIVEMATCH needs another selection option")
    reference = _pattern(tokens)
    tokens.space()
    if tokens.looking_at(b"("):
        extended = True
        patterns = _parenthesised(tokens, _pattern, PATTERN_LIMIT)
    else:
        patterns = [_pattern(tokens)]
    returns: list[ListReturn] = []
    if tokens.more():
        extended = True
        _one_of(("RETURN",))(tokens)
        tokens.blanks()
        returns = _parenthesised(tokens, _list_return, 10)
    if not patterns:
        raise tokens.bad("Expected a pattern")
    sought = () if reference is None else tuple(pattern for pattern in patterns if pattern is not None)
    return commands.List(tag, reference or "", sought, frozenset(selection), frozenset(returns), extended)


def _lsub(tag: str, tokens: Tokens) -> Command:
    tokens.space()
    reference = _pattern(tokens)
    tokens.space()
    pattern = _pattern(tokens)
    return commands.Lsub(tag, reference or "", pattern if reference is not None else None)


def _status(tag: str, tokens: Tokens) -> Command:
    name = _mailbox_argument(tokens)
    tokens.gap()
    listed = tokens.looking_at(b"(")
    items = dict.fromkeys(_parenthesised(tokens, _status_item, 20) if listed else [_status_item(tokens)])
    if not items:
        raise tokens.bad("Expected an item")
    return commands.Status(tag, name, tuple(items))


def _append(tag: str, tokens: Tokens) -> Command:
    # With its literal announced, `read_append` reads it; a complete command has none.
    raise tokens.bad("APPEND needs a literal")


def _expunge_uids(tag: str, tokens: Tokens) -> Command:
    tokens.space()
    return commands.Expunge(tag, sequence_set(tokens))


def _search(*, uid: bool) -> Callable[[str, Tokens], Command]:
    def read(tag: str, tokens: Tokens) -> Command:
        tokens.gap()
        # Without CHARSET the default is US-ASCII; UTF-8, which contains it, is what clients then send.
        encoding = "utf-8"
        if tokens.accept_word(b"CHARSET"):
            tokens.space()
            charset = tokens.astring().decode("ascii", "replace").upper()
            if charset not in search_grammar.CHARSETS:
                raise Refused(responses.BADCHARSET, "Charset is not supported")
            encoding = search_grammar.CHARSETS[charset]
            tokens.space()
        return commands.Search(tag, uid, search_grammar.search_program(tokens, encoding))

    return read


def _fetch(*, uid: bool) -> Callable[[str, Tokens], Command]:
    def read(tag: str, tokens: Tokens) -> Command:
        tokens.space()
        numbers = sequence_set(tokens)
        tokens.gap()
        return commands.Fetch(tag, uid, numbers, fetch_items(tokens, uid=uid))

    return read


def _store(*, uid: bool) -> Callable[[str, Tokens], Command]:
    def read(tag: str, tokens: Tokens) -> Command:
        tokens.space()
        numbers = sequence_set(tokens)
        tokens.space()
        word = _store_word(tokens)
        tokens.gap()
        flags = tokens.flag_list() if tokens.looking_at(b"(") else tokens.flags()
        silent = word.endswith(".SILENT")
        return commands.Store(tag, uid, numbers, StoreMode(word.removesuffix(".SILENT")), silent, flags)

    return read


_store_word = _one_of(tuple(mode.value + silent for mode in StoreMode for silent in ("", ".SILENT")))


def _copy(make: Callable[..., Command], *, uid: bool) -> Callable[[str, Tokens], Command]:
    def read(tag: str, tokens: Tokens) -> Command:
        tokens.space()
        numbers = sequence_set(tokens)
        return make(tag, uid, numbers, _mailbox_argument(tokens))

    return read


def _mailbox_argument(tokens: Tokens) -> str:
    tokens.space()
    return _mailbox(tokens)


ARGUMENTS: dict[str, Callable[[str, Tokens], Command]] = {
    "CAPABILITY": _bare(Capability),
    "NOOP": _bare(commands.Noop),
    "LOGOUT": _bare(commands.Logout),
    "ID": _id,
    "ENABLE": _enable,
    "STARTTLS": _bare(commands.StartTls),
    "AUTHENTICATE": _authenticate,
    "LOGIN": _login,
    "SELECT": _select,
    "EXAMINE": _examine,
    "CREATE": _create,
    "DELETE": _delete,
    "RENAME": _rename,
    "SUBSCRIBE": _subscribe,
    "UNSUBSCRIBE": _unsubscribe,
    "LIST": _list,
    "LSUB": _lsub,
    "STATUS": _status,
    "APPEND": _append,
    "NAMESPACE": _bare(commands.Namespace),
    "IDLE": _bare(commands.Idle),
    "CHECK": _bare(commands.Check),
    "CLOSE": _bare(commands.Close),
    "UNSELECT": _bare(commands.Unselect),
    "EXPUNGE": _bare(commands.Expunge),
    "UID EXPUNGE": _expunge_uids,
    "SEARCH": _search(uid=False),
    "UID SEARCH": _search(uid=True),
    "FETCH": _fetch(uid=False),
    "UID FETCH": _fetch(uid=True),
    "STORE": _store(uid=False),
    "UID STORE": _store(uid=True),
    "COPY": _copy(commands.Copy, uid=False),
    "UID COPY": _copy(commands.Copy, uid=True),
    "MOVE": _copy(commands.Move, uid=False),
    "UID MOVE": _copy(commands.Move, uid=True),
}
