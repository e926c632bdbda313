"""What each part of a hub is told, from the tables of the configuration."""

from __future__ import annotations

from typing import Any

from mailhub.auth.harvest import HarvestLimits
from mailhub.auth.throttle import Throttle
from mailhub.config.settings import Config, Limits, StaticRoute
from mailhub.delivery.aliases import AliasTable
from mailhub.delivery.relay.exchangers import SMTP_PORT, parse_target
from mailhub.delivery.relay.transmit import TransmitLimits
from mailhub.delivery.routing import NextHop
from mailhub.delivery.runner import RunnerLimits
from mailhub.delivery.schedule import Schedule
from mailhub.interfaces import Service
from mailhub.net.link import DriverLimits
from mailhub.net.networks import Networks
from mailhub.protocols.imap.context import ImapOptions
from mailhub.protocols.pop3 import Pop3Options
from mailhub.protocols.smtp import SmtpOptions
from mailhub.store.limits import StoreLimits
from mailhub.wire.imap.server_settings import ImapSettings
from mailhub.wire.stream import BareLines

# Agents whose `host` is an SMTP or LMTP server; to others it may mean anything.
_LMTP = "lmtp"
_HOSTS = ("smtp", _LMTP)


def aliases(config: Config) -> AliasTable:
    """[aliases]. Raises ConfigurationError for a domain that is not ours."""
    try:
        return AliasTable.parse(config.aliases, config.domains)
    except ValueError as error:
        # One that the database keeps may be removed at any time, and the file would be wrong then.
        advice = "add it to domains, or make the alias by `mailhub alias add`"
        raise config.place("aliases").error(f"{error}: {advice}") from None


def next_hops(config: Config) -> dict[str, NextHop]:
    """[route."domain"] by domain. Raises ConfigurationError for a host or a password file that cannot be used."""
    return {domain: _next_hop(config, domain, route) for domain, route in config.routes.items()}


def _next_hop(config: Config, domain: str, route: StaticRoute) -> NextHop:
    place = config.place("route").inside(domain)
    password = route.password
    if route.password_file is not None:
        try:
            password = route.password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise place.at("password_file").error(f"cannot be read: {error}") from None
    hop = NextHop(route.agent, route.host, route.tls, route.user, password)
    if hop.agent == _LMTP and not hop.host:
        raise place.at("host").error("is missing: who takes the mail by LMTP, such as unix:/run/lmtp")
    if hop.host and hop.agent in _HOSTS:
        try:
            parse_target(hop.host, SMTP_PORT)
        except ValueError as error:
            raise place.at("host").error(f'"{hop.host}": {error}') from None
    return hop


def schedule(config: Config) -> Schedule:
    """[queue]."""
    return Schedule(config.queue.retry_seconds, config.queue.expire_hours * 3600)


def known_elsewhere(config: Config) -> frozenset[str] | None:
    """Domains in which an unknown user may be known to a checker other than our own; None for all of them."""
    if config.auth.users_known_elsewhere is not None:
        return frozenset(config.auth.users_known_elsewhere)
    place = config.place("auth", "checkers")
    foreign = any(config.part("checker", name, place).type != "accounts" for name in config.auth.checkers)
    return None if foreign else frozenset()


def throttle(config: Config) -> Throttle:
    """[auth], the part about guessing."""
    return Throttle(**throttle_settings(config))


def throttle_settings(config: Config) -> dict[str, Any]:
    """What a throttle is made of."""
    settings = config.auth
    return {
        "free": settings.failures_free,
        "limit": settings.failures_limit,
        "window": settings.failures_window_seconds,
        "longest": settings.failure_delay_seconds,
        "known": settings.known_user_seconds,
        "loopback": config.limits.count_loopback,
    }


def harvest_limits(limits: Limits) -> HarvestLimits:
    """[limits], the part about recipients that are refused."""
    return HarvestLimits(
        per_session=limits.refused_recipients_per_session,
        free=limits.refused_recipients_per_session // 2,
        per_network=limits.refused_recipients_per_network,
        window_seconds=limits.refused_recipients_window_seconds,
        longest_seconds=limits.refused_recipient_delay_seconds,
        loopback=limits.count_loopback,
    )


