"""Mail that is taken for others while their own server is away (RFC 5321 2.3.9, 5.1): backup mail exchangers."""

from __future__ import annotations

import attrs

from mailhub.errors import NoSuchUser
from mailhub.keys import Key
from mailhub.message.address import Address, is_postmaster
from mailhub.message.patterns import AddressPatterns


def _domains(texts: tuple[str, ...]) -> None:
    found = AddressPatterns.parse(texts)
    if found.any or found.null or found.addresses:
        raise ValueError('must be domains, such as "example.net" or "*.example.net"')


DOMAINS: Key[tuple[str, ...]] = Key("backup_mx", "domains", (), hint=tuple[str, ...], check=_domains)


@attrs.frozen
class BackupMx:
    """`domains`: for whom mail is taken from anybody. `recipients`: who there is in them, None where nobody knows."""

    domains: AddressPatterns = attrs.field(factory=AddressPatterns)
    recipients: AddressPatterns | None = None

    def takes(self, address: Address) -> bool:
        """Whether mail for it is taken. Raises NoSuchUser for who is not among the recipients; postmaster always is."""
        if not self.domains.names(address):
            return False
        if self.recipients is None or is_postmaster(address) or self.recipients.names(address):
            return True
        raise NoSuchUser()


NO_BACKUP = BackupMx()
