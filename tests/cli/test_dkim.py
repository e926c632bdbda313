"""`mailhub dkim`, which asks a name server on loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import dns.zone
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailhub.checks.signing import new_key
from mailhub.config.settings import Config
from tests.cli.conftest import Command, Result
from tests.cli.zone import name_server

NAMES = [f"{each}._domainkey.xx.example" for each in ("s", "s-rsa", "s-ed25519", "old", "20261129-rsa")]


@pytest.fixture
def zone(mailhub: Command, config: Config) -> Iterator[dict[str, list[str]]]:
    """What DNS has; filled by `publish`. There is a database."""
    records: dict[str, list[str]] = {f"{name} TXT": [] for name in NAMES}
    with name_server(records) as (_, port):
        config.file.write_text(f'{config.file.read_text()}\n[dns]\nservers = ["127.0.0.1#{port}"]\n')
        assert mailhub("account", "add", "ann@xx.example").status == 0
        yield records


def publish(zone: dict[str, list[str]], printed: str) -> None:
    """Paste what a command has printed."""
    text = f"$ORIGIN .\n{printed}"
    for name, _, record in dns.zone.from_text(text, ".", relativize=False, check_origin=False).iterate_rdatas("TXT"):
        zone[f"{name.to_text(omit_final_dot=True)} TXT"] = [record.to_text()]


def keys(mailhub: Command) -> dict[str, str]:
    told = [json.loads(line) for line in mailhub("dkim", "list", "--json").out.splitlines()]
    return {each["selector"]: each["state"] for each in told}


def ok(done: Result) -> str:
    assert (done.status, done.err) == (0, "")
    assert "PRIVATE" not in done.out
    return done.out


def test_keys_sign_when_dns_has_them(mailhub: Command, zone: dict[str, list[str]]) -> None:
    printed = ok(mailhub("dkim", "add", "XX.example", "--selector", "S"))
    assert printed.count("; DNS does not have it") == 2
    assert all(len(each) <= 255 for each in re.findall(r'"([^"]*)"', printed))
    assert keys(mailhub) == {"s-ed25519": "new", "s-rsa": "new"}
    publish(zone, printed)
    assert ok(mailhub("dkim", "check")).count("; DNS has it") == 2
    assert keys(mailhub) == {"s-ed25519": "active", "s-rsa": "active"}
    publish(zone, ok(mailhub("dkim", "list", "xx.example")))
    zone["s-rsa._domainkey.xx.example TXT"] = ['"v=DKIM1; p="']
    done = mailhub("dkim", "check", "xx.example")
    assert done.status == 1
    assert "DNS has something else (key was revoked): v=DKIM1; p=" in done.out


def test_followers_take_over_when_dns_has_them(mailhub: Command, zone: dict[str, list[str]]) -> None:
    ok(mailhub("dkim", "add", "xx.example", "--selector", "s", "--algorithm", "ed25519", "--force"))
    assert keys(mailhub) == {"s": "active"}
    printed = ok(mailhub("dkim", "rotate", "xx.example"))
    assert ok(mailhub("dkim", "rotate", "xx.example")).splitlines()[-1] == printed.splitlines()[-1]
    assert sorted(keys(mailhub).values()) == ["active", "new"]
    assert "retired: its record can be taken out after" in ok(mailhub("dkim", "rotate", "xx.example", "--force"))
    assert keys(mailhub)["s"] == "retired"
    assert sorted(keys(mailhub).values()) == ["active", "retired"]


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_keys_of_other_programs_are_taken_over(
    mailhub: Command, zone: dict[str, list[str]], tmp_path: Path, form: PrivateFormat
) -> None:
    file = tmp_path / "old.private"
    file.write_bytes(new_key("rsa").private_bytes(Encoding.PEM, form, NoEncryption()))
    printed = ok(mailhub("dkim", "import", "xx.example", "old", str(file)))
    assert keys(mailhub) == {"old": "new"}
    publish(zone, printed)
    assert mailhub("dkim", "remove", "xx.example", "old").status == 0
    assert "; DNS has it" in ok(mailhub("dkim", "import", "xx.example", "old", str(file)))
    assert keys(mailhub) == {"old": "active"}
    done = mailhub("dkim", "remove", "xx.example")
    assert done.status == 1
    assert "old of xx.example sign mail and will be gone" in done.err
    assert mailhub("dkim", "remove", "xx.example", "--yes").status == 0
    assert keys(mailhub) == {}


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("add", "a b"), "is not a domain"),
        (("add", "[192.0.2.1]"), "is an address, not a domain"),
        (("add", "xx.example", "--selector", "a b"), "is no selector"),
        (("rotate", "xx.example"), "xx.example has no keys"),
        (("remove", "xx.example"), "xx.example has no such key"),
        (("check",), "there are no keys"),
        (("import", "xx.example", "s", "mailhub.toml"), "no private key in PEM without a password"),
        (("import", "xx.example", "s", "nowhere"), "No such file"),
    ],
)
def test_what_cannot_be_done_is_told(
    mailhub: Command, zone: dict[str, list[str]], words: tuple[str, ...], fault: str
) -> None:
    done = mailhub("dkim", *words)
    assert done.status == 1
    assert fault in done.err
    assert done.err.count("\n") == 1


def test_a_key_is_not_replaced_by_mistake(mailhub: Command, zone: dict[str, list[str]]) -> None:
    ok(mailhub("dkim", "add", "xx.example", "--selector", "s", "--algorithm", "ed25519"))
    done = mailhub("dkim", "add", "xx.example", "--selector", "s", "--algorithm", "ed25519")
    assert "xx.example has a key s already" in done.err
