"""What a configuration that is read again can change of a running server."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from mailhub.config.difference import Difference, compare
from mailhub.config.settings import Config, parse

TOP = 'hostname = "mx.xx.example"\ndata = "data"\ndomains = ["xx.example"]\n'
TLS = '[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n'


def read(text: str) -> Config:
    return parse(text, Path("/etc/mailhub/m.toml"))


def changes(before: str, after: str) -> Difference:
    return compare(read(before), read(after))


def test_nothing() -> None:
    assert changes(TOP, TOP + "# a comment\n") == Difference(read(TOP), (), ())


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ('[aliases]\n"info@xx.example" = ["a@xx.example"]\n', "[aliases]"),
        ('[route."yy.example"]\nhost = "h"\n', '[route."yy.example"]'),
        ('[policy.x]\ntype = "grey"\n', "[policy.x]"),
        ('[checker.x]\ntype = "ldap"\n', "[checker.x]"),
        ('[delivery]\npolicies = ["x"]\n', "[delivery] policies"),
        ("[limits]\nsmtp_idle_seconds = 99\n", "[limits] smtp_idle_seconds"),
        ("[queue]\nexpire_hours = 7\n", "[queue] expire_hours"),
        ('[smtp]\nbare_lines = "reject"\n', "[smtp] bare_lines"),
        ('[smtp]\nextensions_off = ["chunking"]\n', "[smtp] extensions_off"),
        ('[trust]\nproxy_protocol = ["192.0.2.1"]\n', "[trust] proxy_protocol"),
        ("[auth]\nfailures_free = 9\n", "[auth] failures_free"),
        (TLS, "[tls]"),
    ],
)
def test_what_takes_effect_is_named_by_table_and_key_on_the_way_there_and_back(more: str, name: str) -> None:
    assert changes(TOP, TOP + more) == Difference(read(TOP + more), (name,), ())
    assert changes(TOP + more, TOP) == Difference(read(TOP), (name,), ())


def test_names_are_no_tables() -> None:
    found = changes(TOP, TOP.replace("xx.example", "yy.example"))
    assert (found.changed, found.lasting) == (("hostname", "domains"), ())


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ('[listen]\nsmtp = ["tcp:25"]\n', "[listen] smtp"),
        ('[store]\ntype = "other"\n', "[store]"),
        ('[dns]\nservers = ["192.0.2.1"]\n', "[dns] servers"),
        ("[limits]\nthreads = 99\n", "[limits] threads"),
        ("[limits]\nmailboxes_per_account = 99\n", "[limits] mailboxes_per_account"),
    ],
)
def test_what_lasts_is_named_and_kept(more: str, name: str) -> None:
    running = read(TOP)
    assert compare(running, read(TOP + more)) == Difference(running, (), (name,))
    # Asked again, it is said again.
    assert compare(running, read(TOP + more)).lasting == (name,)


def test_the_data_folder_lasts() -> None:
    assert changes(TOP, TOP.replace('"data"', '"elsewhere"')) == Difference(read(TOP), (), ("data",))


def test_a_certificate_cannot_be_taken_from_services_that_need_it() -> None:
    running = TOP + TLS + '[listen]\nimaps = ["tcp:993"]\n'
    found = changes(running, TOP)
    assert found.config.tls == read(running).tls
    assert set(found.lasting) == {"[tls]", "[listen] imaps"}
    named_otherwise = changes(running, running.replace("c.pem", "new.pem"))
    assert (named_otherwise.changed, named_otherwise.lasting) == (("[tls] certificate",), ())


def test_a_service_that_is_not_listed_any_more_keeps_its_table_as_it_keeps_its_port() -> None:
    table = '[service.x]\ntype = "echo"\nword = "before"\n'
    found = changes(TOP + '[listen]\nx = ["tcp:7"]\n' + table, TOP + '[service.y]\ntype = "echo"\n')
    assert (found.changed, found.lasting) == (("[service.y]",), ("[listen] x", "[service.x]"))
    assert {(name, part.type) for (_, name), part in found.config.parts.items()} == {("x", "echo"), ("y", "echo")}
    listed = changes(
        TOP + '[listen]\nx = ["tcp:7"]\n' + table, TOP + '[listen]\nx = ["tcp:8"]\n' + table.replace("before", "now")
    )
    assert (listed.changed, listed.lasting) == (("[service.x]",), ("[listen] x",))


def test_of_one_table_each_key_goes_its_own_way() -> None:
    found = changes(TOP, TOP + "[limits]\nthreads = 99\nhops = 9\n")
    assert (found.changed, found.lasting) == (("[limits] hops",), ("[limits] threads",))
    assert found.config.limits == attrs.evolve(read(TOP).limits, hops=9)
