"""The policies of domains that have one (MTA-STS, RFC 8461): found, fetched, kept over a restart, and fetched again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailhub.errors import MailError, StoreUnavailable, TemporaryError
from mailhub.interfaces import Environment, IClientTls, IResolver, IState
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.mta_sts import POLICY_OCTETS, KeptPolicy, StsPolicy, record_id
from mailhub.net.https import CertificateInvalid, Https

_log = Logger(namespace="mailhub.delivery.sts")

FETCH_SECONDS = 60.0  # RFC 8461 3.3
_AGAIN_SECONDS = 300  # until a policy that could not be had is tried again, RFC 8461 3.3
_REFRESH_SECONDS = DAY  # RFC 8461 3.3: policies are fetched anew before they are too old
_ROUND_SECONDS = 3600.0  # between looks for those that are to be fetched anew, mail or not
_WANTED_SECONDS = 31 * DAY  # since its last mail that a domain's policy is kept fresh
_LOADED = 10_000  # domains of which it is in memory what is kept
_PREFIX = "sts "

# Result types of reports (RFC 8460 4.3.2.2).
FETCH_ERROR = "sts-policy-fetch-error"
INVALID = "sts-policy-invalid"
WEB_CERTIFICATE = "sts-webpki-invalid"
FETCH_FAILURES = frozenset({FETCH_ERROR, INVALID, WEB_CERTIFICATE})


class PolicyFailure(TemporaryError):
    """A domain says that it has a policy, which cannot be had. `failure` is a result type of RFC 8460 4.3."""

    def __init__(self, failure: str, text: str) -> None:
        super().__init__(text, status="4.7.0")
        self.failure = failure


Fetch = Callable[[str], Awaitable[bytes]]
"""The octets of a domain's policy. Raises PolicyFailure."""


def fetch_over_https(environment: Environment, tls: IClientTls) -> Fetch:
    """From the web server that RFC 8461 3.3 names."""
    https = Https(environment.network, environment.resolver, environment.clock, tls)

    async def fetch(domain: str) -> bytes:
        host = f"mta-sts.{domain}"
        try:
            answer = await https.get(host, "/.well-known/mta-sts.txt", limit=POLICY_OCTETS, seconds=FETCH_SECONDS)
        except CertificateInvalid as error:
            raise PolicyFailure(WEB_CERTIFICATE, error.text) from error
        except MailError as error:
            raise PolicyFailure(FETCH_ERROR, error.text) from error
        if answer.status != 200:
            raise PolicyFailure(FETCH_ERROR, f"{host} answers {answer.status}")
        if answer.media_type != "text/plain":
            raise PolicyFailure(FETCH_ERROR, f"{host} answers {answer.media_type[:80]!r} and no text/plain")
        return answer.body

    return fetch


@attrs.define
class _Known:
    """What is known of a domain: its policy, what came of the last try to fetch one, by the id that led to it, and
    until when DNS is not asked again, and when its policy was last wanted."""

    kept: KeptPolicy | None = None
    failed_id: str = ""
    failure: str = ""
    again_at: float = 0.0
    silent_until: float = 0.0
    wanted_at: float = 0.0


