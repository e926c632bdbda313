"""The plugin door."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from mailhub.interfaces.accounts import IAccounts, IAuthenticator
    from mailhub.interfaces.database import IDatabase
    from mailhub.interfaces.environment import Environment
    from mailhub.interfaces.mailboxes import IMailStore
    from mailhub.interfaces.pipeline import IPipeline
    from mailhub.interfaces.transport import IQueue, IRouter

T = TypeVar("T")


@attrs.frozen
class Part:
    """Which component something is: its kind, what the configuration calls it (the name of its table, or of the plugin
    where it has no table), and the file of the plugin that made it."""

    kind: str
    name: str
    file: str


class IHub(Interface):
    """What a component may use when it is built, ours or a plugin's.

    The graph is built in the order of these attributes: what stands behind the line that a kind of component is named
    in is not there yet when one is built.
    """

    part: Part = Attribute("Whose hub this is: the component that is built with it.")
    hostname: str = Attribute("Our name in greetings and trace fields.")
    domains: frozenset[str] = Attribute("Local domains now, A-labels. They change while the hub runs: keep no copy.")
    environment: Environment = Attribute("Clock, network, resolver, randomness, threads, data folder.")
    settings: Any = Attribute("The whole configuration, a `mailhub.config.settings.Config`.")
    client_tls: Any = Attribute("TLS of outgoing connections, a `mailhub.net.tls.ClientTls`.")
    passwords: Any = Attribute("Verifies passwords off the reactor thread, a `mailhub.auth.passwords.Passwords`.")
    verified: Any = Attribute("Credentials that were verified lately, a `mailhub.auth.checkers.VerifiedCache`.")
    hops: Any = Attribute('The tables [route."domain"], a `mailhub.delivery.routing.NextHop` by domain.')
    database: IDatabase = Attribute("mailhub's own database. There, with what is in it, from the store on.")
    accounts: IAccounts = Attribute("Its account table.")
    queue: IQueue = Attribute("Its queue.")
    names: Any = Attribute("Local domains and aliases, a `mailhub.delivery.names.LocalNames`.")
    store: IMailStore = Attribute("The mailbox store. There from the routers on.")
    routing: IRouter = Attribute("All routers as one. There from the agents on.")
    harvest: Any = Attribute("Slows down who tries names, a `mailhub.auth.harvest.Harvest`. There for services.")
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

    kind: str = Attribute("database, store, checker, router, agent, policy, rule or service.")
    name: str = Attribute("What the configuration calls it.")
    options: type = Attribute("attrs class of the keys its table may have.")

    def build(options: Any, hub: IHub) -> Any:
        """The component: what its kind promises (IDatabase, IMailStore, ICredentialsChecker, IRouter, IDeliveryAgent,
        IPolicy, IMailRules; for a service see `IService`)."""
