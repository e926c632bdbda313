"""The plugin door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from mailhub.interfaces.accounts import (
        IAccounts,
        IAuthenticator,
        IHarvest,
        ILocalNames,
        IPasswords,
        IUserDirectories,
        IVerifiedLogins,
    )
    from mailhub.interfaces.database import IDatabase, IState
    from mailhub.interfaces.environment import Environment
    from mailhub.interfaces.mailboxes import IMailStore
    from mailhub.interfaces.pipeline import IPipeline
    from mailhub.interfaces.relay import IClientTls, IRelay, NextHop
    from mailhub.interfaces.transport import IQueue, IRouter, ITransports
    from mailhub.keys import Key

T = TypeVar("T")
V = TypeVar("V")


@attrs.frozen
class Part:
    """Which component something is: its kind, what the configuration calls it (the name of its table, or of the plugin
    where it has no table), and the file of the plugin that made it."""

    kind: str
    name: str
    file: str


class ISettings(Interface):
    """What the configuration says. A part declares what it is told (`mailhub.keys`), and sees nothing else."""

    def of(part: type[T], **more: object) -> T:
        """An object of this class, told the keys that it declares, and what else it takes."""

    def value(key: Key[V]) -> V:
        """What is said of one key."""


class IHub(Interface):
    """What a component may use when it is built, ours or a plugin's.

    The graph is built in the order of these attributes: what stands behind the line that a kind of component is named
    in is not there yet when one is built.
    """

    part: Part = Attribute("Whose hub this is: the component that is built with it.")
    hostname: str = Attribute("Our name in greetings and trace fields.")
    domains: frozenset[str] = Attribute("Local domains now, A-labels. They change while the hub runs: keep no copy.")
    environment: Environment = Attribute("Clock, threads, network, resolver, programs, randomness, data folder.")
    settings: ISettings = Attribute("What the configuration says.")
    client_tls: IClientTls = Attribute("TLS of outgoing connections.")
    relay: IRelay = Attribute("Makes SMTP and LMTP clients, for agents.")
    passwords: IPasswords = Attribute("Verifies passwords off the reactor thread.")
    verified: IVerifiedLogins = Attribute("Credentials that were verified lately.")
    hops: Mapping[str, NextHop] = Attribute('The tables `[route."domain"]`, by domain.')
    hop: NextHop | None = Attribute("What a `[transport.x]` says of the server that its agent goes to, for that agent.")
    database: IDatabase = Attribute("mailhub's own database. There, with what is in it, from the store on.")
    accounts: IAccounts = Attribute("Its account table.")
    queue: IQueue = Attribute("Its queue.")
    state: IState = Attribute("What this component remembers over a restart, and no other sees.")
    names: ILocalNames = Attribute("Local domains and aliases.")
    transports: ITransports = Attribute("The tables `[transport.x]`. There from the routers on.")
    store: IMailStore = Attribute("The mailbox store. There from the routers on.")
    directories: IUserDirectories = Attribute(
        "All who know users that may have no account yet, as one. There from the routers on."
    )
    routing: IRouter = Attribute("All routers as one. There from the agents on.")
    harvest: IHarvest = Attribute("Slows down who tries names. There for services.")
    pipeline: IPipeline = Attribute("The way in for mail. There for services.")
    authenticator: IAuthenticator = Attribute("The gate of logins. There for services.")

    def shared(name: str, make: Callable[[], T]) -> T:
        """The one thing of this name in the process: made when it is first asked for, and kept when the configuration
        is read again. For what sessions of several services must know of each other."""


class IComponentFactory(Interface):
    """A plugin: makes one kind of component from its table in the configuration.

    Found in the files of any `twisted/plugins/` folder on the path. `options` is an attrs class: its
    fields are the allowed keys (a missing default makes a key required), their types are checked.
    """

    kind: str = Attribute("database, store, checker, directory, realm, router, agent, policy, rule or service.")
    name: str = Attribute("What the configuration calls it.")
    options: type = Attribute("attrs class of the keys its table may have.")

    def build(options: Any, hub: IHub) -> Any:
        """The component: what its kind promises (IDatabase, IMailStore, ICredentialsChecker, IUserDirectory, IRouter,
        IDeliveryAgent, IPolicy, IMailRules; for a service see `IService`)."""
