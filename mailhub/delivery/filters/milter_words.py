"""What milters are told of a message besides the message (macros), and what is made of their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Literal

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from mailhub import __version__
from mailhub.delivery.filters.milter_peer import MilterFailed
from mailhub.errors import MailError, PermanentError, TemporaryError
from mailhub.interfaces import (
    AddField,
    AddRecipient,
    ChangeReversePath,
    Edit,
    InsertField,
    IResolver,
    Origin,
    RemoveField,
    RemoveRecipient,
    ReplaceField,
    Verdict,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Recipient
from mailhub.message.esmtp import ParameterError, notifying, with_recipient_parameters
from mailhub.message.header import raw_fields
from mailhub.wire.milter import vocabulary as said
from mailhub.wire.milter.vocabulary import Answer, Stage

# What is sent where a filter has not chosen: what Postfix sends, and the client's address and name.
MACROS: Mapping[Stage, tuple[str, ...]] = {
    Stage.CONNECT: ("j", "daemon_name", "daemon_addr", "v", "_", "client_addr", "client_name", "client_ptr"),
    Stage.HELO: ("tls_version", "cipher"),
    Stage.MAIL: (
        *("i", "auth_type", "auth_authen", "auth_author", "mail_addr", "mail_host", "mail_mailer"),
        *("client_addr", "client_name", "tls_version", "cipher"),
    ),
    Stage.RCPT: ("i", "rcpt_addr", "rcpt_host", "rcpt_mailer"),
    Stage.DATA: ("i",),
    Stage.END_OF_HEADER: ("i",),
    Stage.END_OF_MESSAGE: ("i",),
}
_NAMES = 5  # of an address that are looked up
_NAME_SECONDS = 5.0
_NOTIFYING = ("RET=", "ENVID=")


@attrs.frozen
class ClientName:
    """How a client is called: by a name of its address that leads back to it, else the address in brackets. `pointer`
    is the name that need not, "unknown" without one; `found` is how that went, in Sendmail's words."""

    name: str
    pointer: str = "unknown"
    found: Literal["OK", "FAIL", "TEMP", "FORGED"] = "FAIL"


async def client_name(origin: Origin, resolver: IResolver, clock: IReactorTime) -> ClientName:
    """Of the client. Never raises."""
    if not origin.peer:
        return ClientName("localhost", "localhost", "OK")
    waiting = Deferred.fromCoroutine(_client_name(origin.peer, resolver)).addTimeout(_NAME_SECONDS, clock)
    try:
        return await waiting
    except (TemporaryError, TimeoutError):
        return ClientName(f"[{origin.peer}]", found="TEMP")


async def _client_name(peer: str, resolver: IResolver) -> ClientName:
    """Raises TemporaryError."""
    in_brackets = f"[{peer}]"
    try:
        address = ip_address(peer.partition("%")[0])
        names = (await resolver.pointers(str(address)))[:_NAMES]
        for name in names:
            if address in map(ip_address, await resolver.addresses(name)):
                return ClientName(name, name, "OK")
    except (PermanentError, ValueError):
        return ClientName(in_brackets)
    return ClientName(in_brackets, names[0], "FORGED") if names else ClientName(in_brackets)


def macros_of_client(origin: Origin, hostname: str, client: ClientName) -> dict[str, str]:
    """What is known of a connection, by names without braces."""
    known = {
        "j": hostname,
        "v": f"mailhub {__version__}",
        "daemon_name": origin.service,
        "daemon_addr": origin.local,
        "if_addr": origin.local,
        "_": f"{client.name} [{origin.peer}]" if origin.peer else client.name,
        "client_addr": origin.peer or "127.0.0.1",
        "client_name": client.name,
        "client_ptr": client.pointer,
        "client_resolve": client.found,
    }
    protocol, _, cipher = origin.tls.partition("/")
    known |= {"tls_version": protocol, "cipher": cipher}
    if origin.user:
        # What filters tell our own users by. Both mechanisms that there are bring name and password as they are.
        known |= {"auth_type": "PLAIN", "auth_authen": origin.user}
    return {name: value for name, value in known.items() if value}


def macros_of_path(kind: Literal["mail", "rcpt"], address: Address | None, *, ours: bool) -> dict[str, str]:
    """What is known of a sender or a recipient."""
    mailer = "local" if ours else "smtp"
    domain = "" if address is None else str(address.domain or "")
    return {f"{kind}_addr": str(address or ""), f"{kind}_host": domain, f"{kind}_mailer": mailer}


def macros_of_refusal(error: MailError) -> dict[str, str]:
    """Of a recipient that was refused, as Sendmail and Postfix have it."""
    return {"rcpt_mailer": "error", "rcpt_host": error.status, "rcpt_addr": error.text}


