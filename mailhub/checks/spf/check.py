"""Who may send mail of a domain, by its SPF record: check_host() (RFC 7208 4)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

import attrs
import dns.exception
import dns.name
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from mailhub.checks.spf.macros import MacroString, expand, letters, parse_explanation
from mailhub.checks.spf.record import Directive, Record, SpfSyntaxError, is_spf, parse_record
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import IResolver

Value = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]

LOOKUPS_LIMIT = 10  # terms that ask DNS (RFC 7208 4.6.4)
VOID_LIMIT = 2  # of their questions that find nothing
NAMES_LIMIT = 10  # hosts of one mx, and names of one ptr
TIME_LIMIT = 20.0  # seconds for all of it
_NAME_LIMIT = 253  # characters
_EXPLANATION_LIMIT = 255
_UNPRINTABLE = re.compile(r"[^ -~]")
_PERSONAL = frozenset("slht")  # letters of what a later message from the same client may have otherwise
_LOOKS_UP = frozenset({"include", "a", "mx", "ptr", "exists"})


@attrs.frozen
class Spf:
    """What came of it. `domain` is the one whose record was asked for. `reason` says which mechanism has matched, or
    what is wrong; `explanation` is what the domain has to say to a client that fails: a stranger's text, of printable
    ASCII and not long. `personal`: for another sender of the domain, another HELO or at another time it may be
    different."""

    value: Value
    domain: str = ""
    reason: str = ""
    explanation: str = ""
    personal: bool = False


class _Ended(Exception):
    """The evaluation ends with this."""

    def __init__(self, value: Value, reason: str) -> None:
        super().__init__(reason)
        self.value: Value = value
        self.reason = reason


async def check_host(
    address: str,
    domain: str,
    sender: str,
    helo: str,
    resolver: IResolver,
    *,
    clock: IReactorTime,
    hostname: str = "unknown",
    now: int = 0,
) -> Spf:
    """Whether a client with this IP address may use the domain (A-labels). `sender` is the reverse-path, or, for a
    check of HELO, the domain alone. `hostname` is ours and `now` the time, for explanations. `clock` bounds how long it
    takes."""
    check = _Check(_client(address), sender, helo, resolver, hostname, now)
    waiting = Deferred.fromCoroutine(check.explained(domain.rstrip(".").lower()))
    waiting.addTimeout(TIME_LIMIT, clock)
    try:
        return await waiting
    except TimeoutError:
        return Spf("temperror", domain, "DNS is too slow")


def _client(address: str) -> IPv4Address | IPv6Address:
    found = ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


@attrs.define
class _Check:
    """One evaluation, with what it may still ask."""

    _client: IPv4Address | IPv6Address
    _sender: str
    _helo: str
    _resolver: IResolver
    _hostname: str
    _now: int
    _lookups: int = 0
    _voids: int = 0
    _validated: list[str] | None = None
    _personal: bool = False  # some macro has stood for what differs from message to message

    async def explained(self, domain: str) -> Spf:
        """The result of the whole."""
        try:
            found, record, spoke = await self._host(domain)
        except _Ended as end:
            return Spf(end.value, domain, end.reason, personal=self._personal)
        explanation = ""
        if found.value == "fail" and record is not None and record.explanation is not None:
            explanation = await self._explanation(record.explanation, spoke)
        return Spf(found.value, domain, found.reason, explanation, self._personal)

    async def _host(self, domain: str) -> tuple[Spf, Record | None, str]:
        """RFC 7208 4: with the record that has spoken, and whose it is. Raises _Ended."""
        record = await self._record(domain)
        if record is None:
            return Spf("none", domain), None, domain
        for directive in record.directives:
            if await self._matches(directive, domain):
                return Spf(directive.result, domain, directive.text), record, domain
        if record.redirect is not None and not self._is_no_label(record.redirect):
            self._count_lookup()
            target = await self._target(record.redirect, domain)
            found, other, spoke = await self._host(target)
            if found.value == "none":
                raise _Ended("permerror", f"redirect={target} leads to no record")
            return found, other, spoke
        return Spf("neutral", domain, "nothing has matched"), record, domain

    async def _record(self, domain: str) -> Record | None:
        """Raises _Ended."""
        if not _is_domain(domain):
            return None
        try:
            texts = await self._resolver.texts(domain)
        except PermanentError:
            return None
        except TemporaryError:
            raise _Ended("temperror", f"no answer about {domain}") from None
        found = [each for each in texts if is_spf(each)]
        if not found:
            return None
        if len(found) > 1:
            raise _Ended("permerror", f"{domain} has several records")
        try:
            return parse_record(found[0])
        except SpfSyntaxError as error:
            raise _Ended("permerror", f"{domain}: {error}") from None

    async def _matches(self, directive: Directive, domain: str) -> bool:
        """Raises _Ended."""
        if directive.network is not None:
            return self._client in directive.network
        if directive.kind == "all":
            return True
        if directive.kind in _LOOKS_UP:
            self._count_lookup()
        if directive.domain is not None and self._is_no_label(directive.domain):
            return False
        target = domain if directive.domain is None else await self._target(directive.domain, domain)
        match directive.kind:
            case "include":
                return await self._is_included(target)
            case "a":
                return self._is_among(await self._addresses(target), directive)
            case "mx":
                return await self._is_exchanger(target, directive)
            case "ptr":
                return any(_is_below(name, target) for name in await self._names())
            case _:  # exists; by A whatever the client's family is (RFC 7208 5.7)
                return bool(await self._addresses(target, 4))

    async def _is_included(self, target: str) -> bool:
        found, _, _ = await self._host(target)
        if found.value == "none":
            raise _Ended("permerror", f"include:{target} leads to no record")
        return found.value == "pass"

    async def _is_exchanger(self, target: str, directive: Directive) -> bool:
        name = _question(target)
        try:
            exchangers = await self._resolver.mail_exchangers(name) if name else ()
        except PermanentError:
            exchangers = ()
        except TemporaryError:
            raise _Ended("temperror", f"no answer about {target}") from None
        hosts = [each.host for each in sorted(exchangers, key=lambda each: each.preference) if each.host]
        self._count_void(hosts)
        if len(hosts) > NAMES_LIMIT:
            raise _Ended("permerror", f"{target} has more than {NAMES_LIMIT} mail exchangers")
        for host in hosts:
            if self._is_among(await self._addresses(host), directive):
                return True
        return False

    def _is_among(self, addresses: Sequence[str], directive: Directive) -> bool:
        prefix = directive.prefix4 if self._client.version == 4 else directive.prefix6
        return any(self._client in ip_network(f"{each}/{prefix}", strict=False) for each in addresses)

    async def _addresses(self, name: str, version: int = 0) -> Sequence[str]:
        """Those of a host that are of the client's family. Raises _Ended."""
        question = _question(name)
        try:
            found = await self._resolver.addresses(question) if question else ()
        except PermanentError:
            found = ()
        except TemporaryError:
            raise _Ended("temperror", f"no answer about {name}") from None
        found = [each for each in found if ip_address(each).version == (version or self._client.version)]
        self._count_void(found)
        return found

    async def _names(self) -> Sequence[str]:
        """Those of the client that lead back to it (RFC 7208 5.5). What cannot be asked is none."""
        if self._validated is None:
            self._validated = []
            try:
                names = await self._resolver.pointers(str(self._client))
            except (TemporaryError, PermanentError):
                names = ()
            self._count_void(names)
            for name in names[:NAMES_LIMIT]:
                try:
                    addresses = await self._resolver.addresses(name)
                except (TemporaryError, PermanentError):
                    continue
                if any(ip_address(each) == self._client for each in addresses):
                    self._validated.append(name.lower())
        return self._validated

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > LOOKUPS_LIMIT:
            raise _Ended("permerror", f"more than {LOOKUPS_LIMIT} terms ask DNS")

    def _count_void(self, found: Sequence[object]) -> None:
        if not found:
            self._voids += 1
            if self._voids > VOID_LIMIT:
                raise _Ended("permerror", f"more than {VOID_LIMIT} questions find nothing")

    # --- Macros ------------------------------------------------------------------------------------------------------

    def _is_no_label(self, spec: MacroString) -> bool:
        """Whether it would have a local part in a name that is not of ASCII (RFC 8616 4)."""
        return not self._sender.isascii() and not letters(spec).isdisjoint("sl")

    async def _target(self, spec: MacroString, domain: str) -> str:
        """RFC 7208 7.3: what is too long loses labels on the left."""
        name = (await self._expanded(spec, domain)).rstrip(".").lower()
        while len(name) > _NAME_LIMIT and "." in name:
            name = name.partition(".")[2]
        return name

    async def _expanded(self, parsed: MacroString, domain: str) -> str:
        if not (used := letters(parsed)):
            return "".join([str(each) for each in parsed])
        self._personal = self._personal or not used.isdisjoint(_PERSONAL)
        validated = await self._validated_name(domain) if "p" in used else ""
        local, _, sender_domain = self._sender.rpartition("@")
        values = {
            "s": self._sender if local else f"postmaster@{sender_domain}",
            "l": local or "postmaster",
            "o": sender_domain,
            "d": domain,
            "i": self._dotted(),
            "p": validated,
            "v": "in-addr" if self._client.version == 4 else "ip6",
            "h": self._helo,
            "c": str(self._client),
            "r": self._hostname,
            "t": str(self._now),
        }
        return expand(parsed, values.__getitem__)

    def _dotted(self) -> str:
        if isinstance(self._client, IPv4Address):
            return str(self._client)
        return ".".join(self._client.exploded.replace(":", "").upper())

    async def _validated_name(self, domain: str) -> str:
        names = await self._names()
        for name in names:
            if name == domain:
                return name
        for name in names:
            if _is_below(name, domain):
                return name
        return names[0] if names else "unknown"

    async def _explanation(self, spec: MacroString, domain: str) -> str:
        """RFC 7208 6.2. Nothing where anything is wrong with it."""
        try:
            texts = await self._resolver.texts(_question(await self._target(spec, domain)) or "")
            if len(texts) != 1:
                return ""
            text = await self._expanded(parse_explanation(texts[0].decode("ascii")), domain)
        except (TemporaryError, PermanentError, ValueError, _Ended):
            return ""
        return _UNPRINTABLE.sub("", text)[:_EXPLANATION_LIMIT]


def _is_below(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def _is_domain(text: str) -> bool:
    """RFC 7208 4.3: of several labels, none of them empty or too long. An address literal is none."""
    if text.startswith("["):
        return False
    labels = text.split(".")
    return len(labels) > 1 and len(text) <= _NAME_LIMIT and all(0 < len(each.encode()) <= 63 for each in labels)


def _question(name: str) -> str:
    """A name as the resolver takes it: any octet may be in a label. "" for what can be no name."""
    try:
        return dns.name.Name([*[label.encode() for label in name.split(".")], b""]).to_text(omit_final_dot=True)
    except (dns.exception.DNSException, ValueError):
        return ""
