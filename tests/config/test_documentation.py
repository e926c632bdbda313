"""docs/configuration.rst has a line for every key, with its default, and for no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailhub.config import settings, transports
from mailhub.delivery.authentication.report_options import DmarcOptions
from mailhub.delivery.reporting import ReportOptions
from mailhub.message.lists import MailingList
from mailhub.services import SERVICES

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.rst"
_KEY = re.compile(r"^``([a-z0-9_]+)(?: = (.*))?``$", re.MULTILINE)
_TITLE = re.compile(r"^(.+)\n-{3,}$", re.MULTILINE)

TABLES: dict[str, type] = {
    "[tls]": settings.TlsTable,
    "[auth]": settings.AuthTable,
    '[route."domain"]': settings.RouteTable,
    "[transport.x]": transports.TransportKeys,
    "[backup_mx]": settings.BackupMxTable,
    "[delivery]": settings.DeliveryTable,
    "[router.x], [policy.x], [rule.x], [agent.x], [checker.x], [directory.x], [realm.x], [service.x]": (
        settings.GuardTable
    ),
    "[queue]": settings.QueueTable,
    '[list."address"]': MailingList,
    "[forwarding]": settings.ForwardingTable,
    "[relay]": settings.RelayTable,
    "[trust]": settings.TrustTable,
    "[log]": settings.LogTable,
    "[dns]": settings.DnsTable,
    "[tlsrpt]": ReportOptions,
    "[dmarc]": DmarcOptions,
    "[smtp]": settings.SmtpTable,
    "[submission]": settings.SubmissionTable,
    "[limits]": settings.LimitsTable,
}


def documented() -> dict[str, dict[str, str | None]]:
    """Keys and defaults, by section."""
    _, *parts = _TITLE.split(DOCUMENT.read_text())
    return {
        title: {key: default or None for key, default in _KEY.findall(text)}
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def toml(value: Any) -> str | None:
    """A default as the file would have it."""
    if value is attrs.NOTHING or value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(str(toml(item)) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_every_service_is_documented() -> None:
    assert documented()["[listen]"] == dict.fromkeys(SERVICES, "[]")


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_key_is_documented_with_its_default(table: str) -> None:
    cls: Any = TABLES[table]
    assert documented()[table] == {field.name: toml(field.default) for field in attrs.fields(cls)}


def test_every_table_is_documented() -> None:
    read = {field.name for field in attrs.fields(settings._Top)}
    named = set(re.findall(r"\[([a-z0-9_]+)", " ".join(documented()))) | set(documented()["Top"])
    assert named == read
