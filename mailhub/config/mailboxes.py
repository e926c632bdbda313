"""[mailboxes]: which of several stores has what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import attrs

from mailhub.config import rules
from mailhub.config.reader import Place, one_of
from mailhub.errors import InvalidMailboxName
from mailhub.message.address import Address
from mailhub.message.mailbox_names import INBOX, check, normalise
from mailhub.store.several import MAIN, Shares


@attrs.frozen
class MailboxesTable:
    """[mailboxes.domains], [mailboxes.accounts], [mailboxes.folders]: names of [stores.x], or "store" for [store]."""

    domains: Mapping[str, str] = attrs.field(factory=dict)
    accounts: Mapping[str, str] = attrs.field(factory=dict)
    folders: Mapping[str, str] = attrs.field(factory=dict)


def shares_of(
    table: MailboxesTable, stores: Collection[str], domains: Collection[str], place: Place, stores_place: Place
) -> Shares:
    """What the table says, in the names that are used inside. Raises ConfigurationError for a store that there is not,
    one that nobody has, what is not ours, and what is no mailbox."""
    if MAIN in stores:
        raise stores_place.inside(MAIN).error("is what [store] is called; give it another name")
    inside = place.inside("mailboxes")

    def read(key: str, name: Callable[[str], str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for written, store in getattr(table, key).items():
            here = inside.inside(key).at(f'"{written}"')
            if store != MAIN and store not in stores:
                raise here.error(f"there is no store called {store!r}; {one_of(store, [*stores, MAIN])}")
            try:
                known = name(written)
            except (ValueError, InvalidMailboxName) as error:
                raise here.error(str(error)) from None
            if known in found:
                raise here.error("is the same as another key")
            found[known] = store
        return found

    def local(domain: str) -> str:
        domain = rules.domain(domain)
        if domain not in domains:
            raise ValueError(f"{domain} is none of our domains: add it to domains")
        return domain

    def account(written: str) -> str:
        address = Address.parse(rules.address(written))
        local(address.ascii_domain)
        return address.key

    shares = Shares(read("domains", local), read("accounts", account), read("folders", _folder))
    used = {*shares.domains.values(), *shares.accounts.values(), *shares.folders.values()}
    for name in stores:
        if name not in used:
            raise stores_place.inside(name).error(
                "nobody has this store; name it under [mailboxes.domains], .accounts or .folders"
            )
    return shares


def _folder(written: str) -> str:
    name = normalise(written)
    try:
        check(name)
    except InvalidMailboxName as error:
        raise ValueError(error.text) from None
    if name == INBOX:
        raise ValueError("an account's INBOX is in the account's own store: name the account or its domain")
    return name
