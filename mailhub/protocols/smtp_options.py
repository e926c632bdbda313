"""What a listener of SMTP, submission or LMTP does: what is declared of it, and what the machine is told of that."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import attrs

from mailhub.delivery.limits import HOLD_LIMIT
from mailhub.keys import DAY, LOGIN_FAILURES, MESSAGE_SIZE, MIB, Key, limit, setting
from mailhub.message.address import parse_domain, to_ascii
from mailhub.net.networks import CLEARTEXT_LOGIN, XCLIENT, Networks
from mailhub.wire.smtp.extensions import COMPLETE, EXTENSIONS, SmtpSettings
from mailhub.wire.stream import BareLines

_Lines = Literal["reject", "normalise"]
_BARE_LINES = Key("smtp", "bare_lines", "normalise", hint=_Lines)
_SUBMISSION_BARE_LINES = Key("smtp", "submission_bare_lines", "normalise", hint=_Lines)


def _nodes(texts: tuple[str, ...]) -> frozenset[str]:
    """Domains as A-labels, and names of queues as they are. Raises ValueError."""
    try:
        found = [text if text.startswith("#") else parse_domain(text) for text in texts]
        return frozenset(each if each.isascii() else to_ascii(each) for each in found)
    except ValueError as error:
        raise ValueError(f"{', '.join(texts)}: {error}") from None


_ETRN: Key[tuple[str, ...]] = Key("smtp", "etrn", (), hint=tuple[str, ...], check=_nodes)
_VERP = Key("smtp", "xverp", False, hint=bool)


def _known_keywords(keywords: tuple[str, ...]) -> None:
    for each in keywords:
        if each.upper() not in _KEYWORDS:
            raise ValueError(f'"{each}" is no extension; there are {", ".join(_KEYWORDS)}')


_KEYWORDS = [row.keyword for row in EXTENSIONS]


def _policy_name(name: str) -> None:
    if name and not re.fullmatch("[A-Za-z0-9._-]{1,20}", name):
        raise ValueError(f'"{name}" is not the name of a priority policy, such as MIXER, STANAG4406 or NSEP')


_PRIORITY_POLICY = Key("smtp", "priority_policy", "", hint=str, check=_policy_name)
_DELIVER_BY_MINIMUM = Key("smtp", "deliver_by_minimum_seconds", 0, 0, DAY)
_EXTENSIONS_OFF: Key[tuple[str, ...]] = Key("smtp", "extensions_off", (), hint=tuple[str, ...], check=_known_keywords)


def _in_capitals(keywords: tuple[str, ...]) -> frozenset[str]:
    return frozenset(each.upper() for each in keywords)


@attrs.frozen(cache_hash=True)
class SmtpOptions:
    """What a listener does; sizes in octets.

    `submission` is for our own users and `each_recipient` for LMTP, see `Origin`. `postmaster_domain` (the host name by
    default) completes `<postmaster>`. Submission demands a login, and TLS before it unless `plaintext_login` or the
    peer is in `cleartext_login`; the other services have no login. A message of which fewer than `pace_octets` come in
    `pace_seconds` ends the session. `extensions` are the keywords that may be offered, but for
    `extensions_off`.
    """

    hostname: str = "localhost"
    submission: bool = False
    each_recipient: bool = False
    postmaster_domain: str = ""
    plaintext_login: bool = False
    message_size_limit: int = setting(MESSAGE_SIZE)
    recipient_limit: int = limit("recipients_per_message", 1000, 100, 100_000)
    mails: int = limit("messages_per_connection", 100_000, 1, 1_000_000_000)
    bad_commands: int = limit("smtp_bad_commands", 20, 1, 100_000)
    idle_commands: int = limit("smtp_idle_commands", 100, 1, 1_000_000)
    logins: int = setting(LOGIN_FAILURES)
    idle_seconds: float = limit("smtp_idle_seconds", 300, 5, DAY)
    pace_seconds: float = limit("smtp_data_window_seconds", 120, 1, DAY)
    pace_octets: int = limit("smtp_data_window_bytes", 12_000, 0, MIB)
    bare_lines: BareLines = setting(_BARE_LINES, BareLines)
    submission_bare_lines: BareLines = setting(_SUBMISSION_BARE_LINES, BareLines)
    verp: bool = setting(_VERP)
    turns: frozenset[str] = setting(_ETRN, _nodes)
    cleartext_login: Networks = setting(CLEARTEXT_LOGIN, Networks.of)
    xclient: Networks = setting(XCLIENT, Networks.of)
    extensions: frozenset[str] = COMPLETE
    hold_limit: int = setting(HOLD_LIMIT)
    extensions_off: frozenset[str] = setting(_EXTENSIONS_OFF, _in_capitals)
    deliver_by_minimum: int = setting(_DELIVER_BY_MINIMUM)
    priority_policy: str = setting(_PRIORITY_POLICY)

    @property
    def free_errors(self) -> int:
        """Refused commands whose answers are not held back."""
        return self.bad_commands // 2

    def settings(self, *, secure: bool, starttls: bool, peer: str = "", now: int | None = None) -> SmtpSettings:
        """The machine's settings for a connection at `now`, seconds since the epoch; None where mail cannot be held."""
        return self._settings(
            secure=secure,
            starttls=starttls,
            plaintext=self.plaintext_login or peer in self.cleartext_login,
            speaks_for=peer in self.xclient,
            hold_until=0 if now is None else _hold_until(now, self.hold_limit),
        )

    @lru_cache(maxsize=64)  # noqa: B019  options are few, and live as long as their listener
    def _settings(
        self, *, secure: bool, starttls: bool, plaintext: bool, speaks_for: bool, hold_until: int
    ) -> SmtpSettings:
        return SmtpSettings(
            hostname=self.hostname,
            postmaster_domain=self.postmaster_domain or self.hostname,
            lmtp=self.each_recipient,
            submission=self.submission,
            verp=self.verp,
            turns=self.turns,
            speaks_for=speaks_for,
            secure=secure,
            starttls=starttls,
            require_tls=self.submission and not plaintext,
            mechanisms=("PLAIN", "LOGIN") if self.submission else (),
            plaintext_login=plaintext,
            require_login=self.submission,
            bare_lines=self.submission_bare_lines if self.submission else self.bare_lines,
            message_size_limit=self.message_size_limit,
            recipient_limit=self.recipient_limit,
            mail_limit=self.mails,
            bad_command_limit=self.bad_commands,
            free_bad_commands=self.free_errors,
            idle_command_limit=self.idle_commands,
            login_failure_limit=self.logins,
            extensions=self.extensions - self.extensions_off,
            deliver_by_minimum=self.deliver_by_minimum,
            priority_policy=self.priority_policy,
            hold_seconds=self.hold_limit if hold_until else 0,
            hold_until=hold_until,
        )


def _hold_until(now: int, limit: int) -> int:
    """The furthest that is told (RFC 4865 3). It moves on in steps, so that connections have settings in common: by the
    day, or where much of the time were lost by that, by the minute at most."""
    step = DAY if limit >= 7 * DAY else max(1, min(60, limit // 7))
    return now // step * step + limit
