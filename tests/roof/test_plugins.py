"""The plugin door: what is found, what is said about what is not, and that the documentation's example serves mail."""

from __future__ import annotations

import hashlib
import hmac
import poplib
import smtplib
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from zope.interface.verify import verifyObject

from mailhub.config.reader import Place
from mailhub.config.settings import Part
from mailhub.errors import ConfigurationError
from mailhub.interfaces import IComponentFactory
from mailhub.plugins import Catalogue, Component, load_catalogue
from mailhub.testing.process import ServerProcess, insecure_tls

DOCUMENT = Path(__file__).parents[2] / "docs" / "plugins.rst"
PLACE = Place("m.toml", Path("/etc"), "policy.x")
Put = Callable[[str, str], Path]


@attrs.frozen
class Words:
    word: str


def part(name: str, options: dict[str, Any] | None = None) -> Part:
    return Part("policy", "x", name, options or {}, PLACE)


def refusal(catalogue: Catalogue, wanted: Part) -> str:
    with pytest.raises(ConfigurationError) as caught:
        catalogue.build(wanted, None)  # type: ignore[arg-type]
    return str(caught.value)


def test_the_built_in_components_come_by_the_plugin_door() -> None:
    catalogue = load_catalogue()
    assert {"sqlite"} <= set(catalogue.names("store"))
    assert {"accounts"} <= set(catalogue.names("checker"))
    assert {"store", "smtp", "lmtp"} <= set(catalogue.names("agent"))
    assert {"aliases", "accounts", "postmaster", "catch-all", "static", "exchangers"} <= set(catalogue.names("router"))
    for factory in catalogue.factories:
        verifyObject(IComponentFactory, factory)


def test_a_file_in_a_foreign_folder_is_found(plugin: Put) -> None:
    plugin(
        "words_plugin.py",
        "import attrs\nfrom mailhub.plugins import Component\n"
        "@attrs.frozen\nclass Options:\n    word: str\n"
        "policy = Component('policy', 'words', lambda options, hub: options.word, Options)\n",
    )
    catalogue = load_catalogue()
    assert catalogue.names("policy") == ["words"]
    assert catalogue.build(part("words", {"word": "spam"}), None) == "spam"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import there_is_no_such_module\n", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('one\\ntwo')\n", "RuntimeError: one two"),
    ],
)
def test_a_broken_file_is_told_and_stops_nobody(plugin: Put, text: str, reason: str) -> None:
    file = plugin("broken_plugin.py", text)
    catalogue = load_catalogue()
    (line,) = catalogue.broken
    assert line.startswith(f"{file}: {reason}")
    assert "sqlite" in catalogue.names("store")
    # Whoever misses a component learns why it is missing.
    assert refusal(catalogue, part("mine")).endswith(f"; not loaded: {line}")


def test_a_name_that_no_plugin_has_lists_those_there_are() -> None:
    names = ("greylist", "ratelimit")
    catalogue = Catalogue(tuple(Component("policy", name, lambda options, hub: 1) for name in names))
    said = "there is no policy plugin called 'graylist'; did you mean greylist? known: greylist, ratelimit"
    assert refusal(catalogue, part("graylist")) == f"m.toml: [policy.x]: {said}"


def test_two_plugins_of_one_name_are_not_chosen_between() -> None:
    one = Component("policy", "words", lambda options, hub: 1)
    assert "2 policy plugins are called 'words'" in refusal(Catalogue((one, one)), part("words"))


def test_a_mistake_in_the_options_names_table_and_key() -> None:
    catalogue = Catalogue((Component("policy", "words", lambda options, hub: options, Words),))
    assert refusal(catalogue, part("words", {"wort": "x"})).startswith("m.toml: [policy.x] wort: unknown key; did you")
    assert refusal(catalogue, part("words")) == "m.toml: [policy.x] word: is missing"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigurationError("no such server"), "m.toml: [policy.x]: no such server"),
        (OSError("no"), "m.toml: [policy.x]: words cannot be built: OSError: no"),
    ],
)
def test_a_plugin_that_cannot_be_built_is_one_line(error: Exception, line: str) -> None:
    def make(options: object, hub: object) -> None:
        raise error

    assert refusal(Catalogue((Component("policy", "words", make),)), part("words")) == line


def code_block(language: str) -> str:
    """The first block of a language in the documentation."""
    after = DOCUMENT.read_text().split(f".. code-block:: {language}\n\n", 1)[1]
    lines = []
    for line in after.splitlines(keepends=True):
        if line.strip() and not line.startswith("    "):
            break
        lines.append(line)
    return textwrap.dedent("".join(lines))


@pytest.mark.system
def test_the_documented_store_and_checker_serve_mail_by_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere" / "twisted" / "plugins"
    folder.mkdir(parents=True)
    (folder / "guest_plugin.py").write_text(code_block("python"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    user = "ann@xx.example"
    password = hmac.new(b"correct horse battery staple", user.encode(), hashlib.sha256).hexdigest()[:16]
    server = ServerProcess(tmp_path / "xx", "xx.example", {}, code_block("toml"))
    with server:
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=30) as client:
            refused = client.sendmail(
                "x@yy.example", [user, "cid@xx.example"], b"Subject: hello\r\n\r\nfor a guest\r\n"
            )
        assert refused["cid@xx.example"][0] == 550
        server.accounts = {user: password}
        (message,) = server.wait_for_messages(user, 1)
        assert message.endswith(b"Subject: hello\r\n\r\nfor a guest\r\n")
        pop = poplib.POP3_SSL("127.0.0.1", server.ports["pop3s"], timeout=30, context=insecure_tls())
        pop.user(user)
        with pytest.raises(poplib.error_proto, match="AUTH"):
            pop.pass_("wrong")
        pop.user(user)
        pop.pass_(password)
        assert pop.stat()[0] == 1
        pop.quit()