def store_settings(limits: Limits) -> StoreLimits:
    """Bounds of the database."""
    return StoreLimits(
        mailboxes_per_account=limits.mailboxes_per_account,
        subscriptions_per_account=limits.subscriptions_per_account,
        keywords_per_message=limits.keywords_per_message,
        keywords_per_mailbox=limits.keywords_per_mailbox,
        inline_body_octets=limits.inline_body_bytes,
        waiting_units=limits.store_changes_waiting,
        index_rows=limits.index_rows_cached,
        digest_cache_bytes=limits.digest_cache_bytes,
        disk_reserve_percent=limits.disk_reserve_percent,
    )


def runner_limits(limits: Limits) -> RunnerLimits:
    """Bounds of the queue's runner."""
    return RunnerLimits(
        attempts=limits.delivery_attempts,
        attempts_per_target=limits.delivery_attempts_per_target,
        attempt_seconds=limits.delivery_attempt_seconds,
        stop_seconds=limits.stop_seconds,
    )


def transmit_limits(limits: Limits) -> TransmitLimits:
    """Bounds of outgoing connections."""
    return TransmitLimits(
        addresses=limits.relay_addresses_per_message,
        recipients=limits.relay_recipients_per_transaction,
        messages=limits.relay_messages_per_connection,
        idle_seconds=limits.relay_idle_seconds,
        idle_connections=limits.relay_idle_connections,
        unreachable_seconds=limits.relay_unreachable_seconds,
    )


def driver_limits(limits: Limits) -> DriverLimits:
    """Bounds on connections. How long a session may be silent is its own affair."""
    return DriverLimits(
        connections=limits.connections_per_service,
        connections_per_address=limits.connections_per_address,
        connections_per_ipv4_24=limits.connections_per_ipv4_24,
        connections_per_ipv6_56=limits.connections_per_ipv6_56,
        connections_per_ipv6_48=limits.connections_per_ipv6_48,
        count_loopback=limits.count_loopback,
    )


def smtp_options(config: Config, service: Service) -> SmtpOptions:
    """Of SMTP, LMTP and submission."""
    limits, smtp = config.limits, config.smtp
    bare_lines = smtp.submission_bare_lines if service.submission else smtp.bare_lines
    return SmtpOptions(
        hostname=config.hostname,
        submission=service.submission,
        each_recipient=service.each_recipient,
        message_size_limit=limits.message_size_bytes,
        recipient_limit=limits.recipients_per_message,
        bad_commands=limits.smtp_bad_commands,
        idle_commands=limits.smtp_idle_commands,
        logins=limits.login_failures_per_session,
        idle_seconds=limits.smtp_idle_seconds,
        pace_seconds=limits.smtp_data_window_seconds,
        pace_octets=limits.smtp_data_window_bytes,
        bare_lines=BareLines(bare_lines),
        cleartext_login=Networks.parse(*config.trust.cleartext_login),
    )


def pop3_options(config: Config) -> Pop3Options:
    """Of POP3."""
    limits = config.limits
    return Pop3Options(
        host=config.hostname,
        bad_commands=limits.pop3_bad_commands,
        logins=limits.login_failures_per_session,
        login_seconds=limits.login_seconds,
        idle_seconds=limits.pop3_idle_seconds,
        takeover_seconds=limits.pop3_takeover_seconds,
        cleartext_login=Networks.parse(*config.trust.cleartext_login),
    )


def imap_options(config: Config) -> ImapOptions:
    """Of IMAP."""
    limits = config.limits
    settings = ImapSettings(
        hostname=config.hostname,
        line_limit=limits.imap_line_bytes,
        literal_limit=limits.imap_literal_bytes,
        command_limit=limits.imap_command_bytes,
        literal_count_limit=limits.imap_literals_per_command,
        message_limit=limits.message_size_bytes,
        discard_limit=2 * limits.message_size_bytes,
        bad_command_limit=limits.imap_bad_commands,
        failed_login_limit=limits.login_failures_per_session,
    )
    trusted = Networks.parse(*config.trust.cleartext_login)
    times = limits.login_seconds, limits.imap_idle_seconds
    return ImapOptions(settings, *times, trusted, limits.keywords_per_mailbox)
