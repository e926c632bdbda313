"""Where recipients go."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mailhub.delivery.lists import ListRouter
from mailhub.delivery.names import LocalNames, NamesInFile
from mailhub.delivery.routing import CatchAllRouter, Routing
from mailhub.delivery.targets import distinct
from mailhub.errors import MailError, NoSuchUser, NotPermitted, NotYetKnown, PermanentError, TemporaryError
from mailhub.interfaces import ALIAS, ITransactionView, NextHop, Origin, OwnTransaction, ReversePath, Route
from mailhub.message.address import Address
from mailhub.message.aliases import AliasTable
from mailhub.message.envelope import Mail
from mailhub.message.lists import MailingList
from mailhub.protocols.smtp import reply_to
from mailhub.testing.waiting import result_of
from tests.delivery.doubles import KnownAccounts, Table
from tests.delivery.routers import guarded, standard_routing

DOMAINS = frozenset({"xx.example", "xn--bcher-kva.example"})


def routing(
    aliases: dict[str, list[str]] | None = None,
    *users: str,
    hops: dict[str, NextHop] | None = None,
    before: tuple[Any, ...] = (),
) -> Routing:
    table = AliasTable.parse(aliases or {}, DOMAINS)
    store: Any = KnownAccounts(*users)
    return standard_routing("mx.xx.example", LocalNames(NamesInFile(DOMAINS, table)), store, hops or {}, before)


def ends(chain: Routing, recipient: str) -> list[tuple[str, str, str]]:
    routes = result_of(chain.route(Address.parse(recipient)))
    return [(route.agent, str(route.recipient), route.target) for route in routes]


def stored(user: str, recipient: str = "") -> tuple[str, str, str]:
    return ("store", recipient or user, user)


def test_an_account_is_found_in_any_spelling_and_keeps_its_detail() -> None:
    chain = routing({}, "a@xx.example", "b@xn--bcher-kva.example")
    assert ends(chain, "A@XX.example") == [stored("a@xx.example", "A@xx.example")]
    assert ends(chain, "a+lists@xx.example") == [stored("a@xx.example", "a+lists@xx.example")]
    assert ends(chain, "b@bücher.example") == [stored("b@xn--bcher-kva.example", "b@bücher.example")]


def test_an_account_whose_name_has_the_detail_comes_first() -> None:
    chain = routing({"a@xx.example": ["c@xx.example"]}, "a+x@xx.example", "c@xx.example")
    assert ends(chain, "a+x@xx.example") == [stored("a+x@xx.example")]
    assert ends(chain, "a+y@xx.example") == [stored("c@xx.example")]


@pytest.mark.parametrize(
    "recipient", ["nobody@xx.example", "+a@xx.example", "a%yy.example@xx.example", "x!a@xx.example"]
)
def test_other_names_of_a_local_domain_are_unknown(recipient: str) -> None:
    with pytest.raises(NoSuchUser):
        ends(routing({}, "a@xx.example"), recipient)


def test_aliases_are_followed_to_accounts_and_other_hosts() -> None:
    chain = routing(
        {
            "all@xx.example": ["team@xx.example", "far@else.example"],
            "team@xx.example": ["a@xx.example", "b@xx.example"],
        },
        "a@xx.example",
        "b@xx.example",
    )
    assert ends(chain, "all@xx.example") == [
        ("smtp", "far@else.example", ""),
        stored("a@xx.example"),
        stored("b@xx.example"),
    ]


def test_a_bare_name_is_an_alias_in_every_local_domain() -> None:
    chain = routing({"Info": ["a@xx.example"]}, "a@xx.example")
    assert ends(chain, "info@xn--bcher-kva.example") == ends(chain, "INFO@xx.example") == [stored("a@xx.example")]
    assert ends(chain, "info@else.example") == [("smtp", "info@else.example", "")]


def test_catch_all_serves_only_names_nothing_else_knows() -> None:
    chain = routing({"@xx.example": ["a@xx.example"], "x@xx.example": ["b@xx.example"]}, "a@xx.example", "b@xx.example")
    assert ends(chain, "typo@xx.example") == [stored("a@xx.example")]
    assert ends(chain, "x@xx.example") == [stored("b@xx.example")]
    assert ends(chain, "b+x@xx.example") == [stored("b@xx.example", "b+x@xx.example")]


@pytest.mark.parametrize(
    ("elsewhere", "expected"),
    [((), NoSuchUser), (None, NotYetKnown), ({"xx.example"}, NotYetKnown), ({"yy.example"}, NoSuchUser)],
)
def test_who_may_be_known_elsewhere_is_not_refused_for_good(elsewhere: Any, expected: type[MailError]) -> None:
    table = AliasTable.parse({"@xn--bcher-kva.example": ["a@xx.example"]}, DOMAINS)
    names = LocalNames(NamesInFile(DOMAINS, table, elsewhere))
    router = CatchAllRouter(names)
    with pytest.raises(expected):
        result_of(router.route(Address("ghost", "xx.example"), OwnTransaction()))
    assert result_of(router.route(Address("ghost", "yy.example"), OwnTransaction())) is None
    assert result_of(router.route(Address("ghost", "xn--bcher-kva.example"), OwnTransaction()))
    assert reply_to(NotYetKnown()).text.startswith("451 4.3.0")


def test_an_alias_may_keep_a_copy_for_the_account_of_its_own_name() -> None:
    chain = routing({"a@xx.example": ["A@xx.example", "far@else.example"]}, "a@xx.example")
    assert ends(chain, "a@xx.example") == [stored("a@xx.example", "A@xx.example"), ("smtp", "far@else.example", "")]


def test_every_name_of_an_alias_domain_is_one_of_the_other() -> None:
    domains = DOMAINS | {"zz.example"}
    table = {
        "all@xx.example": ["b@xx.example"],
        "own@zz.example": ["a@xx.example"],
        "@xx.example": ["rest@xx.example"],
        "postmaster@xx.example": ["a@xx.example"],
    }
    store: Any = KnownAccounts("a@xx.example", "b@xx.example", "rest@xx.example")
    file = NamesInFile(DOMAINS, AliasTable.parse(table, domains), same_as={"zz.example": "xx.example"})
    chain = standard_routing("mx.xx.example", LocalNames(file), store, {})
    assert ends(chain, "A+x@ZZ.example") == [stored("a@xx.example", "A+x@xx.example")]
    assert ends(chain, "all@zz.example") == [stored("b@xx.example")]
    assert ends(chain, "own+x@zz.example") == [stored("a@xx.example")]
    assert ends(chain, "typo@zz.example") == [stored("rest@xx.example")]
    assert ends(chain, "Postmaster@zz.example") == [stored("a@xx.example")]


def test_patterns_serve_names_that_nothing_else_knows() -> None:
    table = {
        "@xx.example": ["a@xx.example"],
        "wildcard:sales-*@xx.example": ["b+\\1@xx.example"],
        "regex:(.+)\\.at\\.(.+)@xx\\.example": ["\\1@\\2.example"],
        "regex:loop(.*)@xx\\.example": ["loop\\1@xx.example", "a@xx.example"],
    }
    chain = routing(table, "a@xx.example", "b@xx.example", "sales-1@xx.example")
    assert ends(chain, "sales-anna@xx.example") == [stored("b@xx.example", "b+anna@xx.example")]
    assert ends(chain, "sales-1@xx.example") == [stored("sales-1@xx.example")]
    assert ends(chain, "Ben.at.yy@xx.example") == [("smtp", "Ben@yy.example", "")]
    assert ends(chain, "loops@xx.example") == [stored("a@xx.example")]
    assert ends(chain, "other@xx.example") == [stored("a@xx.example")]


@pytest.mark.parametrize("domain", ["bücher.example", "xn--bcher-kva.example", "BÜCHER.example"])
def test_tables_have_u_labels_and_a_labels_alike(domain: str) -> None:
    for name in ("wildcard:x-*@bücher.example", "wildcard:x-*@xn--bcher-kva.example"):
        chain = routing({name: ["\\1@xx.example"]}, "a@xx.example")
        assert ends(chain, f"x-a@{domain}") == [stored("a@xx.example")]
    file = NamesInFile(
        DOMAINS,
        same_as={"xn--mller-kva.example": "xn--bcher-kva.example"},
        lists={"l@xn--bcher-kva.example": MailingList(post="anyone")},
    )
    names = LocalNames(file)
    assert str(names.same(Address.parse("a@müller.example"))) == "a@xn--bcher-kva.example"
    nobody: Any = KnownAccounts()
    transaction = OwnTransaction(mail=Mail(Address("s", "y.example")))
    routes = result_of(ListRouter(names, nobody, nobody, nobody).route(Address.parse(f"L@{domain}"), transaction)) or ()
    assert [route.target for route in routes] == ["l@xn--bcher-kva.example"]


@pytest.mark.parametrize(("separators", "recipient"), [("-", "a-x@xx.example"), ("+-", "a-x+y@xx.example")])
def test_what_separates_a_detail_can_be_said(separators: str, recipient: str) -> None:
    store: Any = KnownAccounts("a@xx.example")
    names = LocalNames(NamesInFile(DOMAINS, detail_separator=separators))
    chain = standard_routing("mx.xx.example", names, store, {})
    assert ends(chain, recipient) == [stored("a@xx.example", recipient)]
    with pytest.raises(NoSuchUser):
        ends(
            standard_routing("mx.xx.example", LocalNames(NamesInFile(DOMAINS, detail_separator="")), store, {}),
            "a+x@xx.example",
        )


def test_aliases_in_a_ring_end() -> None:
    ring = {"a@xx.example": ["b@xx.example"], "b@xx.example": ["a@xx.example"]}
    with pytest.raises(NoSuchUser):
        ends(routing(ring), "a@xx.example")
    assert ends(routing(ring, "b@xx.example"), "b@xx.example") == [stored("b@xx.example")]


@pytest.mark.parametrize(
    "table",
    [
        {"a@xx.example": ["a@xx.example", "b@xx.example"]},
        {"a@xx.example": ["l@xx.example"], "l@xx.example": ["a@xx.example", "b@xx.example"]},
        {"@xx.example": ["ghost@xx.example", "b@xx.example"]},
    ],
)
def test_a_ring_of_ours_never_leads_to_a_next_hop(table: dict[str, list[str]]) -> None:
    chain = routing(
        {"@xx.example": ["b@xx.example"]} | table, "b@xx.example", hops={"*": NextHop(host="smart.example")}
    )
    assert ends(chain, "a@xx.example") == [stored("b@xx.example")]


@pytest.mark.parametrize(
    ("table", "via"),
    [
        ({"a@xx.example": ["far@else.example"]}, ("a@xx.example",)),
        ({"a@xx.example": ["b+y@xx.example"], "b@xx.example": ["far@else.example"]}, ("a@xx.example", "b@xx.example")),
        (
            {"a+x@xx.example": ["a@xx.example"], "a@xx.example": ["far@else.example"]},
            ("a+x@xx.example", "a@xx.example"),
        ),
        ({"a+x@xx.example": ["far@else.example"], "a@xx.example": ["gone@else.example"]}, ("a+x@xx.example",)),
        ({"@xx.example": ["far@else.example"]}, ("a+x@xx.example",)),
    ],
)
def test_the_way_names_aliases_without_the_detail_that_they_ignore(
    table: dict[str, list[str]], via: tuple[str, ...]
) -> None:
    [route] = result_of(routing(table).route(Address.parse("a+x@xx.example")))
    assert (str(route.recipient), route.via) == ("far@else.example", via)


def test_what_an_alias_has_of_its_own_goes_on_to_its_ends() -> None:
    """A list of a plugin: its members get its mail in its own name, into a mailbox for it."""
    owner = ReversePath(Address.parse("owner@xx.example"))
    table = Table(
        {
            "list@xx.example": [
                Route(ALIAS, Address.parse("both@xx.example"), reverse_path=owner, flags=frozenset({"$List"})),
                Route(ALIAS, Address.parse("b@xx.example"), mailbox="Lists"),
            ],
        }
    )
    aliases = {"both@xx.example": ["a@xx.example", "far@else.example"]}
    chain = routing(aliases, "a@xx.example", "b@xx.example", before=(table,))
    kept = [
        (route.target, route.reverse_path, route.mailbox, route.flags)
        for route in result_of(chain.route(Address.parse("list@xx.example")))
    ]
    assert kept == [
        ("b@xx.example", None, "Lists", frozenset()),
        ("a@xx.example", owner, "", {"$List"}),
        ("", owner, "", {"$List"}),
    ]


def test_an_alias_reached_by_two_ways_is_not_taken_for_a_ring() -> None:
    table = {"all@xx.example": ["a@xx.example", "team@xx.example"], "team@xx.example": ["a@xx.example"]}
    table["a@xx.example"] = ["b@xx.example"]
    assert ends(routing(table, "a@xx.example", "b@xx.example"), "all@xx.example") == [stored("b@xx.example")]


def test_a_target_that_does_not_exist_does_not_spoil_the_others() -> None:
    table = {"l@xx.example": ["gone@xx.example", "a@xx.example"], "m@xx.example": ["gone@xx.example"]}
    assert ends(routing(table, "a@xx.example"), "l@xx.example") == [stored("a@xx.example")]
    with pytest.raises(NoSuchUser):
        ends(routing(table, "a@xx.example"), "m@xx.example")


def test_nesting_and_number_are_bounded() -> None:
    deep = {f"n{i}@xx.example": [f"n{i + 1}@xx.example"] for i in range(12)}
    wide = {"w@xx.example": [f"u{i}@else.example" for i in range(1001)]}
    for table, name in ((deep, "n0@xx.example"), (wide, "w@xx.example")):
        with pytest.raises(TemporaryError) as caught:
            ends(routing(table), name)
        assert caught.value.status == "4.3.5"


@pytest.mark.parametrize(
    "recipient", ["postmaster@xx.example", "PostMaster@bücher.example", "postmaster@mx.xx.example"]
)
def test_postmaster_is_known_in_every_domain_and_on_the_host(recipient: str) -> None:
    by_alias = routing({"postmaster@xx.example": ["a@xx.example"]}, "a@xx.example")
    assert ends(by_alias, recipient) == [stored("a@xx.example")]
    by_account = routing({}, "postmaster@xx.example")
    assert [target for _, _, target in ends(by_account, recipient)] == ["postmaster@xx.example"]


def test_abuse_is_the_postmasters_unless_somebody_has_the_name() -> None:
    by_alias = routing({"postmaster@xx.example": ["a@xx.example"]}, "a@xx.example")
    assert ends(by_alias, "Abuse@xx.example") == [stored("a@xx.example")]
    own = routing({"postmaster@xx.example": ["a@xx.example"]}, "a@xx.example", "abuse@xx.example")
    assert [target for _, _, target in ends(own, "abuse@xx.example")] == ["abuse@xx.example"]
    with pytest.raises(NoSuchUser):
        ends(routing({}, "a@xx.example"), "abuse@xx.example")


def test_a_postmaster_that_nobody_is_is_not_looked_for_elsewhere() -> None:
    for recipient in ("postmaster@xx.example", "postmaster@mx.xx.example"):
        with pytest.raises(NoSuchUser):
            ends(routing({}, "a@xx.example"), recipient)


def test_static_next_hops_come_before_mail_exchangers() -> None:
    hops = {"yy.example": NextHop("lmtp", "unix:/run/x"), "xn--bcher-kva.test": NextHop(host="10.0.0.1:2525")}
    chain = routing(hops=hops)
    assert ends(chain, "b@yy.example") == [("lmtp", "b@yy.example", "unix:/run/x")]
    assert ends(chain, "b@bücher.test") == [("smtp", "b@bücher.test", "10.0.0.1:2525")]
    assert ends(chain, "b@[10.0.0.1]") == [("smtp", "b@[10.0.0.1]", "")]
    hops["*"] = NextHop("refuse")
    with pytest.raises(NotPermitted):
        ends(routing(hops=hops), "b@zz.example")


def test_a_plugins_router_is_asked_first_for_alias_targets_too() -> None:
    plugin = Table(
        {
            "list@xx.example": (Route("lmtp", Address("list", "xx.example"), "10.0.0.9:24"),),
            "ldap@xx.example": (Route(ALIAS, Address("a", "xx.example")),),
            "down@xx.example": TemporaryError("directory is away"),
        }
    )
    chain = routing({"l@xx.example": ["list@xx.example", "ldap@xx.example"]}, "a@xx.example", before=(plugin,))
    assert ends(chain, "l@xx.example") == [("lmtp", "list@xx.example", "10.0.0.9:24"), stored("a@xx.example")]
    with pytest.raises(TemporaryError, match="directory is away"):
        ends(chain, "down@xx.example")


def test_a_final_router_is_the_last_one_for_what_it_knows() -> None:
    own, next_hop = Address("b", "xx.example"), Route("smtp", Address("b", "xx.example"), "smart.example")
    everybody = Table({"b@xx.example": (Route(ALIAS, own),)})
    chain = Routing([guarded(everybody), guarded(Table({"b@xx.example": (next_hop,)}))])
    assert ends(chain, "b@xx.example") == [("smtp", "b@xx.example", "smart.example")]
    everybody.final = True
    with pytest.raises(NoSuchUser):
        ends(chain, "b@xx.example")


def test_when_no_router_knows_a_way_the_recipient_is_refused() -> None:
    with pytest.raises(PermanentError) as caught:
        ends(Routing([guarded(Table({}))]), "a@xx.example")
    assert caught.value.status == "5.4.4"


@pytest.mark.parametrize(
    ("name", "targets", "reason"),
    [
        ("a@else.example", ["b@xx.example"], "not one of the local domains"),
        ("@else.example", ["b@xx.example"], "not one of the local domains"),
        ("a@xx.example", [], "at least one target"),
        ("a@xx.example", ["nobody"], "no @"),
        ("a b", ["b@xx.example"], "malformed"),
    ],
)
def test_a_mistake_in_the_table_names_its_key(name: str, targets: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        AliasTable.parse({name: targets}, DOMAINS)
    assert f'"{name}"' in str(caught.value)


def test_final_targets_are_taken_once_and_in_order() -> None:
    a, b = Address("a", "xx.example"), Address("B", "else.example")
    routes = [
        Route("store", a, "a@xx.example"),
        Route("smtp", b),
        Route("store", Address("a+x", "xx.example"), "a@xx.example"),
        Route("smtp", Address("b", "else.example")),
        Route("smtp", b),
    ]
    assert distinct(routes) == (routes[0], routes[1], routes[3])


@pytest.mark.parametrize(
    ("local", "separators", "found"),
    [
        ("a+b+c", "+", [("a", "b+c")]),
        ("a", "+", []),
        ("+a", "+", []),
        ("a+", "+", [("a", "")]),
        ("a+b", "", []),
        ("a-b", "-", [("a", "b")]),
        ("ann-mary+x", "+-", [("ann-mary", "x"), ("ann", "mary+x")]),
    ],
)
def test_detail(local: str, separators: str, found: list[tuple[str, str]]) -> None:
    names = LocalNames(NamesInFile(detail_separator=separators))
    assert [(user.local, detail) for user, detail in names.without_detail(Address(local, "xx.example"))] == found


NAMES = st.sampled_from([f"{c}@xx.example" for c in "abcdef"])
KEYS = st.sampled_from(["@xx.example", *[f"{c}@xx.example" for c in "abcde"]])


@given(st.dictionaries(KEYS, st.lists(NAMES, min_size=1, max_size=4)), st.sets(NAMES), NAMES)
@settings(deadline=None, max_examples=100)
def test_any_table_of_aliases_ends_in_accounts_or_a_refusal(
    table: dict[str, list[str]], users: set[str], name: str
) -> None:
    try:
        found = ends(routing(table, *users), name)
    except MailError:
        return
    targets = [target for _, _, target in found]
    assert targets
    assert len(set(targets)) == len(targets)
    assert set(targets) <= users


async def _coroutine(value: object) -> object:
    return value


@pytest.mark.parametrize("way", [lambda routes: routes, succeed, _coroutine], ids=["plain", "Deferred", "coroutine"])
def test_a_router_may_give_its_routes_in_any_way(way: Any) -> None:
    class Plugin:
        def route(self, recipient: Address, transaction: ITransactionView) -> Any:
            return way([Route("smtp", recipient, "list.example")] if recipient.local == "list" else None)

    chain = routing(None, "a@xx.example", before=(Plugin(),))
    assert ends(chain, "list@xx.example") == [("smtp", "list@xx.example", "list.example")]
    assert ends(chain, "a@xx.example") == [("store", "a@xx.example", "a@xx.example")]


@attrs.define
class Stranger:
    """A plugin's router, which does what it is told."""

    given: Any

    def route(self, recipient: Address, transaction: ITransactionView) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


