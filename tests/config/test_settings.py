"""Reading the configuration: what a good file gives, and the one line that each mistake gives."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from mailhub.config import routes
from mailhub.config.routes import relay_addresses
from mailhub.config.settings import (
    FILE_LIMIT,
    AuthTable,
    Config,
    DeliveryTable,
    DnsTable,
    GuardTable,
    LimitsTable,
    QueueTable,
    RouteTable,
    SmtpTable,
    TlsTable,
    load,
    parse,
)
from mailhub.errors import ConfigurationError
from mailhub.services import SERVICES

FILE = Path("/etc/mailhub/mailhub.toml")
TOP = 'hostname = "mx.example.org"\ndata = "data"\n'
FULL = """
hostname = "MX.Example.org"
data = "/var/lib/mailhub"
domains = ["Example.org", "bücher.example"]
[tls]
certificate = "fullchain.pem"
key = "~/privkey.pem"
[listen]
smtp = ["tcp:25", "tcp6:25"]
imap = ["tcp:143:interface=127.0.0.1"]
lmtp = ["unix:run/lmtp"]
[store]
type = "crowd"
seats = 3
[auth]
checkers = ["accounts", "file:/etc/passwd-mail", "people"]
[checker.people]
type = "ldap"
base = "dc=example"
[aliases]
"Postmaster@example.org" = ["you@example.org"]
"@example.org" = ["you@example.org", "me@elsewhere.example"]
abuse = ["you@example.org"]
[route."*"]
host = "relay.example.net:587"
tls = "required"
[queue]
retry_seconds = [1, 2]
[limits]
message_size_bytes = 2000
"""


def read(text: str) -> Config:
    return parse(text, FILE)


def mistake(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    return str(caught.value)


def test_a_full_file_gives_canonical_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = read(FULL)
    assert config.hostname == "mx.example.org"
    assert config.data == Path("/var/lib/mailhub")
    assert config.domains == ("example.org", "xn--bcher-kva.example")
    assert config.tls is not None
    assert config.tls.certificate == Path("/etc/mailhub/fullchain.pem")
    assert config.tls.key == Path("/home/me/privkey.pem")
    assert config.listen == {
        "smtp": ("tcp:25", "tcp6:25"),
        "imap": ("tcp:143:interface=127.0.0.1",),
        "lmtp": ("unix:/etc/mailhub/run/lmtp",),
    }
    assert config.aliases == {
        "Postmaster@example.org": ("you@example.org",),
        "@example.org": ("you@example.org", "me@elsewhere.example"),
        "abuse": ("you@example.org",),
    }
    assert config.routes["*"].host == "relay.example.net:587"
    assert config.queue.retry_seconds == (1, 2)
    assert config.queue.expire_hours == 120
    assert config.limits.message_size_bytes == 2000


def test_the_smallest_file() -> None:
    config = read(TOP)
    assert config.data == Path("/etc/mailhub/data")
    assert (config.database.type, config.store.type) == ("sqlite", "database")
    assert config.store.options == {}
    assert config.auth.checkers == ("accounts",)
    assert config.listen == {}


def test_components_are_named_by_their_table_or_by_their_plugin() -> None:
    config = read(FULL)
    assert (config.store.type, config.store.options) == ("crowd", {"seats": 3})
    people = config.part("checker", "people", config.place("auth", "checkers"))
    assert (people.type, people.options, people.place.table) == ("ldap", {"base": "dc=example"}, "checker.people")
    plain = config.part("policy", "greylist", config.place("delivery", "policies"))
    assert (plain.type, plain.options, plain.guard.failure) == ("greylist", {}, "tempfail")
    assert str(plain.place.error("no")) == f"{FILE}: [delivery] policies: no"


def test_a_rules_table_holds_its_time_alone() -> None:
    config = read(TOP + "[rule.lists]\ntype = 'by-list'\ntimeout_seconds = 5\nfailure = 'x'")
    rule = config.part("rule", "lists", config.place())
    assert (rule.guard.timeout_seconds, rule.options) == (5, {"failure": "x"})


def test_a_policys_table_holds_its_guard_and_the_plugins_keys() -> None:
    config = read(TOP + "[policy.x]\ntype = 'y'\ntimeout_seconds = 5\nfailure = 'skip'\nword = 1")
    policy = config.part("policy", "x", config.place("delivery"))
    assert (policy.guard.timeout_seconds, policy.guard.failure) == (5, "skip")
    assert policy.options == {"word": 1}


# fmt: off
MISTAKES = [
    ("hostname =", "is not TOML: Invalid value (at"),
    ("data = 'x'", "hostname: is missing"),
    ("hostname = 'x'", "data: is missing"),
    ("hostname = 'mx..org'\ndata = 'x'", 'hostname: "mx..org" is not a domain name: domain is malformed'),
    ("hostname = '[1.2.3.4]'\ndata = 'x'", 'hostname: "[1.2.3.4]" is an address literal, not a domain name'),
    ("hostname = 'x'\ndata = 7", "data: must be a path in quotes, not 7"),
    ("hostname = 'x'\ndata = ''", "data: must be a path"),
    (TOP + "domain = ['x']", "domain: unknown key; did you mean domains? known: "),
    (TOP + "domains = 'x'", 'domains: must be a list, not "x"'),
    (TOP + "domains = ['x', 1]", "domains: must be a string, not 1"),
    (TOP + "domains = ['x@y']", 'domains: "x@y" is not a domain name'),
    (TOP + "[limit]\nx = 1", "limit: unknown key; did you mean limits?"),
    (TOP + "[listen]\nsmpt = 5", "[listen] smpt: there is no such service; did you mean smtp? known: imap, "),
    (TOP + "[listen]\nsmtp = 5", "[listen] smtp: must be a list, not 5"),
    (
        TOP + "[transport.t]\nhots = 'x'",
        "[transport.t] hots: unknown key; did you mean host? known: accounts, agent, extensions_off, from_attempt, "
        "host, password, password_file, recipients, senders, source_address, tls, user",
    ),
    (TOP + "[send_as]\n'a@xx.example' = ['x']", '[send_as] "a@xx.example": "x" is no address; all of a domain of'),
    (TOP + "[limits]\nmesage_size_bytes = 1", "[limits] mesage_size_bytes: unknown key; did you mean message_size_b"),
    (TOP + "[limits]\nmessage_size_bytes = 1", "[limits] message_size_bytes: must be from 1024 to 2147483647, not 1"),
    (TOP + "[limits]\nmessage_size_bytes = '1'", '[limits] message_size_bytes: must be a whole number, not "1"'),
    (TOP + "[limits]\nmessage_size_bytes = true", "[limits] message_size_bytes: must be a whole number, not true"),
    (TOP + "[limits]\ncount_loopback = 1", "[limits] count_loopback: must be true or false, not 1"),
    (TOP + "limits = 5", "limits: must be a table, not 5"),
    (TOP + "[queue]\nretry_seconds = [60, -1]", "[queue] retry_seconds: must be a list of whole numbers from 1 to"),
    (TOP + "[queue]\nretry_seconds = [0]", "[queue] retry_seconds: must be a list of whole numbers from 1 to"),
    (TOP + "[tls]\ncertificate = 'c'", "[tls] key: is missing"),
    (TOP + "[listen]\nsmtp = ['25']", '[listen] smtp: "25" is not an endpoint such as "tcp:25"'),
    (TOP + "[listen]\nsmtp = ['tcp:smtp-port']", '[listen] smtp: "tcp:smtp-port" is not an endpoint'),
    (TOP + "[listen]\nsmtp = ['tcp:25:nonsense=1']", '[listen] smtp: "tcp:25:nonsense=1" is not an endpoint'),
    (TOP + "[listen]\nimap = ['tcp:143']", "[listen] imap: nobody could log in without TLS: add a [tls] table"),
    (TOP + "[aliases]\n'a b' = ['x@y']", '[aliases] "a b": "a b" is not an address, an "@domain" or a local part'),
    (TOP + "[aliases]\n'a' = ['x']", '[aliases] "a": "x" is not a mail address: address has no @'),
    (TOP + "[aliases]\n'a' = 'x@y'", "[aliases] a: must be a list"),
    (TOP + "[aliases]\n'a' = []", '[aliases] "a": has no target'),
    (TOP + "[aliases]\n'@a.example' = ['x@y']\n'@A.example' = ['x@y']", '[aliases] "@A.example": is the same as'),
    (TOP + "[route.'a b']\nhost = 'x'", '[route."a b"]: "a b" is not a domain name'),
    (TOP + "[route.'a.example']\nhots = 'x'", '[route."a.example"] hots: unknown key; did you mean host?'),
    (
        TOP + "[route.x]\ntls = 'maybe'",
        '[route.x] tls: must be never or opportunistic or encrypted or required or dane, not "maybe"',
    ),
    (
        TOP + "[route.x]\nhost = 'h'\nuser = 'me'\npassword = 'secret'\ntls = 'never'",
        '[route.x] tls: is "never", and a password is sent under TLS alone',
    ),
    (
        TOP + "[transport.x]\nhost = 'h'\nuser = 'me'\npassword_file = 'secret'\ntls = 'never'",
        '[transport.x] tls: is "never", and a password is sent under TLS alone',
    ),
    (
        TOP + "[route.x]\nagent = 'lmtp'\nhost = 'unix:/run/x'\nuser = 'me'\npassword = 'secret'",
        "[route.x] user: a password is sent under TLS alone, which a local socket has not",
    ),
    (TOP + "[route.x]\nuser = 'me'", "[route.x] user: user and password (or password_file) go together"),
    (
        TOP + "[route.x]\nsource_address = ['1.1.1.1', '2.2.2.2']",
        "[route.x] source_address: has two addresses of one family",
    ),
    (TOP + "[route.x]\nextensions_off = ['CHUNKS']", '[route.x] extensions_off: "CHUNKS" is no extension; there are'),
    (TOP + "[relay]\nsource_address = ['mx']", '[relay] source_address: "mx" is not an IP address'),
    (TOP + "[relay]\nown_addresses = ['1.1.1.0/24']", '[relay] own_addresses: "1.1.1.0/24" is not an IP address'),
    (TOP + "[route.x]\n[route.X]", '[route.X]: is the same as another table, [route."x"]'),
    (TOP + "[delivery]\nrouters = []", "[delivery] routers: must not be empty"),
    (TOP + "[policy.x]\ntype = 'y'\nfailure = 'open'", '[policy.x] failure: must be tempfail or skip, not "open"'),
    (TOP + "[auth]\ndefault_domain = '@'", '[auth] default_domain: "@" is not a domain name'),
    (TOP + "[dns]\nservers = ['ns.example']", '[dns] servers: "ns.example" is not an IP address'),
    (TOP + "[dns]\nservers = ['::1#0']", '[dns] servers: "::1#0" has no port after the #'),
    (TOP + "[trust]\ncleartext_login = ['192.0.2.1/24']", '[trust] cleartext_login: "192.0.2.1/24" is not a network'),
    (TOP + "[trust]\ncleartext_login = ['::1']\n[listen]\nimaps = ['tcp:993']", "[listen] imaps: nobody could log in"),
    (TOP + "[trust]\nproxy_protocol = ['proxy']", '[trust] proxy_protocol: "proxy" is not a network'),
    (TOP + "[smtp]\nextensions_off = ['PIPES']", '[smtp] extensions_off: "PIPES" is no extension; there are PIPELINI'),
    (TOP + "[log]\nfile = 'mailhub.toml'", "[log] file: /etc/mailhub/mailhub.toml is no log file"),
    (TOP + "[log]\nfile = 'x/../data/mailhub.sqlite'", "[log] file: /etc/mailhub/x/../data/mailhub.sqlite is no"),
    (TOP + "[tls]\ncertificate = 'c'\nkey = 'k'\n[log]\nfile = 'k'", "[log] file: /etc/mailhub/k is no log file"),
    (TOP + "[store]\ntype = 1", "[store] type: must be a string, not 1"),
    (TOP + "[agent.x]\nhost = 'y'", "[agent.x] type: is missing: the name of the plugin that makes this agent"),
    (TOP + "[agent]\nx = 1", "[agent] x: must be a table, not 1"),
]
# fmt: on


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_is_one_line_with_file_table_and_key(text: str, expected: str) -> None:
    line = mistake(text)
    assert line.startswith(f"{FILE}: {expected}")
    assert "\n" not in line


# A table's header by the class that says its keys.
TABLES = {
    "tls": TlsTable, "auth": AuthTable, "delivery": DeliveryTable, "dns": DnsTable, "smtp": SmtpTable,
    "queue": QueueTable, "limits": LimitsTable, "route.x": RouteTable, "policy.x": GuardTable,
}  # fmt: skip


@pytest.mark.parametrize("value", ["1979-05-27", "nan", "{}", "[[]]"])
@pytest.mark.parametrize(
    ("table", "key"),
    [(table, field.name) for table, cls in TABLES.items() for field in attrs.fields(cls)]
    + [("listen", name) for name in SERVICES],
)
def test_no_key_takes_a_value_of_a_kind_that_no_key_has(table: str, key: str, value: str) -> None:
    others = "".join(f"{field} = 'x'\n" for field in ("certificate", "key") if table == "tls" and field != key)
    others += "type = 'x'\n" if table == "policy.x" else ""
    line = mistake(f"{TOP}[{table}]\n{others}{key} = {value}\n")
    assert line.startswith(f"{FILE}: [{table}] {key}: must be ")
    assert "\n" not in line


def test_addresses_that_are_listened_on_are_our_own() -> None:
    listening = "[listen]\nsmtp = ['tcp:25', 'tcp:25:interface=192.0.2.1', 'tcp6:25:interface=2001\\:db8\\:\\:1']\n"
    config = read(TOP + listening + "[relay]\nown_addresses = ['198.51.100.1']")
    assert relay_addresses(config).own == ("198.51.100.1", "192.0.2.1", "2001:db8::1")


def test_passwords_stay_out_of_the_log() -> None:
    config = read(TOP + "[route.'*']\nhost = 'h'\nuser = 'me'\npassword = 'hunter2'")
    assert config.routes["*"].password == "hunter2"
    assert "hunter2" not in repr(config)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("nothing.toml: there is no such file; `mailhub init")):
        load(tmp_path / "nothing.toml")
    with pytest.raises(ConfigurationError, match="cannot read the configuration: Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"hostname = '\xe9'")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load(tmp_path / "latin.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * (FILE_LIMIT + 1))
    with pytest.raises(ConfigurationError, match="larger than"):
        load(tmp_path / "huge.toml")


def test_deep_nesting_is_a_mistake_and_no_crash() -> None:
    assert "is not TOML" in mistake("x = " + "[" * 100_000)


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.toml").write_text(TOP)
    monkeypatch.chdir(tmp_path)
    assert load("m.toml").data == tmp_path / "data"


def test_trusted_networks_need_no_tls_table() -> None:
    text = TOP + "[trust]\ncleartext_login = ['10.0.0.0/8']\n[listen]\nimap = ['tcp:143']\nsubmission = ['tcp:587']\n"
    assert parse(text, FILE).trust.cleartext_login == ("10.0.0.0/8",)


def test_domains_that_are_the_same_as_others() -> None:
    config = read(TOP + '[domain_aliases]\n"Old.example" = "bücher.example"\n')
    assert config.domain_aliases == {"old.example": "xn--bcher-kva.example"}
    with pytest.raises(ConfigurationError, match=r'\[domain_aliases\] "a b": '):
        read(TOP + '[domain_aliases]\n"a b" = "xx.example"\n')


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ('[domain_aliases]\n"xx.example" = "yy.example"', '[domain_aliases] "xx.example": stands in domains as well'),
        ('[domain_aliases]\n"zz.example" = "ww.example"', '[domain_aliases] "zz.example": "ww.example" is not one of'),
        (
            '[aliases]\n"@zz.example" = ["a@xx.example"]\n[domain_aliases]\n"zz.example" = "xx.example"',
            '[aliases] "@zz.example": has no catch-all of its own',
        ),
        ('[delivery]\ndetail_separator = "+a"', '[delivery] detail_separator: "a" cannot separate'),
        ('[aliases]\n"regex:(" = ["a@xx.example"]', '[aliases] "regex:(": '),
        ('[aliases]\n"wildcard:*" = ["\\\\3@xx.example"]', '[aliases] "wildcard:*": there is no group'),
    ],
)
def test_mistakes_in_names_are_named(tables: str, message: str) -> None:
    top = 'hostname = "mx.xx.example"\ndata = "data"\ndomains = ["xx.example", "yy.example"]\n'
    with pytest.raises(ConfigurationError) as caught:
        routes.names(read(top + tables + "\n"))
    assert message in str(caught.value)
