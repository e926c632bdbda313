"""mailhub's protocols for somebody's own `.tac`: Twisted factories over a portal, with realm, checkers and avatars that
are not ours.

    factory = imap_factory(Portal(MyRealm(), [MyChecker()]), tls=("certificate.pem", "key.pem"))
    internet.TCPServer(143, factory).setServiceParent(application)

The avatars are `IMailAccount` for IMAP and POP3 and `IMailReceiver` for SMTP, LMTP and submission, or those of
`twisted.mail`. The reactor and the log stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import attrs
from twisted.cred.credentials import Anonymous
from twisted.cred.error import LoginFailed
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.ssl import CertificateOptions
from zope.interface import Interface

from mailhub import avatars, plugin_faults
from mailhub.alone import real_environment, settings
from mailhub.auth.authenticator import Authenticator
from mailhub.auth.foreign_realm import Adapter, Avatars, GuardedPortal, Logout, Wanted, log_out, nothing
from mailhub.auth.harvest import Harvest, HarvestLimits
from mailhub.auth.realm import as_sent
from mailhub.auth.throttle import Throttle, Turns
from mailhub.config.reader import Place
from mailhub.delivery.intake import HEADERS_TOGETHER
from mailhub.delivery.limits import HOPS, LONG_LINES
from mailhub.delivery.receiver import Receiver
from mailhub.delivery.reception import Reception
from mailhub.delivery.spool import Spool
from mailhub.doors import door
from mailhub.errors import NotPermitted
from mailhub.foreign import ADAPTERS, Foreign, Learnt, adapt
from mailhub.guard import Guard, GuardLimits
from mailhub.interfaces import Environment, IMailAccount, IMailReceiver, IService, IState, ISubmitter, Origin, Service
from mailhub.interfaces.services import House
from mailhub.keys import DAY
from mailhub.net.crowd import Room
from mailhub.net.listen import ImplicitTls
from mailhub.net.tls import ServerTls, ServiceTls
from mailhub.protocols.imap.session import ImapService
from mailhub.protocols.pop3 import Pop3Service
from mailhub.protocols.smtp import SmtpService
from mailhub.services import SERVICES
from mailhub.store.memory.state import MemoryStates
from mailhub.wire.budget import Budget
from mailhub.wire.smtp.extensions import COMPLETE

T = TypeVar("T")

# One portal is everybody's door: what keeps one user out must not keep out others.
_NEVER_RESTS = GuardLimits(failures=sys.maxsize)


# What a service takes of `twisted.mail` instead of our interfaces. Of a realm that has several each gets its own.
_THEIRS = {"imap": ("IAccountIMAP",), "pop3": ("IMailboxPOP3",)}
_DELIVERY = ("IMessageDelivery", "IMessageDeliveryFactory")


def smtp_factory(portal: Portal, *, domains: Collection[str] | None = None, **options: Any) -> IProtocolFactory:
    """Mail from other servers (RFC 5321). The portal is asked for an `IMailReceiver` by anonymous credentials
    (`twisted.cred.checkers.AllowAnonymousAccess`).

    `domains`: mail for other ones is refused; None leaves that to the receiver. For the rest see `Options`. Raises
    ConfigurationError.
    """
    return _made(portal, "smtp", domains=domains, **options)


def lmtp_factory(portal: Portal, *, domains: Collection[str] | None = None, **options: Any) -> IProtocolFactory:
    """Mail from a local program, with an answer for each recipient (RFC 2033). As `smtp_factory`."""
    return _made(portal, "lmtp", domains=domains, **options)


def submission_factory(portal: Portal, **options: Any) -> IProtocolFactory:
    """Mail from users, who log in (RFC 6409). The portal is asked for an `IMailReceiver` by name and password. See
    `Options`. Raises ConfigurationError."""
    return _made(portal, "submission", **options)


def imap_factory(portal: Portal, **options: Any) -> IProtocolFactory:
    """Mail read on the server (RFC 9051, RFC 3501). The portal is asked for an `IMailAccount` (or an `IAccountIMAP` of
    `twisted.mail`) by name and password. See `Options`. Raises ConfigurationError."""
    return _made(portal, "imap", **options)


def pop3_factory(portal: Portal, **options: Any) -> IProtocolFactory:
    """Mail fetched from the server (RFC 1939). The portal is asked for an `IMailAccount` (or an `IMailboxPOP3` of
    `twisted.mail`) by name and password. See `Options`. Raises ConfigurationError."""
    return _made(portal, "pop3", **options)


@attrs.frozen(kw_only=True)
class Options:
    """What can be said of a factory.

    * `hostname`: our name in greetings and trace fields; that of the machine by default.
    * `tls`: the paths of certificate and key (PEM; they are read again when they change), or what Twisted takes, as a
      `twisted.internet.ssl.CertificateOptions`.
    * `implicit_tls`: TLS is spoken from the first octet (ports 465, 993, 995), instead of by STARTTLS.
    * `cleartext_login`: networks (`127.0.0.0/8`) from which passwords are taken without TLS.
    * `extensions`: of SMTP, LMTP and submission, those of `DSN`, `REQUIRETLS`, `DELIVERBY`, `FUTURERELEASE`
      (submission), `MT-PRIORITY` and `RRVS` that the receiver carries out. Others of these are not offered, for it is
      the receiver who would have to send a report, or on time.
    * `limits`, `smtp`: as the tables `[limits]` and `[smtp]` of a configuration file (docs/configuration.rst).
    * `timeout_seconds`: for an answer of portal and avatars.
    * `name`: what the log calls the service.
    * `environment`: clock, threads and chance, for tests. All factories of one portal have that of the first.
    """

    hostname: str = ""
    tls: Any = None
    implicit_tls: bool = False
    cleartext_login: Sequence[str] = ()
    domains: Collection[str] | None = None
    extensions: Collection[str] = ()
    limits: Mapping[str, int | bool] = attrs.field(factory=dict)
    smtp: Mapping[str, str] = attrs.field(factory=dict)
    timeout_seconds: float = 30.0
    name: str = ""
    environment: Environment | None = None


def _made(portal: Portal, service: str, **options: Any) -> IProtocolFactory:
    place = Place(f"{service}_factory", Path())
    known = {field.name for field in attrs.fields(Options)} - _NOT_OF.get(service, set())
    for name in options:
        if name not in known:
            raise place.at(name).error(f"is none of its options: {', '.join(sorted(known))}")
    return Embedding(portal, service, _looked_at(Options(**options), place, service)).factory()


_NOT_OF = {"submission": {"domains"}, "imap": {"domains", "extensions"}, "pop3": {"domains", "extensions"}}
# What asks more of the receiver than to keep the message; XVERP and ETRN ask for a queue of ours.
_FOR_RECEIVERS = frozenset({"DSN", "REQUIRETLS", "DELIVERBY", "FUTURERELEASE", "MT-PRIORITY", "RRVS"})
_OF_SESSIONS = COMPLETE - _FOR_RECEIVERS - {"XVERP", "ETRN"}


def _looked_at(options: Options, place: Place, service: str) -> Options:
    """What the tables' own rules do not look at. Raises ConfigurationError."""
    for name in ("domains", "cleartext_login", "extensions"):
        given = getattr(options, name)
        if isinstance(given, str | bytes) or not isinstance(given, Collection | None):
            raise place.at(name).error(f"must be a list of texts, not {given!r:.100}")
    declared = _FOR_RECEIVERS - (set() if service == "submission" else {"FUTURERELEASE"})
    for each in options.extensions:
        if not isinstance(each, str) or each.upper() not in declared:
            raise place.at("extensions").error(f"must be of {', '.join(sorted(declared))}, not {each!r:.100}")
    for name in ("limits", "smtp"):
        if not isinstance(given := getattr(options, name), Mapping):
            raise place.at(name).error(f"must be a dict, not {given!r:.100}")
    for name in ("hostname", "name"):
        given = getattr(options, name)
        if not isinstance(given, str) or not given.isprintable() or len(given) > _NAME:
            raise place.at(name).error(f"must be a text of one line, {_NAME} characters at most, not {given!r:.100}")
    seconds: Any = options.timeout_seconds
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= DAY:
        raise place.at("timeout_seconds").error(
            f"must be a number of seconds, from above 0 to {DAY}, not {seconds!r:.100}"
        )
    if not isinstance(options.implicit_tls, bool):
        raise place.at("implicit_tls").error(f"must be True or False, not {options.implicit_tls!r:.100}")
    return options