@pytest.mark.parametrize(
    ("does", "said"), [(ZeroDivisionError(), "router failed"), (7, "router failed"), (None, ""), (Deferred(), "timed")]
)
def test_a_router_that_fails_is_named_and_the_sender_comes_again(does: Any, said: str) -> None:
    clock = Clock()
    odd: Any = Stranger(does)
    chain = routing(None, "a@xx.example", before=(guarded(odd, clock),))
    transaction = OwnTransaction(Origin("smtp", session_id="s1"))
    results: list[Any] = []
    with capturedLogs() as events:
        asking = Deferred.fromCoroutine(chain.route(Address.parse("a@xx.example"), transaction))
        asking.addBoth(results.append)
        clock.advance(30)
    if not said:
        assert [route.target for route in results[0]] == ["a@xx.example"]
        return
    assert results[0].check(TemporaryError)
    assert said in formatEvent(events[0])
    assert "router=stranger session=s1 to=<a@xx.example>" in formatEvent(events[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"reverse_path": Address.parse("owner@xx.example")},
        {"reverse_path": ReversePath("owner@xx.example")},  # type: ignore[arg-type]
        {"flags": {"$Junk"}},
        {"flags": frozenset({7})},
        {"reverse_path": ReversePath(Address("x\r\nX-Evil: 1", "xx.example"))},
        {"recipient": "a@xx.example"},
        {"recipient": Address("a", "x x.example")},
        {"target": None},
        {"mailbox": None},
        {"via": ["a@xx.example"]},
    ],
)
def test_a_route_with_a_wrong_part_is_its_routers_mistake(wrong: dict[str, Any]) -> None:
    odd: Any = Stranger([Route(**{"agent": "smtp", "recipient": Address.parse("a@xx.example"), **wrong})])
    chain = routing(None, before=(odd,))
    with capturedLogs() as events, pytest.raises(TemporaryError):
        ends(chain, "a@xx.example")
    assert formatEvent(events[0]).startswith("router failed: router=stranger ")


def test_what_a_router_refuses_is_refused() -> None:
    odd: Any = Stranger(NotPermitted("No"))
    chain = routing(None, before=(odd,))
    with pytest.raises(NotPermitted):
        ends(chain, "a@xx.example")


@pytest.mark.parametrize("wrong", [Route("smtp", Address("a", "xx.example")), "smtp", ["smtp"], 7])
def test_what_is_no_list_of_routes_is_a_mistake_of_ours_not_of_the_sender(wrong: Any) -> None:
    class Plugin:
        async def route(self, recipient: Address, transaction: ITransactionView) -> Any:
            return wrong

    told = pytest.raises(TemporaryError, match=r"4\.3\.5 Server configuration error \(router plugin\)")
    with capturedLogs() as events, told:
        ends(routing(before=(Plugin(),)), "a@xx.example")
    assert "it gave " in formatEvent(events[0])
