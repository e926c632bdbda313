"""What can be set about mail authentication: the tables [checks] and [dkim]."""

from __future__ import annotations

from typing import Literal

import attrs

from mailhub.keys import Key, setting
from mailhub.message.address import parse_domain, to_ascii
from mailhub.net.networks import Networks

# The name of the policy, and of its table.
CHECKS = "checks"

DmarcMode = Literal["enforce", "report", "off"]

_DMARC: Key[DmarcMode] = Key("checks", "dmarc", "enforce", hint=DmarcMode)
_FORWARDERS = Key("checks", "forwarders", (), hint=tuple[str, ...], check=Networks.of)


def _domains(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(to_ascii(parse_domain(text)) for text in texts)


_SEALERS = Key("checks", "arc_sealers", (), hint=tuple[str, ...], check=_domains)


@attrs.frozen
class CheckOptions:
    """[checks]: what of a message from a stranger is looked at. `dmarc`: "enforce" does what the author's domain wants,
    "report" says so and delivers all the same. `forwarders`: networks whose mail may fail it, because they send on what
    came to them; `arc_sealers`: domains (A-labels) whose seals are believed, for the same reason. `auth`: whether mail
    of our own users says that they have logged in. `bimi`: which logo the domain of the author wants shown."""

    spf: bool = setting(Key("checks", "spf", True, hint=bool))
    dkim: bool = setting(Key("checks", "dkim", True, hint=bool))
    dmarc: DmarcMode = setting(_DMARC)
    arc: bool = setting(Key("checks", "arc", True, hint=bool))
    arc_sealers: frozenset[str] = setting(_SEALERS, _domains)
    iprev: bool = setting(Key("checks", "iprev", True, hint=bool))
    auth: bool = setting(Key("checks", "auth", True, hint=bool))
    bimi: bool = setting(Key("checks", "bimi", False, hint=bool))
    forwarders: Networks = setting(_FORWARDERS, Networks.of)

    @property
    def of_strangers(self) -> bool:
        """Whether there is anything to do about mail from strangers."""
        return self.spf or self.dkim or self.arc or self.iprev or self.bimi or self.dmarc != "off"

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return self.of_strangers or self.auth


@attrs.frozen
class SigningOptions:
    """[dkim]. `sign`: whether mail is signed where there is a key. After `rotate_days` a key gets a follower, never for
    0."""

    sign: bool = setting(Key("dkim", "sign", True, hint=bool))
    rotate_days: int = setting(Key("dkim", "rotate_days", 0, 0, 3650))
