"""Looks after our keys of DKIM: sees when DNS has the record of a new one, and makes followers of those that are old.

Each step is one write, and what it finds undone at the next round it does then: a server may be killed between any two.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import Protocol, cast

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall

from mailhub.checks.signing import new_key
from mailhub.delivery.authentication.keys import (
    KeptKey,
    KeptKeys,
    is_shown,
    made,
    over,
    switched,
    too_old,
    zone_line,
)
from mailhub.delivery.authentication.options import SigningOptions
from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.intake import Intake
from mailhub.delivery.message_ids import message_id
from mailhub.delivery.plan import Accepted
from mailhub.delivery.schedule import Schedule
from mailhub.errors import MailError, NotYetKnown, PermanentError, TemporaryError
from mailhub.interfaces import (
    Committed,
    Environment,
    IPipeline,
    IQueue,
    IResolver,
    IRouter,
    ISettings,
    IThreads,
    OwnTransaction,
)
from mailhub.log import Logger
from mailhub.message.address import POSTMASTER, Address
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.trace import return_path

_log = Logger(namespace="mailhub.delivery.dkim")

_FIRST_SECONDS = 10.0  # after the start
_ROUND_SECONDS = 180.0  # between looks at DNS
_ASKED = 200  # names of one round


# --- Steps, for the server and for the command ------------------------------------------------------------------------


async def records_of(key: KeptKey, resolver: IResolver) -> Sequence[bytes] | None:
    """What DNS has at the key's name; None where no answer can be had."""
    try:
        return await resolver.texts(key.key.name)
    except TemporaryError:
        return None
    except PermanentError:
        return ()


async def follow_dns(
    kept: KeptKeys, resolver: IResolver, now: int, retire_seconds: int, domain: str = ""
) -> Sequence[KeptKey]:
    """Have new keys sign whose records DNS shows. What has changed. Raises StoreUnavailable."""
    asked = [each for each in await kept.all(domain) if each.state == "new"][:_ASKED]
    if not asked:
        return ()
    answers = await gatherResults([Deferred.fromCoroutine(records_of(each, resolver)) for each in asked])
    shown = {each.published for each, records in zip(asked, answers, strict=True) if is_shown(each.key, records or ())}
    return await switch(kept, shown, now, retire_seconds, domain)


async def switch(
    kept: KeptKeys, shown: Collection[tuple[str, str]], now: int, retire_seconds: int, domain: str = ""
) -> Sequence[KeptKey]:
    """Have new keys with these records sign (`KeptKey.published`), in the place of others. What has changed. Raises
    StoreUnavailable."""
    # Read again: the operator may have removed one while DNS was asked.
    changed = switched(await kept.all(domain), shown, now, retire_seconds) if shown else ()
    if changed:
        await kept.put(changed)
    return changed


async def begin_rotation(
    kept: KeptKeys,
    threads: IThreads,
    domain: str,
    algorithms: Collection[str],
    now: int,
    *,
    selector: str = "",
    announced: bool = True,
) -> Sequence[KeptKey]:
    """New keys of a domain, one for each algorithm; those that are to be published already are not made twice. Raises
    StoreUnavailable."""
    coming = _coming(await kept.all(domain), algorithms)
    lacking = sorted(set(algorithms) - {each.algorithm for each in coming})
    if not lacking:
        return coming
    private = {algorithm: await threads.run(new_key, algorithm) for algorithm in lacking}
    # Read again: the operator may have made some meanwhile.
    there = await kept.all(domain)
    coming = _coming(there, algorithms)
    for each in coming:
        private.pop(each.algorithm, None)
    new = made(private, domain, {each.key.selector for each in there}, now, selector)
    new = [attrs.evolve(each, announced=announced) for each in new]
    await kept.put(new)
    return [*coming, *new]


def _coming(keys: Sequence[KeptKey], algorithms: Collection[str]) -> list[KeptKey]:
    return [each for each in keys if each.state == "new" and each.algorithm in algorithms]


# --- In the server ----------------------------------------------------------------------------------------------------


class _Pipeline(Protocol):
    async def send_on(self, mail: Mail, accepted: Sequence[Accepted], intake: Intake, once: str) -> Committed: ...