class StsPolicies:
    """Says which policy counts for a domain now."""

    def __init__(self, environment: Environment, state: IState, fetch: Fetch) -> None:
        self._environment = environment
        self._resolver: IResolver = environment.resolver
        self._state = state
        self._fetch = fetch
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._fetching: dict[str, list[Deferred[None]]] = {}
        self._timer: IDelayedCall | None = None
        self._over = False

    async def policy(self, domain: str) -> tuple[StsPolicy | None, str]:
        """The policy of a domain (A-labels), None where it has none that can be had; and why its own cannot be had, as
        a result type of RFC 8460 4.3, else "". A policy that was fetched before counts until its time is over, whatever
        DNS and the web server say (RFC 8461 3.3)."""
        known = await self._recalled(domain)
        known.wanted_at = self._environment.monotonic()
        found = await self._record(domain, known)
        kept = self._good(known)
        if found and (kept is None or kept.id != found):
            await self._fetched(domain, found)
            kept = self._good(known)
        elif kept is not None and self._is_old(kept):
            Deferred.fromCoroutine(self._fetched(domain, found or kept.id))
        if kept is not None:
            self._look_later()
        if kept is not None and kept.policy.mode == "none":
            return None, ""
        trouble = known.failure if known.failed_id and known.failed_id in (found, kept.id if kept else "") else ""
        return (kept.policy if kept else None), trouble

    def stop(self) -> None:
        """Fetch nothing more by itself."""
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _look_later(self) -> None:
        if self._timer is None and not self._over:
            self._timer = self._environment.clock.callLater(_ROUND_SECONDS, self._begin_round)

    def _begin_round(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._fetched_anew()).addErrback(
            lambda failure: _log.failure("policies are not fetched anew", failure)
        )

    async def _fetched_anew(self) -> None:
        """RFC 8461 10.2: policies of domains that have mail now and then stay fresh without it, whatever DNS says."""
        now = self._environment.monotonic()
        for domain, known in list(self._known.items()):
            kept = self._good(known)
            if kept is not None and self._is_old(kept) and now - known.wanted_at < _WANTED_SECONDS:
                await self._fetched(domain, await self._record(domain, known) or kept.id)
        if any(self._good(known) for known in self._known.values()):
            self._look_later()

    def _good(self, known: _Known) -> KeptPolicy | None:
        return known.kept if known.kept is not None and known.kept.is_good(self._environment.now()) else None

    def _is_old(self, kept: KeptPolicy) -> bool:
        return self._environment.now() - kept.fetched > min(_REFRESH_SECONDS, kept.policy.max_age / 2)

    async def _record(self, domain: str, known: _Known) -> str:
        """The id of the policy that DNS tells of; "" where it tells of none, or nothing. Then it is not asked for a
        while: some servers never answer questions of this type, and mail would wait for each of them."""
        if known.silent_until > self._environment.monotonic():
            return ""
        try:
            return record_id(await self._resolver.texts(f"_mta-sts.{domain}")) or ""
        except MailError:
            known.silent_until = self._environment.monotonic() + _AGAIN_SECONDS
            return ""

    async def _recalled(self, domain: str) -> _Known:
        known = self._known.get(domain)
        if known is None:
            known = _Known()
            try:
                octets = await self._state.get(_PREFIX + domain)
                known.kept = KeptPolicy.parse(octets) if octets else None
            except (StoreUnavailable, ValueError) as error:
                _log.warn("policy not recalled: domain={domain} reason={reason:text}", domain=domain, reason=str(error))
            known = self._known.setdefault(domain, known)
        self._known.move_to_end(domain)
        while len(self._known) > _LOADED:
            self._known.popitem(last=False)
        return known

    # --- Fetching, once at a time ------------------------------------------------------------------------------------

    async def _fetched(self, domain: str, found: str) -> None:
        """Try to have the policy with the id `found`; what came of it stands in what is known."""
        waiting: Deferred[None] = Deferred()
        waiters = self._fetching.get(domain)
        if waiters is not None:
            waiters.append(waiting)
            await waiting
            return
        known = await self._recalled(domain)
        if known.failed_id == found and known.again_at > self._environment.monotonic():
            return
        self._fetching[domain] = []
        try:
            known.kept = KeptPolicy(await self._read(domain), found, self._environment.now())
            known.failed_id = known.failure = ""
            await self._keep(domain, known.kept)
        except PolicyFailure as error:
            known.failed_id, known.failure = found, error.failure
            known.again_at = self._environment.monotonic() + _AGAIN_SECONDS
            # RFC 8461 10.2: who takes his policy back says so by mode "none", and owes nothing then.
            tell = _log.info if known.kept is not None and known.kept.policy.mode == "none" else _log.warn
            tell("policy not fetched: domain={domain} reason={reason:text}", domain=domain, reason=error.text)
        finally:
            for each in self._fetching.pop(domain):
                if not each.called:
                    each.callback(None)

    async def _read(self, domain: str) -> StsPolicy:
        octets = await self._fetch(domain)
        try:
            return StsPolicy.parse(octets)
        except ValueError as error:
            raise PolicyFailure(INVALID, f"policy of {domain} is {error}") from None

    async def _keep(self, domain: str, kept: KeptPolicy) -> None:
        policy = kept.policy
        _log.info(
            "policy fetched: domain={domain} id={id} mode={mode} max_age={age}",
            domain=domain,
            id=kept.id,
            mode=policy.mode,
            age=policy.max_age,
        )
        try:
            await self._state.put({_PREFIX + domain: kept.render()}, max(1, policy.max_age))
        except StoreUnavailable as error:
            _log.warn("policy not kept: domain={domain} reason={reason:text}", domain=domain, reason=str(error))
