"""What would happen to a message, and why: a rehearsal with the very parts that take mail, of which nothing is counted
and nothing kept (`Origin.rehearsal`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING, Any

import attrs

from mailhub.auth.authenticator import Authenticator
from mailhub.delivery.allowance import Bounds, own_bounds, sent_lately
from mailhub.delivery.limits import RelayAddresses
from mailhub.delivery.pipeline import Conversation, Pipeline
from mailhub.delivery.relay.exchangers import exchangers, is_address
from mailhub.errors import AuthenticationFailed, ConfigurationError, MailError, PermanentError
from mailhub.interfaces import STORE, ISubmitter, Origin, OwnTransaction, Route, Verdict
from mailhub.keys import MESSAGE_SIZE
from mailhub.message.address import ROLES, Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.protocols.smtp import reply_to
from mailhub.services import SERVICES
from mailhub.wire.smtp.replies import Reply

if TYPE_CHECKING:
    from mailhub.components import Hub

_SMTP = "smtp"
_SESSION = "rehearsal"
SERVICE_NAMES = ("smtp", "submission", "submissions", "lmtp")


@attrs.frozen
class Rehearsed:
    """What is asked: the message as a client would announce it. `sender` None is `<>`; `size` in octets, 0 for
    unknown."""

    sender: Address | None
    recipient: Address
    peer: str
    helo: str = ""
    user: str = ""
    size: int = 0
    service: str = "smtp"
    local: str = ""

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
        helo = said["helo"] or "client.invalid"
        return cls(sender, recipient, said["ip"], helo, said["user"], size, service, _own_address(recipient, hub))

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
        said = {"status": verdict.status, "text": verdict.text} if verdict.action != "accept" else {}
        steps.append({"at": moment, "rule": rule, "verdict": verdict.action, **said})

    at, refusal = await _talked(hub, asked, witness)
    told = None if refusal is None else _reply(at, refusal)
    return {
        "taken": told is None,
        "at": at,
        "reply": _text(told) if told is not None else "250 2.1.5 Recipient OK",
        "rule": refusal.rule if refusal is not None else "",
        "reason": refusal.detail if refusal is not None else "",
        "steps": steps,
        "routing": (routing := await _routed(hub, asked))["steps"],
        "routes": [await _shown(hub, route) for route in routing["routes"]],
        "no_route": routing["refusal"],
        "sending": await _sending(hub, asked.user),
    }


async def _talked(hub: Hub, asked: Rehearsed, witness: Any) -> tuple[str, MailError | None]:
    """How far a client would come, and what it would be told there."""
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
        finally:
            transaction.abort()
    except MailError as error:
        return at, error
    finally:
        if talk is not None:
            talk.closed()
    return at, None


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


def _reply(at: str, error: MailError) -> Reply:
    found = reply_to(error)
    if at == "connect":
        return attrs.evolve(found, code=421 if error.temporary else 554)
    if at == "mail" and error.status == "5.7.0":
        return attrs.evolve(found, code=530)
    return found


def _text(reply: Reply) -> str:
    return " ".join(word for word in (str(reply.code), reply.status, " ".join(reply.lines)) if word)


# --- Where it would go ------------------------------------------------------------------------------------------------


async def _routed(hub: Hub, asked: Rehearsed) -> dict[str, Any]:
    """Each address on the way with the router that knows it, and the ends."""
    steps: list[Mapping[str, Any]] = []

    def witness(address: Address, router: str, said: Sequence[Route] | MailError) -> None:
        if isinstance(said, MailError):
            steps.append({"address": str(address), "router": router, "refused": _text(_reply("recipient", said))})
        else:
            ways = [{"agent": route.agent, "to": str(route.recipient), "target": route.target} for route in said]
            steps.append({"address": str(address), "router": router, "ways": ways})

    origin = attrs.evolve(asked.origin, helo=asked.helo, user=asked.user)
    transaction = OwnTransaction(origin, Mail(asked.sender, size=asked.size))
    routes: Sequence[Route] = ()
    refusal = ""
    try:
        assert isinstance(hub.pipeline, Pipeline)
        recipient = hub.pipeline.meant(origin, asked.recipient)
        routes = await hub.routing.watched(witness).route(recipient, transaction)
    except MailError as error:
        refusal = _text(_reply("recipient", error))
    return {"steps": steps, "routes": routes, "refusal": refusal}


async def _shown(hub: Hub, route: Route) -> Mapping[str, Any]:
    """One end: for an account what it holds, for other servers who would be asked."""
    shown: dict[str, Any] = {"agent": route.agent, "to": str(route.recipient), "target": route.target}
    try:
        if route.agent == STORE:
            shown["mailbox"] = route.mailbox or "INBOX"
            if await hub.store.exists(route.target):
                account = await hub.store.account(route.target)
                try:
                    quota = await account.quota()
                finally:
                    await account.logout()
                shown["quota"] = {"used": quota.used, "limit": quota.limit}
        elif route.agent == _SMTP and not route.target:
            domain, resolver = route.recipient.ascii_domain, hub.environment.resolver
            # With a chance of its own: what the hub draws after it is as it would have been.
            found = await exchangers(domain, hub.hostname, resolver, Random(domain))
            shown["exchangers"] = [{"preference": each.preference, "host": each.host} for each in found]
    except MailError as error:
        shown["fault"] = error.text
    return shown


async def _sending(hub: Hub, user: str) -> Mapping[str, Any]:
    """What a user of ours may send, and has sent; empty for nobody."""
    if not user:
        return {}
    states = hub.database.state
    bounds = await own_bounds(states, user) or hub.settings.of(Bounds)
    return {"limits": attrs.asdict(bounds), "sent": dict(await sent_lately(states, user, hub.environment.now()))}
