"""What would happen to a message, and why: a rehearsal with the very parts that take mail, of which nothing is counted
and nothing kept (`Origin.rehearsal`)."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import attrs

from mailhub.auth.authenticator import Authenticator
from mailhub.delivery import committing
from mailhub.delivery.allowance import Bounds, own_bounds, sent_lately
from mailhub.delivery.limits import RelayAddresses
from mailhub.delivery.pipeline import Conversation, Pipeline
from mailhub.delivery.relay.exchangers import is_address
from mailhub.errors import AuthenticationFailed, ConfigurationError, MailError, PermanentError
from mailhub.explain_ways import Ways, reply_at, text_of
from mailhub.interfaces import ISubmitter, NoteResult, Origin, OwnTransaction, Verdict
from mailhub.keys import MESSAGE_SIZE
from mailhub.message.address import ROLES, Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.services import SERVICES

if TYPE_CHECKING:
    from mailhub.components import Hub

_SESSION = "rehearsal"
MESSAGE_LIMIT = 8 << 20  # octets
_TAKEN = {"recipient": "250 2.1.5 Recipient OK", "message": "250 2.0.0 Delivered"}
SERVICE_NAMES = ("smtp", "submission", "submissions", "lmtp")


@attrs.frozen
class Rehearsed:
    """What is asked: the message as a client would announce it. `sender` None is `<>`; `size` in octets, 0 for
    unknown. Without a `message` nobody is asked about one."""

    sender: Address | None
    recipient: Address
    peer: str
    helo: str = ""
    user: str = ""
    size: int = 0
    service: str = "smtp"
    local: str = ""
    message: bytes | None = None

    @classmethod
    def of(cls, question: Mapping[str, Any], hub: Hub) -> Rehearsed:
        """Of what a command asks. Raises ConfigurationError."""
        said = {name: str(question.get(name) or "") for name in ("from", "to", "ip", "helo", "user", "service")}
        service = said["service"] or ("submission" if said["user"] else "smtp")
        if service not in SERVICE_NAMES:
            raise ConfigurationError(f"{service!r} takes no mail; known: {', '.join(SERVICE_NAMES)}")
        submits = SERVICES[service].submission
        try:
            sender = _sender(said["from"], said["user"].rpartition("@")[2] if submits else "")
            role = said["to"].lower() in ROLES
            recipient = Address(said["to"].lower(), hub.hostname) if role else Address.parse(said["to"])
        except ValueError as error:
            raise ConfigurationError(f"no mail address: {error}") from None
        if said["ip"] and not is_address(said["ip"]):
            raise ConfigurationError(f"{said['ip']!r} is no IP address")
        size = question.get("size") or 0
        if not isinstance(size, int) or size < 0:
            raise ConfigurationError("a size is a number of octets")
        message = _message(question.get("message"))
        size = size if message is None else len(message)
        helo, own = said["helo"] or "client.invalid", _own_address(recipient, hub)
        return cls(sender, recipient, said["ip"], helo, said["user"], size, service, own, message)

    @property
    def origin(self) -> Origin:
        """Who would be there, before a login."""
        row = SERVICES[self.service]
        return Origin(
            self.service,
            self.peer,
            _SESSION,
            row.submission,
            local=self.local,
            submission=row.submission,
            each_recipient=row.each_recipient,
            rehearsal=True,
        )


def _message(text: object) -> bytes | None:
    """Its octets, which come in base64. Raises ConfigurationError."""
    if text is None:
        return None
    try:
        octets = b64decode(str(text), validate=True)
    except ValueError:
        raise ConfigurationError("the message is not base64") from None
    if len(octets) > MESSAGE_LIMIT:
        raise ConfigurationError(
            f"the message has more than {MESSAGE_LIMIT} octets, which is all that can be asked about"
        )
    return octets


def _sender(text: str, login_domain: str) -> Address | None:
    """As MAIL has it. Raises ValueError."""
    if text in ("", "<>"):
        return None
    return Address.parse(f"{text}@{login_domain}" if login_domain and "@" not in text else text)


def _own_address(recipient: Address, hub: Hub) -> str:
    """The address of ours that is called, where the recipient's domain is one: as far as it is known without a
    connection. "" for any other."""
    if not recipient.domain.startswith("["):
        return ""
    address = recipient.domain[1:-1].removeprefix("IPv6:")
    found = ip_address(address)
    known = found.is_loopback or found in {ip_address(each) for each in hub.settings.of(RelayAddresses).own}
    bound = re.compile(rf"interface={re.escape(address)}(?:$|:[a-z])")
    endpoints = [each.replace("\\:", ":") for row in hub.settings.listen.values() for each in row]
    return address if known or any(map(bound.search, endpoints)) else ""


async def explain(hub: Hub, question: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer for a command, as JSON has it. Raises ConfigurationError for what cannot be asked."""
    asked = Rehearsed.of(question, hub)
    steps: list[Mapping[str, Any]] = []

    def witness(moment: str, rule: str, verdict: Verdict) -> None:
        said: dict[str, Any] = {}
        if verdict.action != "accept":
            said = {"status": verdict.status, "text": verdict.text}
        if found := [edit.result for edit in verdict.edits if isinstance(edit, NoteResult)]:
            said["results"] = found
        steps.append({"at": moment, "rule": rule, "verdict": verdict.action, **said})

    talked = await _talked(hub, asked, witness)
    refusal = talked.refusal
    told = None if refusal is None else reply_at(talked.at, refusal)
    origin = attrs.evolve(asked.origin, helo=asked.helo, user=asked.user)
    pipeline = hub.pipeline
    assert isinstance(pipeline, Pipeline)
    own = OwnTransaction(origin, Mail(asked.sender, size=asked.size))
    ways = await Ways.of(hub, own, lambda: pipeline.meant(origin, asked.recipient))
    if talked.message is not None:
        await ways.end_in(talked.message.routes)
    return {
        "taken": told is None,
        "at": talked.at,
        "reply": text_of(told) if told is not None else _TAKEN[talked.at],
        "rule": refusal.rule if refusal is not None else "",
        "reason": refusal.detail if refusal is not None else "",
        "steps": steps,
        "message": _of_message(talked, steps),
        "routing": ways.steps,
        "routes": ways.ends,
        "no_route": ways.refusal,
        "sending": await _sending(hub, asked.user),
    }


