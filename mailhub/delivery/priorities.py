"""How urgent a message may be (RFC 6710 4.1): its sender asks, and by who that is it gets as much or less."""

from __future__ import annotations

import attrs

from mailhub.interfaces import Origin
from mailhub.keys import Key, setting
from mailhub.message.envelope import Mail
from mailhub.net.networks import TRUSTED, Networks

_LOOPBACK = Networks.of(("127.0.0.0/8", "::1"))
_USUAL = 0  # what who says nothing asks for


@attrs.frozen
class Priorities:
    """The highest priority that mail has of `strangers`, and of `users` after a login; what this machine and networks
    that are `trusted` ask for is what they get."""

    strangers: int = setting(Key("smtp", "priority_limit", 0, -9, 9))
    users: int = setting(Key("submission", "priority_limit", 9, -9, 9))
    trusted: Networks = setting(TRUSTED, Networks.of)

    def allowed(self, origin: Origin, mail: Mail) -> Mail:
        """The message with the priority that it gets, and is sent on with."""
        if mail.priority is None and self.strangers >= _USUAL <= self.users:
            return mail
        most = self._most(origin)
        return mail if (mail.priority or _USUAL) <= most else attrs.evolve(mail, priority=most)

    def _most(self, origin: Origin) -> int:
        if origin.user:
            return self.users
        if not origin.peer or origin.peer in _LOOPBACK or origin.peer in self.trusted:
            return 9
        return self.strangers
