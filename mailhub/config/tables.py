"""The tables of the file that are made of what parts declare (`mailhub.keys`), and what each part is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from mailhub.auth.checkers import LOGINS_REMEMBERED
from mailhub.auth.directories import DirectoryLimits
from mailhub.auth.harvest import HarvestLimits
from mailhub.auth.passwords import Passwords
from mailhub.auth.throttle import Throttle
from mailhub.delivery.allowance import Bounds
from mailhub.delivery.authentication.options import CheckOptions, SigningOptions
from mailhub.delivery.backup_mx import DOMAINS as BACKUP_DOMAINS
from mailhub.delivery.forwarding import SRS, SRS_DAYS, SRS_DOMAIN
from mailhub.delivery.limits import (
    CA_FILE,
    DETAIL_MAILBOXES,
    DETAIL_SEPARATOR,
    HOPS,
    LONG_LINES,
    POLICY_FAILURE,
    POLICY_TIMEOUT,
    RelayAddresses,
    RunnerLimits,
    TransmitLimits,
)
from mailhub.delivery.priorities import Priorities
from mailhub.delivery.schedule import Schedule
from mailhub.delivery.screening.null_sender import NullSender
from mailhub.delivery.sending import SendingOptions
from mailhub.guard import GuardLimits
from mailhub.keys import STOP_SECONDS, Key, keys_of
from mailhub.net.link import DriverLimits
from mailhub.net.processes import PROCESSES
from mailhub.net.smtp_client import SmtpTimeouts
from mailhub.plugin_modules import LOAD_SECONDS
from mailhub.protocols.imap.context import ImapOptions
from mailhub.protocols.pop3 import Pop3Options
from mailhub.protocols.smtp_options import SmtpOptions
from mailhub.store.limits import StoreLimits
from mailhub.threads import THREADS
from mailhub.wire.imap.server_settings import ImapSettings

# Who declares keys. What a server has taken its threads and its database by cannot be changed while it runs.
LASTING: tuple[type | Key[Any], ...] = (StoreLimits, Passwords, LOGINS_REMEMBERED, THREADS, PROCESSES)
DECLARING: tuple[type | Key[Any], ...] = (
    DETAIL_MAILBOXES,
    DETAIL_SEPARATOR,
    HOPS,
    LONG_LINES,
    POLICY_TIMEOUT,
    POLICY_FAILURE,
    DriverLimits,
    NullSender,
    Bounds,
    SmtpOptions,
    Priorities,
    Pop3Options,
    ImapOptions,
    ImapSettings,
    HarvestLimits,
    Throttle,
    Schedule,
    RunnerLimits,
    SendingOptions,
    CheckOptions,
    SigningOptions,
    BACKUP_DOMAINS,
    TransmitLimits,
    SmtpTimeouts,
    RelayAddresses,
    CA_FILE,
    GuardLimits,
    DirectoryLimits,
    LOAD_SECONDS,
    STOP_SECONDS,
    SRS,
    SRS_DOMAIN,
    SRS_DAYS,
    *LASTING,
)


def declared(parts: Iterable[type | Key[Any]]) -> Iterator[Key[Any]]:
    """The keys that these declare."""
    for part in parts:
        if isinstance(part, Key):
            yield part
        else:
            yield from (told.key for _, told in keys_of(part))


def table(name: str, own: type | None = None) -> type:
    """The attrs class of a table: the keys that parts declare in it, beside those of `own`. Raises TypeError for a key
    that two declare in different ways."""
    keys: dict[str, Key[Any]] = {}
    for key in declared(DECLARING):
        if key.table == name and keys.setdefault(key.name, key) != key:
            raise TypeError(f"[{name}] {key.name} is declared in two ways")
    fields = {
        key.name: attrs.field(default=key.default, validator=key.validate, type=key.hint) for key in keys.values()
    }
    made = attrs.make_class(f"{name.capitalize()}Table", fields, bases=(own or object,), frozen=True, slots=False)
    made.__doc__ = own.__doc__ if own is not None else f"[{name}]: what parts declare."
    return made


def told_to(part: type, tables: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for a part that come from the configuration."""
    return {name: told.value(getattr(tables[told.key.table], told.key.name)) for name, told in keys_of(part)}
