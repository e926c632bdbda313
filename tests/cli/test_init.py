"""`mailhub init`: what a newcomer gets."""

from __future__ import annotations

import os
import pwd
import re
import stat
import tempfile
from pathlib import Path

import pytest

from mailhub.auth.passwords import verify_password
from mailhub.cli.init import TEMPLATE
from mailhub.cli.offline import opened
from mailhub.cli.records.dkim import record_of
from mailhub.config.settings import Config, load
from mailhub.delivery.authentication.keys import PART, KeptKeys
from mailhub.net.tls import server_context
from tests.cli.conftest import Command


def account_hash(config: Config, user: str) -> str:
    with opened(config, "create") as hub:
        account = hub.wait(hub.accounts.find(user))
    assert account is not None
    return account.password_hash


def test_init_leaves_all_that_a_server_needs(mailhub: Command, tmp_path: Path) -> None:
    result = mailhub("init", "You@Example.org", "--hostname", "mx.example.org")
    assert (result.status, result.err) == (0, "")
    config = load(tmp_path / "mailhub.toml")
    assert config.hostname == "mx.example.org"
    assert config.domains == ("example.org",)
    assert config.aliases == {"postmaster@example.org": ("You@example.org",)}
    assert config.data == tmp_path / "data"
    assert len(config.listen) == 7
    assert config.tls is not None
    server_context(config.tls.certificate, config.tls.key)
    assert stat.S_IMODE(config.tls.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.data.stat().st_mode) == 0o700
    shown = re.search(r"password  (\S{23}) ", result.out)
    assert shown
    assert verify_password(account_hash(config, "you@example.org"), shown[1])


def test_init_tells_what_to_publish_and_what_comes_next(mailhub: Command) -> None:
    out = mailhub("init", "you@example.org", "--hostname", "mx.example.org").out
    records = dict(re.findall(r"^  (\S+)  ((?:A|AAAA|PTR|MX|TXT|SRV) .*)$", out, re.MULTILINE))
    assert records["example.org."] == 'TXT  "v=spf1 mx -all"'
    assert records["_dmarc.example.org."] == 'TXT  "v=DMARC1; p=none; rua=mailto:postmaster@example.org"'
    assert records["_imaps._tcp.example.org."] == "SRV  0 1 993 mx.example.org."
    assert records["_submission._tcp.example.org."] == "SRV  10 1 587 mx.example.org."
    assert "  example.org.  MX  10 mx.example.org.\n" in out
    assert re.search(r"^  mx\.example\.org\.  A  +<its public IPv4 address>\n  mx\.example\.org\.  AAAA ", out, re.M)
    assert re.search(r"PTR  mx\.example\.org\.$", out, re.M)
    assert "self-signed" in out
    assert out.index("mailhub check") < out.index("twistd -n mailhub")


def test_init_makes_keys_that_sign_once_dns_has_their_records(mailhub: Command, tmp_path: Path) -> None:
    out = mailhub("init", "you@example.org", "--hostname", "mx.example.org").out
    with opened(load(tmp_path / "mailhub.toml"), "read") as hub:
        keys = hub.wait(KeptKeys(hub.database.state.of(PART)).all())
    assert sorted((each.key.domain, each.algorithm, each.state) for each in keys) == [
        ("example.org", "ed25519", "new"),
        ("example.org", "rsa", "new"),
    ]
    for each in keys:
        assert f"  {record_of(each)}\n" in out
    (tmp_path / "mailhub.toml").unlink()
    again = mailhub("init", "you@example.org", "--hostname", "mx.example.org").out
    assert all(f"  {record_of(each)}\n" in again for each in keys)


def test_who_is_not_root_is_told_how_to_open_low_ports(
    mailhub: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    last = mailhub("init", "you@example.org").out.splitlines()[-1]
    words = last.split()
    assert words[0] == "sudo"
    # The whole path: root's own has no virtual environment on it.
    assert Path(words[1]).is_file()
    assert words[-2:] == ["--config", str(tmp_path / "mailhub.toml")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_is_told_to_serve_as_the_owner_of_the_data(mailhub: Command) -> None:
    with tempfile.TemporaryDirectory(prefix="mailhub test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own folders are closed to other users
        (folder / "data").mkdir(mode=0o700)
        os.chown(folder / "data", 65534, 65534)
        last = mailhub("--config", f"{folder}/m.toml", "init", "you@example.org").out.splitlines()[-1]
        assert last == f"  twistd -n mailhub --config '{folder}/m.toml' --user {pwd.getpwuid(65534).pw_name}"


def test_every_key_of_the_written_file_is_explained_by_its_comments(mailhub: Command, tmp_path: Path) -> None:
    mailhub("init", "you@example.org")
    assert "# " in TEMPLATE
    text = (tmp_path / "mailhub.toml").read_text()
    # What is commented out must be right too, for whoever takes the # away.
    uncommented = re.sub(r"^# (\[|host|tls|user|password)", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "smarthost-password").write_text("x")
    (tmp_path / "all.toml").write_text(uncommented)
    assert load(tmp_path / "all.toml").routes["*"].host == "smtp.example.net:587"


def test_an_existing_configuration_is_left_alone(mailhub: Command, config: Config) -> None:
    before = config.file.read_text()
    result = mailhub("init", "you@example.org")
    assert result.status == 1
    assert "mailhub.toml exists already; name another with --config" in result.err
    assert config.file.read_text() == before
    assert not (config.file.parent / "key.pem").exists()


def test_init_goes_on_after_it_was_interrupted(mailhub: Command, tmp_path: Path) -> None:
    mailhub("init", "you@example.org")
    key = (tmp_path / "key.pem").read_bytes()
    (tmp_path / "mailhub.toml").unlink()
    again = mailhub("init", "you@example.org", "--password-stdin", stdin="second\n")
    assert again.status == 0
    assert (tmp_path / "key.pem").read_bytes() == key
    assert verify_password(account_hash(load(tmp_path / "mailhub.toml"), "you@example.org"), "second")


def test_init_makes_nothing_where_a_database_is_missing(mailhub: Command, tmp_path: Path) -> None:
    (tmp_path / "data" / "blobs").mkdir(parents=True)
    assert "mailhub.sqlite: is not there, but blobs beside it" in mailhub("init", "you@example.org").err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_certificate_of_ones_own(mailhub: Command, tmp_path: Path) -> None:
    mailhub("--config", "first/m.toml", "init", "you@example.org")
    own = [str(tmp_path / "first" / name) for name in ("certificate.pem", "key.pem")]
    out = mailhub("init", "you@example.org", "--certificate", own[0], "--key", own[1]).out
    assert "self-signed" not in out
    tls = load(tmp_path / "mailhub.toml").tls
    assert tls is not None
    assert [str(tls.certificate), str(tls.key)] == own


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("you",), '"you" is not a mail address: address has no @'),
        (("you@[192.0.2.1]",), '"[192.0.2.1]" is an address literal, not a domain name'),
        (("you@x.example", "--hostname", "a b"), '"a b" is not a domain name: domain is malformed'),
        (("you@x.example", "--key", "k"), "--certificate and --key go together"),
        (("you@x.example", "--key", "k", "--certificate", "c"), '[tls] certificate "'),
        (("you@x.example", "--password-stdin"), "this password cannot be used: "),
        (("you@x.example", "--data", "file/below"), "data folder "),
    ],
)
def test_mistakes_leave_no_configuration(mailhub: Command, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    (tmp_path / "file").write_text("")
    result = mailhub("init", *words)
    assert result.status == 1
    assert result.err.startswith(f"mailhub: {line}")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "mailhub.toml").exists()
