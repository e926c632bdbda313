"""How the queue's values stand in columns: what RCPT said of each recipient, and a route with what is its own."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from mailhub.interfaces import STORE, Deposit, Notice, Plan, ReversePath, Route
from mailhub.message.address import Address, to_ascii, to_unicode
from mailhub.message.envelope import Mail, Outcome, Recipient, Source, State
from mailhub.message.esmtp import (
    check_mail_parameters,
    mail_parameters,
    recipient_parameters,
    with_mail_parameters,
    with_recipient_parameters,
)
from mailhub.message.flags import decode, encode

RouteColumns = Sequence[Any]
ROUTE_COLUMNS = "agent, local, domain, target, via, reverse_path, of_sender, mailbox, flags, originals"


def route_columns(route: Route) -> RouteColumns:
    """See `route_in`."""
    own = route.reverse_path
    return (
        route.agent,
        route.recipient.local,
        route.recipient.domain,
        route.target,
        "\n".join(route.via),
        None if own is None else "" if own.address is None else str(own.address),
        int(own is not None and own.of_sender is True),
        route.mailbox,
        encode(route.flags),
        originals_text(route),
    )


def route_in(columns: RouteColumns) -> Route:
    """The route that `route_columns` has put there. Its own reverse-path is NULL for none, "" for `<>`."""
    agent, local, domain, target, via, own, of_sender, mailbox, flags, originals = columns
    recipient = Address(local, domain)
    return Route(
        agent,
        recipient,
        target,
        tuple(via.split("\n")) if via else (),
        None if own is None else ReversePath(Address.parse(own) if own else None, bool(of_sender)),
        mailbox,
        decode(flags),
        originals_in(originals, recipient),
    )


def outcome_in(columns: Sequence[Any]) -> Outcome | None:
    """What stands in the columns of an outcome; None where there was no attempt."""
    state, status, reply, remote, source, protocol, tls = columns
    return None if state is None else Outcome(State(state), status, reply, remote, Source(source), protocol, tls)


def domain_forms(domain: str) -> list[str]:
    """A domain as it may stand in a row: as A-labels, as U-labels, and as it is written here."""
    forms = {domain.lower()}
    with suppress(ValueError):
        forms |= {to_ascii(domain), to_unicode(to_ascii(domain))}
    return sorted(forms)


def domains_below(domain: str) -> list[str]:
    """Of `*.domain` (`Which.domain`), the ends of all domains that are meant, as they may stand in a row; nothing for
    one domain."""
    return [f".{form}" for form in domain_forms(domain[2:])] if domain.startswith("*.") else []


def address_forms(address: str) -> list[str]:
    """The same of an address, in small letters. Before the @ there may be nothing: that is the end of one."""
    local, at, domain = address.lower().rpartition("@")
    return [f"{local}{at}{form}" for form in domain_forms(domain)]


def originals_parts(address: str) -> list[str]:
    """What `originals_text` has in it, in small letters and one or the other, where the client named this address."""
    local, _, domain = unquoted(address).lower().rpartition("@")
    return [json.dumps([local, form])[1:-1] for form in domain_forms(domain)]


def unquoted(address: str) -> str:
    """An address as the columns of a row have it: its local part without quotes."""
    with suppress(ValueError):
        parsed = Address.parse(address)
        return f"{parsed.local}@{parsed.domain}"
    return address


def check_readable(mail: Mail, routes: Iterable[Route]) -> None:
    """Raises ValueError for what could not be read again: one such row would keep all others from being read."""
    if mail.reverse_path is not None:
        Address.parse(str(mail.reverse_path))
    if parameters := mail_parameters(mail):
        check_mail_parameters(parameters)
    for route in routes:
        own = route.reverse_path
        if own is not None and own.address is not None:
            Address.parse(str(own.address))
        originals_in(originals_text(route), route.recipient)


def kept_mail(mail: Mail, parameters: str) -> Mail:
    """`mail` as it will be read from its row; `parameters` are its `mail_parameters`."""
    usual = not mail.verp and parameters in ("", f"SIZE={mail.size}")
    return mail if usual else with_mail_parameters(Mail(mail.reverse_path, mail.body_type, mail.smtputf8), parameters)


def originals_text(route: Route) -> str:
    """Empty in the usual case, that of a recipient who goes by the name and without parameters."""
    if route.originals == (Recipient(route.recipient),):
        return ""
    return json.dumps(
        [[each.address.local, each.address.domain, recipient_parameters(each)] for each in route.originals]
    )


def originals_in(text: str, recipient: Address) -> tuple[Recipient, ...]:
    """The recipients of `originals_text`."""
    if not text:
        return (Recipient(recipient),)
    listed: Sequence[tuple[str, str, str]] = json.loads(text)
    return tuple(
        with_recipient_parameters(Recipient(Address(local, domain)), parameters) for local, domain, parameters in listed
    )


def route_of(deposit: Deposit) -> Route:
    """The row of a deposit that could not be made, for its DSN."""
    return Route(
        STORE,
        deposit.recipient,
        deposit.user,
        mailbox=deposit.mailbox,
        flags=deposit.flags,
        originals=deposit.originals,
    )


def notices_of(plan: Plan, refused: Collection[int]) -> Iterable[Notice]:
    """What there is to tell where these deposits, by number, were refused."""
    return [notice for notice in plan.notices if not any(number in refused for number in notice.deposits)]


def destination_of(route: Route, last: Outcome | None) -> str:
    """Where a row waits. One that is not DELAYED waits for its DSN alone, which no host can hold up."""
    return route.destination if last is None or last.state is State.DELAYED else ""
