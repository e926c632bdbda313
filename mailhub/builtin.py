"""mailhub's own components, made by the factories that any plugin would have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from mailhub.auth.checkers import AccountsChecker
from mailhub.delivery.alias_file import ALIASES_FILE, AliasFileOptions, AliasFileRouter
from mailhub.delivery.authentication.screen import MailAuthentication
from mailhub.delivery.authentication.sealing import Sealer
from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.backup_mx import DOMAINS as BACKUP_DOMAINS
from mailhub.delivery.filters.clamav import Clamav, ClamavOptions
from mailhub.delivery.filters.milter import Milter, MilterOptions
from mailhub.delivery.filters.policy_service import PolicyService, PolicyServiceOptions
from mailhub.delivery.filters.rspamd import Rspamd, RspamdOptions
from mailhub.delivery.filters.web_policy import WebPolicy, WebPolicyOptions
from mailhub.delivery.forwarding import ROUTER, SrsKeys, SrsRouter, days_of
from mailhub.delivery.intake import Intake
from mailhub.delivery.limits import DETAIL_MAILBOXES
from mailhub.delivery.list_bounces import Bounces
from mailhub.delivery.list_decisions import Decisions
from mailhub.delivery.list_desk import RequestAgent
from mailhub.delivery.list_holding import HoldAgent
from mailhub.delivery.list_mail import Commit, ListMail
from mailhub.delivery.list_names import BOUNCE_AGENT, HOLD_AGENT, LIST, LISTS, REQUEST_AGENT
from mailhub.delivery.list_paths import ListKey, MemberPaths
from mailhub.delivery.list_returns import BounceAgent
from mailhub.delivery.lists import ListAgent, ListRouter
from mailhub.delivery.local import StoreAgent
from mailhub.delivery.ownership import Owners
from mailhub.delivery.pipeline import Pipeline
from mailhub.delivery.plan import Accepted
from mailhub.delivery.relay.lmtp import LmtpAgent
from mailhub.delivery.relay.smtp import SmtpAgent
from mailhub.delivery.routing import (
    AccountRouter,
    AliasRouter,
    CatchAllRouter,
    ExchangerRouter,
    PostmasterRouter,
    StaticRouter,
)
from mailhub.delivery.screening.dnsbl import Dnsbl, DnsblOptions
from mailhub.delivery.screening.early import EarlyOptions, EarlyTalker
from mailhub.delivery.screening.greylist import Greylist, GreylistOptions
from mailhub.delivery.screening.helo import Helo, HeloOptions
from mailhub.delivery.screening.rates import RateOptions, Rates
from mailhub.delivery.screening.reverse_dns import ReverseDns, ReverseDnsOptions
from mailhub.delivery.screening.sender_domain import SenderDomain
from mailhub.delivery.transports.pipe import PipeAgent, PipeOptions
from mailhub.delivery.transports.plain import DiscardAgent, ErrorAgent, ErrorOptions
from mailhub.delivery.transports.table import TransportRouter
from mailhub.interfaces import Committed, IDatabase, IHub, IMailStore, IPolicy, IService, Service
from mailhub.message.envelope import Mail
from mailhub.message.patterns import AddressPatterns
from mailhub.plugins import Component, NoOptions
from mailhub.protocols.imap.session import ImapService
from mailhub.protocols.pop3 import Pop3Service
from mailhub.protocols.smtp import SmtpService
from mailhub.services import SERVICES
from mailhub.store.limits import StoreLimits
from mailhub.store.maildir.store import MaildirOptions, maildir_store
from mailhub.store.sqlite.database import Database


def _commit_by(hub: IHub) -> Commit:
    """The pipeline is there when it is asked."""

    async def commit(mail: Mail, accepted: Sequence[Accepted], intake: Intake, once: str) -> Committed:
        return await cast(Pipeline, hub.pipeline).send_on(mail, accepted, intake, once)

    return commit


def _list_mail(hub: IHub) -> ListMail:
    return ListMail(hub.hostname, hub.queue, hub.routing, _commit_by(hub), Signer.of(hub))


def _list_agent(hub: IHub) -> ListAgent:
    state = hub.database.state.of("list-portions")
    paths, bounces = MemberPaths.of(hub), _bounces(hub)
    return ListAgent(
        hub.names,
        hub.routing,
        hub.queue,
        hub.environment,
        state,
        paths,
        bounces,
        _commit_by(hub),
        Sealer.of(hub),
        Signer.of(hub),
    )


def _request_agent(hub: IHub) -> RequestAgent:
    state, mail, key = hub.database.state.of("lists"), _list_mail(hub), ListKey.of(hub)
    decisions = Decisions(hub.queue, hub.database.state.of("list-decisions"), key)
    return RequestAgent(
        hub.names, hub.database.names, state, hub.environment, hub.queue, mail, key, _bounces(hub), decisions
    )


def _bounces(hub: IHub) -> Bounces:
    return hub.shared("list bounces", lambda: Bounces.of(hub.database.state))


def _bounce_agent(hub: IHub) -> BounceAgent:
    return BounceAgent(hub.names, hub.environment, MemberPaths.of(hub), _bounces(hub), _list_mail(hub))


def _hold_agent(hub: IHub) -> HoldAgent:
    return HoldAgent(hub.names, hub.queue, _list_mail(hub), ListKey.of(hub))


def _mailboxes(_: NoOptions, hub: IHub) -> IMailStore:
    """The mailboxes in the very database of the queue: what is accepted is delivered by one commit."""
    return hub.database.store


def _sqlite_database(_: NoOptions, hub: IHub) -> IDatabase:
    """One file in the data folder, with the large bodies beside it."""
    return Database(hub.environment, hub.settings.of(StoreLimits))


def _next_hops(_: NoOptions, hub: IHub) -> StaticRouter:
    """The tables [route."domain"]; domains that we are a backup for have better exchangers."""
    backup = hub.settings.value(BACKUP_DOMAINS)
    return StaticRouter(hub.hops, AddressPatterns.parse(backup))


sqlite_database = Component("database", "sqlite", _sqlite_database)
database_store = Component("store", "database", _mailboxes)
sqlite_store = Component("store", "sqlite", _mailboxes)  # the same, as configuration files of mailhub 0.1 call it
maildirs = Component("store", "maildir", maildir_store, MaildirOptions)

store_agent = Component(
    "agent",
    "store",
    lambda _, hub: StoreAgent(hub.store, hub.environment, hub.directories, Owners(hub.accounts)),
)
smtp_agent = Component("agent", "smtp", lambda _, hub: SmtpAgent(hub.hops, hub.relay.transmitter(), hub.hop))
lmtp_agent = Component("agent", "lmtp", lambda _, hub: LmtpAgent(hub.hops, hub.relay.transmitter(), hub.hop))
pipe_agent = Component("agent", "pipe", PipeAgent.of, PipeOptions, yields=True)
discard_agent = Component("agent", "discard", lambda _, hub: DiscardAgent(), yields=True)
error_agent = Component("agent", "error", lambda options, hub: ErrorAgent(options), ErrorOptions, yields=True)

accounts_checker = Component(
    "checker", "accounts", lambda _, hub: AccountsChecker(hub.accounts, hub.passwords, hub.verified)
)

aliases_router = Component("router", "aliases", lambda _, hub: AliasRouter(hub.names, hub.store, hub.directories))
accounts_router = Component(
    "router",
    "accounts",
    lambda _, hub: AccountRouter(
        hub.names, hub.store, hub.directories, detail_mailboxes=hub.settings.value(DETAIL_MAILBOXES)
    ),
)
postmaster_router = Component(
    "router", "postmaster", lambda _, hub: PostmasterRouter(hub.hostname, hub.names, hub.store, hub.directories)
)
catch_all_router = Component(
    "router", "catch-all", lambda _, hub: CatchAllRouter(hub.names, all_known=hub.directories.complete)
)
srs_router = Component(
    "router",
    ROUTER,
    lambda _, hub: SrsRouter(
        names=hub.names, keys=SrsKeys.of(hub), environment=hub.environment, days=days_of(hub.settings)
    ),
)
transports_router = Component("router", "transports", lambda _, hub: TransportRouter(hub.transports))
lists_router = Component(
    "router",
    LISTS,
    lambda _, hub: ListRouter(hub.names, hub.store, hub.queue, MemberPaths.of(hub), hub.directories),
)
list_request_agent = Component("agent", REQUEST_AGENT, lambda _, hub: _request_agent(hub))
list_hold_agent = Component("agent", HOLD_AGENT, lambda _, hub: _hold_agent(hub))
list_bounce_agent = Component("agent", BOUNCE_AGENT, lambda _, hub: _bounce_agent(hub))
list_agent = Component("agent", LIST, lambda _, hub: _list_agent(hub))
alias_file_router = Component(
    "router",
    ALIASES_FILE,
    lambda options, hub: AliasFileRouter(options, hub.names, hub.store, hub.environment, hub.directories),
    AliasFileOptions,
)
static_router = Component("router", "static", _next_hops)
exchangers_router = Component("router", "exchangers", lambda _, hub: ExchangerRouter())

# --- Policies: what mailhub has against bad senders -------------------------------------------------------------------


def _policy(name: str, make: Callable[[Any, IHub], IPolicy], options: type) -> Component:
    return Component("policy", name, make, options, yields=True)


checks_policy = _policy("checks", MailAuthentication.of, NoOptions)
helo_policy = _policy("helo", Helo.of, HeloOptions)
early_talker_policy = _policy("early-talker", EarlyTalker.of, EarlyOptions)
rates_policy = _policy("rates", Rates.of, RateOptions)
sender_domain_policy = _policy("sender-domain", SenderDomain.of, NoOptions)
reverse_dns_policy = _policy("reverse-dns", ReverseDns.of, ReverseDnsOptions)
dnsbl_policy = _policy("dnsbl", Dnsbl.of, DnsblOptions)
greylist_policy = _policy("greylist", Greylist.of, GreylistOptions)
clamav_policy = _policy("clamav", Clamav.of, ClamavOptions)
rspamd_policy = _policy("rspamd", Rspamd.of, RspamdOptions)
http_policy = _policy("http", WebPolicy.of, WebPolicyOptions)
policy_service_policy = _policy("policy-service", PolicyService.of, PolicyServiceOptions)
milter_policy = _policy("milter", Milter.of, MilterOptions)


# --- Services: how the sessions of each row of the table are made -----------------------------------------------------


def _service(name: str, make: Callable[[Service, IHub], IService]) -> Component:
    service = SERVICES[name]
    return Component("service", name, lambda _, hub: make(service, hub), service=service)


smtp_service = _service("smtp", SmtpService.of)
lmtp_service = _service("lmtp", SmtpService.of)
submission_service = _service("submission", SmtpService.of)
submissions_service = _service("submissions", SmtpService.of)
imap_service = _service("imap", ImapService.of)
imaps_service = _service("imaps", ImapService.of)
pop3_service = _service("pop3", Pop3Service.of)
pop3s_service = _service("pop3s", Pop3Service.of)
