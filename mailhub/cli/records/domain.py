"""The records of a domain: where its mail goes, and how it is sent there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import attrs

from mailhub.cli.records.bimi import bimi_of
from mailhub.cli.records.dkim import dkim_of
from mailhub.cli.records.dmarc import dmarc_of
from mailhub.cli.records.record import Record, txt
from mailhub.cli.records.server import Server
from mailhub.cli.records.services import services_of
from mailhub.cli.records.spf import spf_of_domain
from mailhub.cli.records.topic import Looked, Topic, World
from mailhub.delivery.authentication.keys import KeptKey
from mailhub.delivery.relay.sts import PolicyFailure
from mailhub.errors import PermanentError
from mailhub.message.mta_sts import StsPolicy, record_id
from mailhub.message.tls_report import reporting_uris

_MAX_AGE_SECONDS = 604_800  # of a policy that we propose: a week


def topics_of_domain(server: Server, domain: str, keys: Sequence[KeptKey] | None = None) -> list[Topic]:
    """Everything, in the order in which it is of use. `keys` are those of DKIM; None: nothing is signed here, or nobody
    can tell by which."""
    of = f"domain {domain}"
    return [
        Topic(
            "MX", of, f"mail for {domain} goes to it", [_exchanger(domain, server.hostname)], _Mx(server, domain).look
        ),
        spf_of_domain(server, domain, of),
        *([] if keys is None else [dkim_of(domain, of, keys)]),
        dmarc_of(domain, of),
        bimi_of(domain, of),
        _sts(server, domain, of),
        _tls_reports(domain, of),
        *services_of(server, domain, of),
    ]


def _exchanger(domain: str, host: str, preference: int = 10) -> Record:
    return Record(domain, "MX", f"{preference} {host}.")


@attrs.frozen(eq=False)
class _Mx:
    _server: Server
    _domain: str

    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        resolver, domain, hostname = world.environment.resolver, self._domain, self._server.hostname
        found = sorted(await resolver.mail_exchangers(domain), key=lambda each: each.preference)
        hosts = [each.host.lower() for each in found]
        shown = [_exchanger(domain, each.host, each.preference) for each in found]
        wanted = [_exchanger(domain, hostname)]
        if not hosts:
            text = f"domain {domain} has no MX record: add one that names {hostname}"
            return [Looked("missing", text, publish=wanted, matters=True)]
        if "" in hosts:
            text = f"domain {domain} says that it takes no mail (null MX)"
            return [Looked("wrong", text, [Record(domain, "MX", "0 .")], wanted, matters=True)]
        if hostname in hosts:
            return [Looked("right", f"domain {domain} has its mail here (MX)", shown)]
        ours = set(self._server.addresses) | set(await resolver.addresses(hostname))
        for host in hosts:
            if ours.intersection(await resolver.addresses(host)):
                return [Looked("right", f"domain {domain} has its mail here (MX), under the name {host}", shown)]
        text = f"domain {domain} has its mail at {', '.join(hosts)} (MX), and not at {hostname}"
        return [Looked("wrong", text, shown, wanted, matters=True)]


# --- MTA-STS ----------------------------------------------------------------------------------------------------------


def _sts(server: Server, domain: str, of: str) -> Topic:
    policy = StsPolicy("testing", _MAX_AGE_SECONDS, (server.hostname,))
    about = (
        "others shall send to it over TLS alone (MTA-STS, RFC 8461). It takes a web server for the policy, "
        f"https://mta-sts.{domain}/.well-known/mta-sts.txt: begin with testing, and say enforce when the reports show "
        "that nothing fails; with each change of it the id changes"
    )
    records = [
        _sts_record(domain, policy),
        Record(f"mta-sts.{domain}", "CNAME", "<the web server's name>.", is_known=False),
    ]
    return Topic("MTA-STS", of, about, records, _Sts(server, domain, policy).look, policy.lines)


def _sts_record(domain: str, policy: StsPolicy) -> Record:
    """Its id is made of the policy, so that it changes with it."""
    number = hashlib.sha256("\n".join(policy.lines).encode()).hexdigest()[:16]
    return txt(f"_mta-sts.{domain}", f"v=STSv1; id={number}")


@attrs.frozen(eq=False)
class _Sts:
    _server: Server
    _domain: str
    _policy: StsPolicy

    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        domain, hostname, wanted = self._domain, self._server.hostname, _sts_record(self._domain, self._policy)
        texts = await world.environment.resolver.texts(f"_mta-sts.{domain}")
        shown = [txt(f"_mta-sts.{domain}", each) for each in texts]
        if not texts:
            text = f"domain {domain} has no MTA-STS policy: what comes to it may be read or led away on its way"
            return [Looked("missing", text, publish=[wanted], beside=self._policy.lines)]
        if record_id(texts) is None:
            text = f'_mta-sts.{domain} has no single record such as "v=STSv1; id=1" (TXT): nobody goes by it'
            return [Looked("wrong", text, shown, [wanted])]
        try:
            policy = StsPolicy.parse(await world.policy(domain))
        except PolicyFailure as error:
            text = f"the MTA-STS policy of {domain} cannot be had: {error.text}"
            return [Looked("wrong", text, shown, beside=self._policy.lines)]
        except ValueError as error:
            text = f"the MTA-STS policy of {domain} is wrong: {error}"
            return [Looked("wrong", text, shown, beside=self._policy.lines)]
        if policy.mode != "none" and not policy.allows(hostname):
            text = (
                f"the MTA-STS policy of {domain} does not name {hostname}: servers that look do not send "
                f"here (mode {policy.mode})"
            )
            mended = StsPolicy(policy.mode, policy.max_age, (*policy.mx, hostname))
            return [
                Looked(
                    "wrong", text, shown, [_sts_record(domain, mended)], policy.mode == "enforce", beside=mended.lines
                )
            ]
        return [Looked("right", f"domain {domain} has an MTA-STS policy (mode {policy.mode})", shown)]


# --- Reports of TLS -------------------------------------------------------------------------------------------------


def _tls_reports(domain: str, of: str) -> Topic:
    wanted = f"v=TLSRPTv1; rua=mailto:postmaster@{domain}"
    name = f"_smtp._tls.{domain}"

    async def look(world: World) -> Sequence[Looked]:
        try:
            texts = await world.environment.resolver.texts(name)
        except PermanentError:
            texts = ()
        shown = [txt(name, each) for each in texts]
        if uris := reporting_uris(texts):
            return [Looked("right", f"domain {domain} has reports of TLS sent to {', '.join(uris)}", shown)]
        text = f'domain {domain} asks for no reports of TLS: add a TXT record {name} such as "{wanted}"'
        return [Looked("wrong" if texts else "missing", text, shown, [txt(name, wanted)])]

    about = "where others report how TLS to this server fares (RFC 8460): `mailhub tls-reports` shows them"
    return Topic("TLSRPT", of, about, [txt(name, wanted)], look)
