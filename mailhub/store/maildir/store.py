"""Maildirs as a store of its own: `[store] type = "maildir"`."""

from __future__ import annotations

import re

import attrs

from mailhub.errors import ConfigurationError
from mailhub.interfaces import IHub
from mailhub.keys import MESSAGE_SIZE
from mailhub.store.limits import StoreLimits
from mailhub.store.maildir.keywords import NUMBER
from mailhub.store.maildir.manner import Manner, Say, UniqueNames
from mailhub.store.maildir.places import Places, check_path
from mailhub.store.maildir.source import MaildirSource
from mailhub.store.mirror.store import MirrorStore

_SERVED = 256 << 20  # octets of a message that others have put there


def _check_mode(instance: object, field: object, mode: str) -> None:
    if not re.fullmatch("0?[0-7]{3}", mode) or int(mode, 8) & 0o600 != 0o600 or int(mode, 8) & 0o111:
        raise ValueError(
            'must be what may be done with a file, by its owner to read and write it, such as "0600" or "0660"'
        )


def _check_seconds(instance: object, field: object, seconds: float) -> None:
    if not 0 <= seconds <= 3600:
        raise ValueError(f"must be from 0 to 3600, not {seconds}")


@attrs.frozen
class MaildirOptions:
    """[store] with `type = "maildir"`. `path` is relative to the data folder; `poll_seconds` says how often a folder
    that a session watches is looked at."""

    path: str = attrs.field(default="maildirs/{domain}/{local}", validator=check_path)
    poll_seconds: float = attrs.field(default=2.0, validator=_check_seconds)
    mode: str = attrs.field(default="0600", validator=_check_mode)


def maildir_store(options: MaildirOptions, hub: IHub) -> MirrorStore:
    """The store of a hub. Raises ConfigurationError."""
    environment, settings = hub.environment, hub.settings
    limits: StoreLimits = settings.of(StoreLimits)
    places = Places(options.path, environment.data)
    unique = UniqueNames(hub.hostname, environment.wall or environment.clock.seconds, environment.random)

    def manner(say: Say) -> Manner:
        size_limit = max(_SERVED, settings.value(MESSAGE_SIZE))
        return Manner(unique, say, int(options.mode, 8), size_limit, limits.durable)

    source = MaildirSource(
        hub.part.name,
        places,
        manner,
        environment,
        hub.accounts.find,
        poll_seconds=options.poll_seconds,
        folder_limit=limits.mailboxes_per_account,
    )
    if not places.by_domain and len(hub.domains) > 1:
        raise ConfigurationError(f"path has no {{domain}}, and there are {len(hub.domains)} domains")
    letters = attrs.evolve(limits, keywords_per_mailbox=min(NUMBER, limits.keywords_per_mailbox))
    return MirrorStore(source, environment, letters, hub.part.name)