class Keeping(Protocol):
    """Whose keys are kept: a hub, by what its configuration says now."""

    @property
    def hostname(self) -> str: ...
    @property
    def settings(self) -> ISettings: ...
    @property
    def queue(self) -> IQueue: ...
    @property
    def routing(self) -> IRouter: ...
    @property
    def pipeline(self) -> IPipeline: ...
    @property
    def signer(self) -> Signer: ...


class KeyKeeper:
    """`hub`: the hub as it is now."""

    def __init__(self, environment: Environment, kept: KeptKeys, hub: Callable[[], Keeping]) -> None:
        self._environment = environment
        self._kept = kept
        self._hub = hub
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Look from now on."""
        self._after(_FIRST_SECONDS)

    def stop(self) -> None:
        """No more."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _after(self, seconds: float) -> None:
        def begin() -> None:
            Deferred.fromCoroutine(self._round()).addErrback(
                lambda failure: _log.failure("DKIM keys cannot be looked after", failure)
            )

        self._timer = self._environment.clock.callLater(seconds, begin)

    async def _round(self) -> None:
        timer = self._timer
        try:
            await self.look()
        except MailError as error:
            _log.warn("DKIM keys cannot be looked after: {reason:text}", reason=str(error))
        finally:
            if self._timer is timer and timer is not None:  # it was not stopped meanwhile
                self._after(_ROUND_SECONDS)

    async def look(self) -> None:
        """All that is to be done now. Raises MailError."""
        now, settings = self._environment.now(), self._hub().settings
        retire_seconds = settings.of(Schedule).longest_expiry
        for each in await follow_dns(self._kept, self._environment.resolver, now, retire_seconds):
            _log.event("dkim", {"key": each.key.name, "state": each.state})
        keys = await self._kept.all()
        if gone := over(keys, now):
            await self._kept.remove(gone)
            for each in gone:
                _log.event("dkim", {"key": each.key.name, "state": "forgotten"})
        days = settings.of(SigningOptions).rotate_days
        for domain, algorithms in too_old(keys, now, days).items() if days else ():
            threads = self._environment.threads
            await begin_rotation(self._kept, threads, domain, algorithms, now, announced=False)
        await self._announce()

    async def _announce(self) -> None:
        """Tell the operator once which records are to be published."""
        untold = [each for each in await self._kept.all() if each.state == "new" and not each.announced]
        for domain, some in groupby(untold, lambda each: each.key.domain):
            keys = list(some)
            for each in keys:
                _log.event("dkim", {"key": each.key.name, "state": "to be published"})
            try:
                await self._mail(domain, keys)
            except (PermanentError, NotYetKnown) as error:
                _log.warn("postmaster not told of DKIM keys: {reason:text}", reason=error.text)
            # Read again: what was removed meanwhile must not come again, nor what signs by now be new.
            told = {each.entry for each in keys}
            there = [each for each in await self._kept.all(domain) if each.entry in told]
            await self._kept.put([attrs.evolve(each, announced=True) for each in there])

    async def _mail(self, domain: str, keys: Sequence[KeptKey]) -> None:
        """Repeated, it is one message. Raises MailError."""
        hub, now = self._hub(), self._environment.now()
        to = Address(POSTMASTER, hub.hostname)
        routes = await hub.routing.route(to, OwnTransaction(mail=Mail(None))) or ()
        lines = [
            f"From: <{to}>",
            f"To: <{to}>",
            f"Date: {format_date(now)}",
            f"Message-ID: {message_id(self._environment, hub.hostname)}",
            f"Subject: New DKIM keys of {domain} are to be published",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=us-ascii",
            "",
            f"The keys that sign mail of {domain} are to be replaced. Please publish:",
            "",
            *(line for each in keys for line in zone_line(each.key).split("\n")),
            "",
            "Until DNS shows them, the keys of before sign. `mailhub dkim list` says when",
            "the records of those can be taken out.",
            "",
        ]
        octets = await hub.signer.signed("\r\n".join(lines).encode())
        top = return_path(None)
        writer = hub.queue.new_body(len(top) + len(octets))
        try:
            await writer.write(top + octets)
            body = await writer.finish()
        finally:
            writer.abort()
        accepted = [Accepted(Recipient(to), tuple(routes))]
        once = " ".join(["dkim", *(each.key.name for each in keys)])
        try:
            intake = Intake(body, len(top), 0, trace=len(top))
            await cast(_Pipeline, hub.pipeline).send_on(Mail(None, "7BIT"), accepted, intake, once)
        finally:
            body.discard()