_NAME = 255


class Common:
    """What all factories over one portal share: what is known of guessers, which maildrops are open, how much room
    there is."""

    def __init__(self, portal: Any, environment: Environment) -> None:
        self.portal = portal
        self.environment = environment
        self.room = Room()
        self.turns = Turns()
        self.headers = Budget(HEADERS_TOGETHER)
        self.spool = Spool(environment.threads)
        self.states = MemoryStates(environment.now)
        self._shared: dict[str, Any] = {}

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """See `IHub`."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]
        return found


# By the identity of the portal, which is kept as long as there is a factory over it.
_commons: WeakValueDictionary[int, Common] = WeakValueDictionary()


class Embedding:
    """One factory in the making, and what its sessions stand on: a `House`."""

    def __init__(self, portal: Portal, service: str, options: Options) -> None:
        """Raises ConfigurationError."""
        self._place = Place(f"{service}_factory", Path())
        self._service = service
        self._row = row = attrs.evolve(SERVICES[service], implicit_tls=options.implicit_tls)
        self._name = options.name or service
        self._extensions = _OF_SESSIONS.union(each.upper() for each in options.extensions)
        self.settings = config = settings(
            self._place.file,
            hostname=options.hostname,
            domains=options.domains or (),
            limits=options.limits,
            smtp=options.smtp,
            trust={"cleartext_login": list(options.cleartext_login)},
        )
        self.hostname = config.hostname
        if not callable(getattr(portal, "login", None)):
            raise self._place.error(f"{portal!r:.100} is no twisted.cred.portal.Portal")
        if options.tls is None and options.implicit_tls:
            raise self._place.at("implicit_tls").error("goes with tls=(certificate, key)")
        if options.tls is None and row.login and not config.trust.cleartext_login:
            raise self._place.at("tls").error("nobody could log in: give (certificate, key), or cleartext_login")
        common = _commons.get(id(portal)) or Common(portal, options.environment or real_environment())
        self._common = _commons[id(portal)] = common
        self.environment = environment = common.environment
        self._tls = self._server_tls(options.tls)
        realm = getattr(portal, "realm", portal)
        file = _file_of(realm)
        self._guard = Guard(
            "realm", type(realm).__name__, file, environment.clock, options.timeout_seconds, limits=_NEVER_RESTS
        )
        self._gate = GuardedPortal(portal, Avatars(self._guard, self._wanted(), avatars.lacks), kept=common)
        harvest = config.of(HarvestLimits)
        self.harvest = self.shared("harvest", lambda: Harvest(environment.clock, harvest))
        throttle = self.shared("throttle", lambda: config.of(Throttle))
        self.authenticator = Authenticator(
            self._gate, environment.clock, throttle, turns=common.turns, canonical=as_sent
        )
        self.pipeline = Reception(
            hostname=self.hostname,
            environment=environment,
            spool=common.spool,
            anonymous=self._anonymous,
            domains=None if options.domains is None else frozenset(config.domains),
            hop_limit=config.value(HOPS),
            long_lines=config.value(LONG_LINES),
            headers=common.headers,
        )

    def factory(self) -> IProtocolFactory:
        """Makes the connections."""
        made = _SESSIONS[self._service](self._row, self)
        if isinstance(made, SmtpService):
            # Where the receiver is asked for the postmaster (RFC 5321 4.5.1).
            domain = next(iter(self.settings.domains), "")
            offered = attrs.evolve(made.options, postmaster_domain=domain, extensions=self._extensions)
            made = attrs.evolve(made, options=offered)
        factory = door(
            self._name,
            self._row,
            made,
            environment=self.environment,
            settings=self.settings,
            tls=self._tls,
            room=self._common.room,
        )
        return ImplicitTls(self._tls, factory, self.environment.clock) if self._row.implicit_tls else factory

    @property
    def state(self) -> IState:
        """See `IHub`; without a database it is gone with the process."""
        return self._common.states.of(f"service {self._service}")

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """See `IHub`."""
        return self._common.shared(name, make)

    def _server_tls(self, tls: Any) -> Any:
        if isinstance(tls, tuple | list) and len(tls) == 2:
            certificate, key = (Path(path) for path in tls)
            return ServiceTls(ServerTls(certificate, key, self.environment.clock), self._row.alpn)
        if tls is None or isinstance(tls, CertificateOptions) or IOpenSSLServerConnectionCreator.providedBy(tls):
            return tls
        raise self._place.at("tls").error(f"must be (certificate, key) or a CertificateOptions, not {tls!r:.100}")

    # --- Avatars ----------------------------------------------------------------------------------------------------

    def _wanted(self) -> Mapping[type[Interface], Wanted]:
        # Limits on what is taken do not hide what is there.
        foreign = Foreign(self.environment, self._guard, hostname=self.hostname, learnt=self.shared("learnt", Learnt))

        def account(interface: type[Interface]) -> Adapter:
            # The session tells the account, which calls the realm's function.
            return lambda avatar, user, logout: (adapt(interface, avatar, user, foreign, logout), nothing)

        def receiver(interface: type[Interface]) -> Adapter:
            return lambda avatar, user, logout: (adapt(interface, avatar, user, foreign, nothing), logout)

        theirs = [each for each in ADAPTERS if each.__name__ in _THEIRS.get(self._service, _DELIVERY)]
        accounts = avatars.accounts(self._guard, {each: account(each) for each in theirs})
        receivers = avatars.receivers(self._guard, {each: receiver(each) for each in theirs})
        return {IMailAccount: accounts, ISubmitter: receivers, IMailReceiver: receivers}

    async def _anonymous(self, origin: Origin) -> tuple[Receiver, Logout]:
        try:
            _, receiver, logout = await self._gate.login(Anonymous(), origin, IMailReceiver)
        except LoginFailed:
            raise NotPermitted from None
        return receiver, partial(log_out, logout, origin.session_id)


_SESSIONS: Mapping[str, Callable[[Service, House], IService]] = {
    "smtp": SmtpService.of,
    "lmtp": SmtpService.of,
    "submission": SmtpService.of,
    "imap": ImapService.of,
    "pop3": Pop3Service.of,
}


def _file_of(realm: Any) -> str:
    """Where it is written; what a `.tac` defines is in no module."""
    code = getattr(getattr(realm, "requestAvatar", None), "__code__", None)
    return code.co_filename if isinstance(code, CodeType) else plugin_faults.source(realm)