def _of_message(talked: _Talked, steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What is known of the message itself; empty where none was asked about."""
    if talked.at != "message" or talked.refusal is not None:
        return {}
    if talked.message is None:
        said = (step["rule"] for step in steps if (step["at"], step["verdict"]) == ("message", "discard"))
        return {"discarded_by": next(said, "")}
    found = talked.message
    return {"quarantined": found.quarantined, "replies": list(found.replies)}


@attrs.frozen
class _Talked:
    """How far a client would come, what it would be told there, and what would become of its message; None where it
    would be discarded."""

    at: str
    refusal: MailError | None = None
    message: committing.Rehearsed | None = None


async def _talked(hub: Hub, asked: Rehearsed, witness: Any) -> _Talked:
    pipeline, origin, at = hub.pipeline, asked.origin, "connect"
    assert isinstance(pipeline, Pipeline)
    talk: Conversation | None = None
    try:
        talk = await pipeline.connected(origin, witness)
        at = "hello"
        origin = attrs.evolve(origin, helo=asked.helo)
        await talk.hello(origin)
        if asked.user:
            at = "login"
            user = await _known(hub, asked.user)
            origin = attrs.evolve(origin, user=user)
            submitter = await _submitter(hub, user, origin)
            if submitter is None:
                talk.origin = origin
            else:
                await talk.login(origin, submitter)
        at = "mail"
        if asked.size > hub.settings.value(MESSAGE_SIZE) and (origin.user or not origin.submission):
            raise PermanentError("Message is too large", status="5.3.4")
        transaction = await talk.begin(Mail(asked.sender, size=asked.size))
        try:
            at = "recipient"
            await transaction.recipient(Recipient(asked.recipient))
            if asked.message is None:
                return _Talked(at)
            at = "message"
            await transaction.body(len(asked.message)).write(asked.message)
            return _Talked(at, None, await transaction.rehearse())
        finally:
            transaction.abort()
    except MailError as error:
        return _Talked(at, error)
    finally:
        if talk is not None:
            talk.closed()


async def _known(hub: Hub, login: str) -> str:
    """Whom a login means. Raises AuthenticationFailed for who could not log in."""
    authenticator = hub.authenticator
    assert isinstance(authenticator, Authenticator)
    user = authenticator.canonical(login, authenticator.default_domain)
    try:
        await authenticator.known(login)
    except AuthenticationFailed:
        # Whom nobody can be asked about without a password may be somebody.
        if hub.directories.complete or await hub.accounts.find(user) is not None:
            raise
    return user


async def _submitter(hub: Hub, user: str, origin: Origin) -> ISubmitter | None:
    """None for whom only another checker may know: a login would make the account."""
    realm = getattr(getattr(hub.authenticator, "portal", None), "realm", None)
    if realm is None or not await hub.store.exists(user):
        return None
    _, found, _ = await realm.requestAvatar(user.encode(), origin, ISubmitter)
    return found  # type: ignore[no-any-return]


async def _sending(hub: Hub, user: str) -> Mapping[str, Any]:
    """What a user of ours may send, and has sent; empty for nobody."""
    if not user:
        return {}
    states = hub.database.state
    bounds = await own_bounds(states, user) or hub.settings.of(Bounds)
    return {"limits": attrs.asdict(bounds), "sent": dict(await sent_lately(states, user, hub.environment.now()))}
