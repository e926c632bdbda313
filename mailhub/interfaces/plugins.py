"""The plugin door."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface

from mailhub.interfaces.accounts import (
    IAccounts,
)
from mailhub.interfaces.environment import Environment
from mailhub.interfaces.mailboxes import IMailStore
from mailhub.interfaces.transport import (
    IQueue,
)


class IHub(Interface):
    """What a component may use when it is built. Later attributes are set in this order as the graph is built."""

    hostname: str = Attribute("Our name in greetings and trace fields.")
    domains: frozenset[str] = Attribute("Local domains now, A-labels. They change while the hub runs: keep no copy.")
    environment: Environment = Attribute("Clock, network, resolver, randomness, threads, data folder.")
    settings: Any = Attribute("The whole configuration, a `mailhub.config.settings.Config`.")
    accounts: IAccounts = Attribute("mailhub's own account table.")
    queue: IQueue = Attribute("The durable queue.")
    store: IMailStore = Attribute("The mailbox store.")


class IComponentFactory(Interface):
    """A plugin: makes one kind of component from its table in the configuration.

    Found with `twisted.plugin` in any `twisted/plugins/` folder on the path. `options` is an attrs class: its
    fields are the allowed keys (a missing default makes a key required), their types are checked.
    """

    kind: str = Attribute("store, checker, router, agent or policy.")
    name: str = Attribute("What the configuration calls it.")
    options: type = Attribute("attrs class of the keys its table may have.")

    def build(options: Any, hub: IHub) -> Any:
        """The component: IMailStore, ICredentialsChecker, IRouter, IDeliveryAgent or IPolicy."""
