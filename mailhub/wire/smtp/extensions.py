"""SMTP's extensions as a table, for both sides (RFC 5321 2.2 and 4.1.1.1): a row each in `EXTENSIONS`.

The server offers a row where its condition holds and its settings name the keyword; by default those that mailhub
carries out to the end, so that nothing is promised in half. The client sends the parameters of rows that a hop offers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import attrs

from mailhub.message.esmtp import (
    AUTH,
    BINARY_BODY,
    BODY,
    BY,
    ENVID,
    HOLDFOR,
    HOLDUNTIL,
    MT_PRIORITY,
    NOTIFY,
    ORCPT,
    REQUIRETLS,
    RET,
    RRVS,
    SIZE,
    SMTPUTF8,
    XVERP,
    Parameter,
    render_instant,
)
from mailhub.wire.smtp.replies import Reply, reply
from mailhub.wire.stream import BareLines

COMPLETE = frozenset(
    {
        "PIPELINING",
        "SIZE",
        "8BITMIME",
        "BINARYMIME",
        "CHUNKING",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "REQUIRETLS",
        "DELIVERBY",
        "MT-PRIORITY",
        "RRVS",
        "STARTTLS",
        "AUTH",
        "HELP",
        "LIMITS",
        "XCLIENT",
        "XFORWARD",
        "FUTURERELEASE",
        "XVERP",
        "ETRN",
    }
)

# What a trusted client may say of another.
XCLIENT_ATTRIBUTES = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
XFORWARD_ATTRIBUTES = "NAME ADDR PORT PROTO HELO IDENT SOURCE"


@attrs.frozen(cache_hash=True)
class SmtpSettings:
    """What one service offers, and its limits. Text lines of a message have no limit of their own: they are data.

    `extensions`: keywords that may be offered. `submission`: for our own users alone; with `verp` they may have XVERP.
    `speaks_for`: the client is trusted to say for whom it speaks. `turns` are the domains, and the queues (`#name`),
    whose mail may be asked for (ETRN). `mechanisms` are offered under TLS, in plaintext with `plaintext_login` only.
    `postmaster_domain` completes `<postmaster>` (RFC 5321 4.5.1). `secure`: TLS is on from the
    first octet. Sizes in octets. Limits a session: `bad_command_limit` of commands refused for syntax or order,
    `idle_command_limit` of commands since the last message that brought no mail nearer, `login_failure_limit` of
    refused logins, `mail_limit` of MAIL, as many recipients above `recipient_limit` as that allows; each ends it with
    421. Of the bad commands those after the first `free_bad_commands` are events, whose answers may be held back.
    `deliver_by_minimum`: the fewest seconds in which mail can be asked to be returned. Mail may be held for up to
    `hold_seconds`, or until `hold_until` (seconds since the epoch); 0 for not. `priority_policy`: what the 19
    priorities mean here, by a name that IANA has registered (RFC 6710 3), "" for none.
    """

    hostname: str
    postmaster_domain: str
    lmtp: bool = False
    submission: bool = False
    speaks_for: bool = False
    turns: frozenset[str] = frozenset()
    verp: bool = False
    secure: bool = False
    starttls: bool = False
    require_tls: bool = False
    mechanisms: tuple[str, ...] = ()
    plaintext_login: bool = False
    require_login: bool = False
    bare_lines: BareLines = BareLines.REJECT
    message_size_limit: int = 52428800
    recipient_limit: int = 1000
    mail_limit: int = 100_000
    bad_command_limit: int = 20
    free_bad_commands: int = 1_000_000
    idle_command_limit: int = 100
    login_failure_limit: int = 5
    deliver_by_minimum: int = 0
    extensions: frozenset[str] = COMPLETE
    hold_seconds: int = 0
    hold_until: int = 0
    priority_policy: str = ""


def _always(_settings: SmtpSettings, _secure: bool) -> bool:
    return True


def _not_here(_settings: SmtpSettings, _secure: bool) -> Reply:
    return reply(502, "5.5.1", "Command is not available")


@attrs.frozen
class Demand:
    """A parameter that is not just left out where a hop does not offer its extension: where `made` says so of its
    value, the hop cannot have the message (MAIL) or the recipient (RCPT), for the reason `status` and `text`."""

    parameter: Parameter
    made: Callable[[Any], bool]
    status: str
    text: str


@attrs.frozen
class Extension:
    """One extension: its keyword, the parameters it adds to MAIL and RCPT, and `octets` to the lines of other verbs.

    `tls`: it exists under TLS only. `offered` says whether it can be under these settings, with TLS on or not. `value`
    is what stands behind the keyword in the answer to EHLO. `refusal` answers a verb of the extension where it is not
    offered. `demand` is what a message may ask of hops by it.
    """

    keyword: str
    mail: tuple[Parameter, ...] = ()
    rcpt: tuple[Parameter, ...] = ()
    octets: Mapping[str, int] = attrs.field(factory=dict)
    tls: bool = False
    offered: Callable[[SmtpSettings, bool], bool] = _always
    value: Callable[[SmtpSettings], str] = lambda _settings: ""
    refusal: Callable[[SmtpSettings, bool], Reply] = _not_here
    demand: Demand | None = None


def _starttls_refusal(_settings: SmtpSettings, secure: bool) -> Reply:
    return reply(503, "5.5.1", "TLS is on already") if secure else reply(502, "5.5.1", "TLS is not available")


def _auth_refusal(settings: SmtpSettings, secure: bool) -> Reply:
    if settings.mechanisms and not secure:
        return reply(538, "5.7.11", "Encryption required for authentication")
    return reply(502, "5.5.1", "Authentication is not available")


# In the order of the answer to EHLO.
EXTENSIONS = (
    Extension("PIPELINING"),  # RFC 2920
    Extension("SIZE", mail=(SIZE,), value=lambda settings: str(settings.message_size_limit)),  # RFC 1870
    Extension("8BITMIME", mail=(BODY,)),  # RFC 6152
    Extension(  # RFC 3030 3: with those beside it alone
        "BINARYMIME",
        mail=(BINARY_BODY,),
        offered=lambda settings, _secure: settings.extensions >= {"8BITMIME", "CHUNKING"},
    ),
    Extension("CHUNKING"),  # RFC 3030 2
    Extension(  # RFC 6531 3.1: with 8BITMIME alone
        "SMTPUTF8",
        mail=(SMTPUTF8,),
        octets={"VRFY": 10, "EXPN": 10},
        offered=lambda settings, _secure: "8BITMIME" in settings.extensions,
    ),
    Extension("ENHANCEDSTATUSCODES"),  # RFC 2034
    Extension("DSN", mail=(RET, ENVID), rcpt=(NOTIFY, ORCPT)),  # RFC 3461
    Extension(  # RFC 8689 2 and 4.2.1
        "REQUIRETLS",
        mail=(REQUIRETLS,),
        tls=True,
        demand=Demand(REQUIRETLS, bool, "5.7.30", "REQUIRETLS support required, which the server does not offer"),
    ),
    Extension(  # RFC 2852 4.3: what must be returned in time goes to those alone who will do so
        "DELIVERBY",
        mail=(BY,),
        value=lambda settings: str(settings.deliver_by_minimum or ""),
        demand=Demand(BY, lambda by: by.mode == "R", "5.3.3", "DELIVERBY required, which the server does not offer"),
    ),
    # RFC 4865 3: the furthest that can be asked for.
    Extension(
        "FUTURERELEASE",
        mail=(HOLDFOR, HOLDUNTIL),
        offered=lambda settings, _secure: settings.submission and settings.hold_seconds > 0,
        value=lambda settings: f"{settings.hold_seconds} {render_instant(settings.hold_until)}",
    ),
    Extension("MT-PRIORITY", mail=(MT_PRIORITY,), value=lambda settings: settings.priority_policy),  # RFC 6710
    Extension(  # RFC 7293
        "RRVS",
        rcpt=(RRVS,),
        demand=Demand(RRVS, lambda rrvs: rrvs.action == "R", "5.7.19", "RRVS needed, which the server does not offer"),
    ),
    Extension(  # RFC 3207
        "STARTTLS",
        offered=lambda settings, secure: settings.starttls and not secure,
        refusal=_starttls_refusal,
    ),
    Extension(  # RFC 4954
        "AUTH",
        mail=(AUTH,),
        offered=lambda settings, secure: bool(settings.mechanisms) and (secure or settings.plaintext_login),
        value=lambda settings: " ".join(settings.mechanisms),
        refusal=_auth_refusal,
    ),
    Extension(  # RFC 9422
        "LIMITS", value=lambda settings: f"RCPTMAX={settings.recipient_limit} MAILMAX={settings.mail_limit}"
    ),
    Extension(
        "XCLIENT",
        offered=lambda settings, _secure: settings.speaks_for and not settings.lmtp,
        value=lambda _settings: XCLIENT_ATTRIBUTES,
    ),
    Extension(
        "XFORWARD",
        offered=lambda settings, _secure: settings.speaks_for and not settings.lmtp,
        value=lambda _settings: XFORWARD_ATTRIBUTES,
    ),
    Extension("XVERP", mail=(XVERP,), offered=lambda settings, _secure: settings.verp and settings.submission),
    Extension(  # RFC 1985; RFC 6409 7: not where mail is submitted
        "ETRN",
        offered=lambda settings, _secure: bool(settings.turns) and not (settings.lmtp or settings.submission),
    ),
    Extension("HELP"),  # RFC 5321 4.1.1.8
)


_KEYWORDS = frozenset(row.keyword for row in EXTENSIONS)
_MAIL = frozenset(each.keyword for row in EXTENSIONS for each in row.mail)


@attrs.frozen(eq=False)
class Offering:
    """What a server offers for now: by keyword the lines of the answer to EHLO and the parameters, and the octets that
    they may add to the line of a verb."""

    lines: Mapping[str, str]
    mail: Mapping[str, Parameter]
    rcpt: Mapping[str, Parameter]
    octets: Mapping[str, int]


@lru_cache(maxsize=64)  # each connection asks, and they have settings in common
def offer(settings: SmtpSettings, secure: bool) -> Offering:
    """What is offered under these settings, with TLS on or not."""
    named = [row for row in EXTENSIONS if row.keyword in settings.extensions]
    rows = [row for row in named if (secure or not row.tls) and row.offered(settings, secure)]
    mail = {parameter.keyword: parameter for row in rows for parameter in row.mail}
    rcpt = {parameter.keyword: parameter for row in rows for parameter in row.rcpt}
    octets = {
        "MAIL": sum(parameter.octets for parameter in mail.values()),
        "RCPT": sum(parameter.octets for parameter in rcpt.values()),
    }
    for row in rows:
        for verb, more in row.octets.items():
            octets[verb] = octets.get(verb, 0) + more
    lines = {row.keyword: f"{row.keyword} {row.value(settings)}".rstrip() for row in rows}
    return Offering(lines, mail, rcpt, octets)


@attrs.frozen
class HopTerms:
    """What may be said to a hop in MAIL and in RCPT, and what it cannot be asked for."""

    mail: tuple[Parameter, ...]
    rcpt: tuple[Parameter, ...]
    mail_demands: tuple[Demand, ...]
    rcpt_demands: tuple[Demand, ...]


# By these the client says what the message is, not what was said of it; by the last each recipient has got its sender.
_NOT_SENT_ON = (SIZE, BODY, BINARY_BODY, SMTPUTF8, XVERP)


def terms(keywords: Iterable[str], secure: bool) -> HopTerms:
    """The terms of a hop that offers these keywords, with TLS on or not."""
    return _terms(_KEYWORDS.intersection(keywords), secure)


@lru_cache(maxsize=256)
def _terms(keywords: frozenset[str], secure: bool) -> HopTerms:
    offered = [row for row in EXTENSIONS if row.keyword in keywords and (secure or not row.tls)]
    demands = [row.demand for row in EXTENSIONS if row.demand is not None and row not in offered]
    return HopTerms(
        tuple(each for row in offered for each in row.mail if each not in _NOT_SENT_ON),
        tuple(each for row in offered for each in row.rcpt),
        tuple(each for each in demands if each.parameter.keyword in _MAIL),
        tuple(each for each in demands if each.parameter.keyword not in _MAIL),
    )
