"""The router that reads another server's table: what it leads to, and when it is read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mailhub.delivery.alias_file import LOOK_SECONDS, AliasFileOptions, AliasFileRouter
from mailhub.delivery.names import LocalNames, NamesInFile
from mailhub.delivery.routing import Routing
from mailhub.errors import ConfigurationError, NoSuchUser, TemporaryError
from mailhub.message.address import Address
from mailhub.message.alias_files import Format
from mailhub.testing.waiting import result_of
from mailhub.threads import InlineThreads
from tests.delivery.doubles import KnownAccounts, environment
from tests.delivery.routers import guarded, standard_routing

DOMAINS = frozenset({"xx.example", "yy.example"})


class Stage:
    """A table before the routers of a hub."""

    def __init__(self, folder: Path, text: str, form: Format = "aliases", *users: str) -> None:
        self.file = folder / "aliases"
        self.clock = Clock()
        self.write(text)
        store: Any = KnownAccounts(*users or ("ann@xx.example", "ben@xx.example"))
        names = LocalNames(NamesInFile(DOMAINS))
        world = attrs.evolve(environment(self.clock), threads=InlineThreads())
        router = AliasFileRouter(AliasFileOptions(self.file, form), names, store, world)
        self.routing: Routing = standard_routing("mx.xx.example", names, store, {}, (guarded(router),))

    def write(self, text: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.file)

    def ends(self, recipient: str) -> list[str]:
        routes = result_of(self.routing.route(Address.parse(recipient)))
        return [route.target or f"{route.agent} {route.recipient}" for route in routes]


def test_it_leads_where_the_file_says(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        "info: ann, far@else.example\nann: \\ann, ben\nold: :fail: Ask somebody else\nlater: :defer: soon\n"
        "gone: /dev/null\none@yy.example: two\n*: ben\n",
    )
    assert stage.ends("Info+x@xx.example") == ["smtp far@else.example", "ann@xx.example", "ben@xx.example"]
    assert stage.ends("ann@xx.example") == ["ann@xx.example", "ben@xx.example"]
    with pytest.raises(NoSuchUser, match="Ask somebody else"):
        stage.ends("old@xx.example")
    with pytest.raises(TemporaryError, match="soon"):
        stage.ends("later@xx.example")
    assert stage.ends("gone@xx.example") == ["discard gone@xx.example"]
    assert stage.ends("typo@xx.example") == ["ben@xx.example"]
    assert stage.ends("ben+x@xx.example") == ["ben@xx.example"]
    assert stage.ends("info@else.example") == ["smtp info@else.example"]


def test_tables_of_postfix(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "@yy.example @xx.example\nboth@xx.example ann ben\n", "virtual")
    assert stage.ends("ann@yy.example") == ["ann@xx.example"]
    assert stage.ends("both@yy.example") == ["ann@xx.example", "ben@xx.example"]
    stage = Stage(tmp_path, "/^sales-(.*)@xx/ $1@xx.example\n/./ ben@xx.example\n", "regexp")
    assert stage.ends("sales-ann@xx.example") == ["ann@xx.example"]
    assert stage.ends("other@xx.example") == ["ben@xx.example"]
    assert stage.ends("ann@xx.example") == ["ann@xx.example"]


def test_a_file_that_changes_is_read_again_and_a_mistake_in_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("ann")
    stage = Stage(tmp_path, f"team: :include:{tmp_path}/list\n")
    assert stage.ends("team@xx.example") == ["ann@xx.example"]
    (tmp_path / "list").write_text("ann, ben")
    assert stage.ends("team@xx.example") == ["ann@xx.example"]
    stage.clock.advance(LOOK_SECONDS)
    assert stage.ends("team@xx.example") == ["ann@xx.example", "ben@xx.example"]
    with capturedLogs() as logs:
        for _ in range(3):
            stage.write("team: ben\nx: |prog\n")
            stage.clock.advance(LOOK_SECONDS)
            assert stage.ends("team@xx.example") == ["ann@xx.example", "ben@xx.example"]
            stage.clock.advance(LOOK_SECONDS)
            assert stage.ends("team@xx.example") == ["ann@xx.example", "ben@xx.example"]
    told = [formatEvent(event) or "" for event in logs]
    assert 1 <= len([line for line in told if "line 2: " in line and "is a program" in line]) <= 3
    stage.file.unlink()
    stage.clock.advance(LOOK_SECONDS)
    assert stage.ends("team@xx.example") == ["ann@xx.example", "ben@xx.example"]
    stage.write("team: ben\n")
    stage.clock.advance(LOOK_SECONDS)
    assert stage.ends("team@xx.example") == ["ben@xx.example"]


@pytest.mark.parametrize("text", ["ann\n", "a: /file\n"])
def test_a_table_with_a_mistake_does_not_begin(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="aliases: line 1: "):
        Stage(tmp_path, text)
