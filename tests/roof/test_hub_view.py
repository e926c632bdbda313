"""What a component is given of its hub."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailhub.api import Component, IHub, Part
from mailhub.delivery.local import StoreAgent
from mailhub.errors import ConfigurationError
from mailhub.hub_view import view
from mailhub.testing.hubs import Internet
from mailhub.threads import FewThreads
from tests.store.mirror.simple_stores import DictStore


class Keeper(DictStore):
    hubs: list[IHub] = []

    def __init__(self, options: Any, hub: IHub) -> None:
        super().__init__(options, hub)
        self.hubs.append(hub)


class Router:
    def __init__(self, options: Any, hub: IHub) -> None:
        Keeper.hubs.append(hub)

    async def route(self, recipient: Any, transaction: Any) -> None:
        return None


PLUGINS = [Component("store", "keeper", Keeper), Component("router", "keeper", Router)]


def test_a_component_knows_who_it_is() -> None:
    Keeper.hubs.clear()
    config = {
        "store": {"type": "keeper"},
        "router": {"mine": {"type": "keeper"}},
        "delivery": {"routers": ["keeper", "mine", "exchangers"]},
    }
    with Internet() as internet:
        internet.hub("xx.example", config=config, plugins=PLUGINS)
        parts = [hub.part for hub in Keeper.hubs]
    assert parts == [Part(*name, __file__) for name in [("store", "keeper"), ("router", "keeper"), ("router", "mine")]]


def test_each_component_remembers_what_is_its_own() -> None:
    Keeper.hubs.clear()
    config = {
        "store": {"type": "keeper"},
        "router": {"mine": {"type": "keeper"}},
        "delivery": {"routers": ["keeper", "mine", "exchangers"]},
    }
    with Internet() as internet:
        host = internet.hub("xx.example", config=config, plugins=PLUGINS)
        for number, hub in enumerate(Keeper.hubs):
            internet.wait(hub.state.put({"a": bytes([number])}))
        assert [internet.wait(hub.state.get("a")) for hub in Keeper.hubs] == [b"\0", b"\1", b"\2"]
        assert internet.wait(host.hub.database.state.of("router mine").get("a")) == b"\2"


def test_what_the_contract_does_not_name_is_not_there() -> None:
    Keeper.hubs.clear()
    with Internet() as internet:
        host = internet.hub("xx.example", config={"store": {"type": "keeper"}}, plugins=PLUGINS)
        (hub,) = Keeper.hubs
        seen: Any = hub
        assert hub.queue is host.hub.queue
        assert hub.shared("one", list) is hub.shared("one", list)
        for name in ("runner", "adopt", "_started", "agents"):
            assert hasattr(host.hub, name)
            with pytest.raises(AttributeError, match=f"IHub has no '{name}'"):
                getattr(seen, name)


def test_a_plugin_has_threads_of_its_own_and_mailhub_the_hubs() -> None:
    Keeper.hubs.clear()
    with Internet() as internet:
        host = internet.hub("xx.example", config={"store": {"type": "keeper"}}, plugins=PLUGINS)
        (hub,) = Keeper.hubs
        theirs = hub.environment
        assert theirs is hub.environment
        assert isinstance(theirs.threads, FewThreads)
        assert attrs.evolve(theirs, threads=host.hub.environment.threads) == host.hub.environment
        ours = view(host.hub, Part("agent", "store", inspect.getfile(StoreAgent)))
        assert ours.environment is host.hub.environment


def test_the_contract_says_of_everything_what_it_is() -> None:
    (contract,) = [
        node
        for node in ast.parse(Path(inspect.getfile(Part)).read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "IHub"
    ]
    said = {
        node.target.id: ast.unparse(node.annotation)
        for node in contract.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert set(said) == set(IHub.names(all=True)) - {"shared"}
    assert not [name for name, annotation in said.items() if "Any" in annotation or "object" in annotation]


def test_what_is_not_there_yet_is_told_with_the_kind() -> None:
    early = Component("store", "early", lambda _, hub: hub.pipeline)
    with (
        Internet() as internet,
        pytest.raises(ConfigurationError, match=r"hub\.pipeline is not there yet when a store is built"),
    ):
        internet.hub("xx.example", config={"store": {"type": "early"}}, plugins=[early])


def test_a_simple_stores_ledger_has_its_name(tmp_path: Path) -> None:
    with Internet(folder=tmp_path) as internet:
        (tmp_path / "1-xx.example").mkdir()
        internet.hub("xx.example", config={"store": {"type": "keeper"}}, plugins=PLUGINS)
        assert [file.name for file in (tmp_path / "1-xx.example" / "stores").glob("*.sqlite")] == ["keeper.sqlite"]