def path(address: Address | None) -> str:
    """As it stands in MAIL and RCPT."""
    return f"<{address or ''}>"


# --- Answers ----------------------------------------------------------------------------------------------------------

_REJECT = Verdict("reject", "5.7.1", "Refused by a filter")
_DEFER = Verdict("defer", "4.7.1", "Service unavailable, try again later")
_CLOSE = Verdict("defer", "4.3.2", "Service unavailable, try again later")


def refusal(answer: Answer) -> Verdict | None:
    """What is said to the client, where it is refused; else None."""
    match answer.kind:
        case "reject":
            return _REJECT
        case "tempfail":
            return _DEFER
        case "close":
            return _CLOSE
        case "reply":
            reply = answer.reply
            assert reply is not None, "it comes with that kind"
            usual = _REJECT if reply.code >= 500 else _DEFER
            text = " ".join(line for line in reply.lines if line)
            return Verdict(usual.action, reply.status or usual.status, text or usual.text)
    return None


def ends_connection(answer: Answer) -> bool:
    """Whether it is about all that the client will say: 421."""
    return answer.kind == "close" or (answer.reply is not None and answer.reply.code == 421)


# --- Changes ----------------------------------------------------------------------------------------------------------


@attrs.define
class Changes:
    """Changes of a filter as edits of ours. `names`: of the fields of the header, in lower case. Where it is not
    `whole`, because it was too large to be held, fields go on top of it. `spaced`: values begin with the space after
    the colon."""

    names: list[bytes]
    whole: bool
    spaced: bool
    edits: list[Edit] = attrs.field(factory=list)
    quarantine: str | None = None

    @classmethod
    def of(cls, header: bytes, *, whole: bool, spaced: bool) -> Changes:
        """For a message with this header."""
        return cls([name for name, _ in raw_fields(header) if name], whole, spaced)

    def add(self, changes: Sequence[said.Change]) -> None:
        """These, in order. Raises MilterFailed for what means nothing."""
        for change in changes:
            match change:
                case said.AddHeader(name, value):
                    self._insert(-1, name, value)
                case said.InsertHeader(index, name, value):
                    # Index 0 is our own Received, which stays on top.
                    self._insert(max(index - 1, 0), name, value)
                case said.ChangeHeader(index, name, value):
                    self._change(max(index, 1), name, value)
                case said.ChangeSender(address, parameters):
                    self._change_sender(address, parameters)
                case said.AddRecipient(address, parameters):
                    self._add_recipient(address, parameters)
                case said.DeleteRecipient(address):
                    self.edits.append(RemoveRecipient(_address(address)))
                case said.Quarantine(reason):
                    self.quarantine = reason

    def _insert(self, place: int, name: str, value: str) -> None:
        value = self._value(value)
        if place == 0 or not self.whole:
            self.edits.append(AddField(name, value))
            self.names.insert(0, _key(name))
        else:
            self.edits.append(InsertField(name, value, place))
            self.names.insert(len(self.names) if place < 0 else place, _key(name))

    def _change(self, index: int, name: str, value: str) -> None:
        places = [place for place, known in enumerate(self.names) if known == _key(name)]
        if index > len(places):
            if value:
                self._insert(-1, name, value)
        elif value:
            self.edits.append(ReplaceField(name, index, self._value(value)))
        else:
            self.edits.append(RemoveField(name, index))
            del self.names[places[index - 1]]

    def _change_sender(self, address: str, parameters: str) -> None:
        """Of the parameters, those count that say what the sender is told."""
        wishes = " ".join(word for word in parameters.split() if word.upper().startswith(_NOTIFYING))
        try:
            notifying(wishes)
        except ParameterError as error:
            raise MilterFailed(f"the filter gives the sender odd parameters: {error}") from None
        null = address.strip() in ("", "<>")
        self.edits.append(ChangeReversePath(None if null else _address(address), wishes))

    def _add_recipient(self, address: str, parameters: str) -> None:
        try:
            recipient = with_recipient_parameters(Recipient(_address(address)), parameters)
        except ParameterError as error:
            raise MilterFailed(f"the filter adds a recipient with odd parameters: {error}") from None
        self.edits.append(AddRecipient(recipient))

    def _value(self, value: str) -> str:
        """With our line ends, and without the space that is ours to write."""
        if self.spaced:
            value = value.removeprefix(" ")
        return value.replace("\r\n", "\n").rstrip("\n").replace("\n", "\r\n")


def _key(name: str) -> bytes:
    return name.lower().encode("utf-8", "replace")


def _address(text: str) -> Address:
    try:
        return Address.parse(text.strip().removeprefix("<").removesuffix(">"))
    except ValueError as error:
        raise MilterFailed(f"the filter names {text[:80]!r}, which is no address: {error}") from None
