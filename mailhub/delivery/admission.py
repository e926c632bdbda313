"""Who may send to whom: whether a recipient is taken, and where its mail goes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import attrs

from mailhub.delivery.backup_mx import NO_BACKUP, BackupMx
from mailhub.delivery.names import LocalNames
from mailhub.delivery.ownership import Owners
from mailhub.delivery.srs import is_srs
from mailhub.errors import NoSuchUser, NotPermitted, NotYetKnown, OverQuota, PermanentError, TemporaryError
from mailhub.interfaces import STORE, IAccounts, IMailStore, IRouter, ITransactionView, Origin, Route
from mailhub.message.address import Address, is_role, literal_of
from mailhub.message.envelope import Recipient

# `user%host@relay`, `host!user@relay` and `user@host@relay` were ways to say by which servers mail is to go.
_ROUTING = re.compile("[@%!]")
_WAYS = 4096  # addresses whose ways are remembered


def _unknown_way(_address: Address) -> tuple[Route, ...] | None:
    """Of routers that are not ours."""
    return None


def _nobody_is_known(_user: str, _size: int) -> bool:
    """To a store that has to be asked each time."""
    return False


@attrs.frozen(kw_only=True, eq=False)
class Admission:
    """The rules of one hub. `main_domain` has the users of our addresses (`user@[192.0.2.1]`), "" for none."""

    hostname: str
    names: LocalNames
    store: IMailStore
    routing: IRouter
    backup: BackupMx = NO_BACKUP
    accounts: IAccounts | None = None
    main_domain: str = ""
    _owners: Owners = attrs.field(init=False)
    # By address, and by the generation of the names that it was found by.
    _way_to_account: Callable[[Address, int], tuple[Route, ...] | None] = attrs.field(init=False)
    _has_room: Callable[[str, int], bool] = attrs.field(init=False)

    @_owners.default
    def _by_the_accounts(self) -> Owners:
        return Owners(self.accounts)

    @_way_to_account.default
    def _remembered_ways(self) -> Callable[[Address, int], tuple[Route, ...] | None]:
        way = getattr(self.routing, "way_to_account", _unknown_way)
        return lru_cache(maxsize=_WAYS)(lambda address, _generation: way(address))

    @_has_room.default
    def _memory_of_the_store(self) -> Callable[[str, int], bool]:
        has_room: Callable[[str, int], bool] = getattr(self.store, "has_room", _nobody_is_known)
        return has_room

    def way_at_hand(self, address: Address, size: int) -> tuple[Route, ...] | None:
        """As `ways`, where nobody has to be asked: an account here that its store knows to have room for `size` octets,
        to whom anybody may write. None for all else, be it right or wrong."""
        names = self.names
        if not names.is_fresh:
            return None
        routes = self._way_to_account(address, names.generation)
        return routes if routes is not None and self._has_room(routes[0].target, size) else None

    async def ways(self, transaction: ITransactionView, address: Address) -> tuple[Route, ...]:
        """Where the mail of this transaction for `address` goes, at least one way.

        A domain or alias may have been added a moment ago: before a refusal all is asked again, unless nothing has
        changed. A mailbox known to be full is refused with 5.2.2: the sender's own host tells the sender at once, and a
        full mailbox seldom empties within a queue's patience (RFC 5321 4.2.2 has 552 for it). Raises NotPermitted,
        NoSuchUser, OverQuota, PermanentError, TemporaryError.
        """
        await self.names.refresh()
        asked = self.names.generation
        try:
            routes = await self._permitted(transaction, address)
        except (PermanentError, NotYetKnown):
            await self.names.look_again()
            if self.names.generation == asked:
                raise
            routes = await self._permitted(transaction, address)
        await self._check_quota(routes, transaction.mail.size)
        return routes

    async def _permitted(self, transaction: ITransactionView, address: Address) -> tuple[Route, ...]:
        origin = transaction.origin
        address = self.meant(origin, address)
        if not (origin.user or self._is_local(address) or self.backup.takes(address)):
            raise NotPermitted("Relaying denied")
        routes = await self.routes(transaction, address)
        if not origin.user and _ROUTING.search(address.local):
            _check_onward(address, routes)
        return routes

    def meant(self, origin: Origin, address: Address) -> Address:
        """Who is meant by a name at the address of ours that was called; any other address is itself. RFC 5321 4.1.3
        and 4.5.1: who cannot use our name can still write to us, to tell the postmaster so. Raises NoSuchUser."""
        local = origin.local
        if not local or address.domain not in (literal_of(local), literal_of(f"::ffff:{local}")):
            return address
        found = Address(address.local, self.hostname if is_role(address) else self.main_domain)
        if not self._is_local(found):
            raise NoSuchUser()
        return found

    async def routes(self, transaction: ITransactionView, address: Address) -> tuple[Route, ...]:
        """As `ways`, for an address that we name ourselves: whoever sends, however full its mailbox."""
        routes = await self.routing.route(address, transaction)
        if not routes:
            raise TemporaryError("Server configuration error", status="4.3.5", detail=f"no router knows {address}")
        return tuple(routes)

    def check_route(self, recipient: Recipient) -> None:
        """A source route is good for getting here, and no further. Raises NotPermitted."""
        if not self._is_local(recipient.address):
            raise NotPermitted("Relaying by a source route denied")

    async def check_owner(self, since: int, routes: Sequence[Route]) -> None:
        """RFC 7293 5.1: a mailbox that is younger than its sender's knowledge of it (seconds since the epoch) is
        somebody else's. Raises PermanentError, StoreUnavailable."""
        for route in routes:
            await self._owners.check(since, route)

    def _is_local(self, address: Address) -> bool:
        domain = address.ascii_domain
        return domain in self.names.domains or (domain == self.hostname and is_role(address))

    async def _check_quota(self, routes: Sequence[Route], size: int) -> None:
        """Raises OverQuota when no route has room; a list with one full mailbox is accepted, and the DSN tells."""
        full: OverQuota | None = None
        for route in routes:
            if route.agent != STORE or route.create:
                return
            try:
                await self.store.check_quota(route.target, size)
            except OverQuota as error:
                full = error
            else:
                return
        if full is not None:
            raise full


def _check_onward(address: Address, routes: Sequence[Route]) -> None:
    """The next server may read a local part such as `user%other.example` as a way on, and trusts us: a stranger must
    not have us ask it for that. Raises NotPermitted."""
    for route in routes:
        # What an address of ours was made of, with our signature, is no stranger's choice.
        ours = is_srs(address) and route.recipient.local != address.local
        if route.agent != STORE and _ROUTING.search(route.recipient.local) and not ours:
            raise NotPermitted("Relaying by a route in the local part denied")
