"""The examples that are no stores, each doing its work in a whole server."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.plugins.everybody_router import everybody
from examples.plugins.list_rule import by_list
from examples.plugins.own_name_policy import own_name
from examples.plugins.passwd_checker import passwd
from examples.plugins.people_directory import people
from examples.plugins.pipe_agent import program
from examples.plugins.webhook_agent import webhook
from mailhub.api import Component, Ended
from mailhub.auth.passwords import hash_password
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from tests.documented import code_block
from tests.examples.stage import HELLO, PASSWORD, imap, lines


@pytest.mark.parametrize(
    "plugin",
    [
        "passwd_checker",
        "people_directory",
        "own_name_policy",
        "everybody_router",
        "list_rule",
        "webhook_agent",
        "pipe_agent",
    ],
)
def test_it_has_twenty_lines_at_most(plugin: str) -> None:
    assert lines(plugin) <= 20


def test_the_checker_lets_in_who_stands_in_the_file(tmp_path: Path) -> None:
    with Internet(seed=1, folder=tmp_path) as internet:
        config = {"auth": {"checkers": ["passwd"]}, "database": {"type": "inline"}}
        host = internet.hub("xx.example", config=config, plugins=[passwd])
        (tmp_path / "1-xx.example" / "passwd").write_text(f"ann@xx.example:{hash_password(PASSWORD)}\n")
        imap(internet, host)
        for user, password in (("ann@xx.example", "wrong"), ("ben@xx.example", PASSWORD)):
            stranger = internet.call(host, "imaps")
            stranger.expect(b"* OK")
            stranger.ask(f"a login {user} {password}\r\n".encode(), b"a NO [AUTHENTICATIONFAILED]")


@pytest.mark.parametrize(
    ("auth", "part", "file", "line"),
    [
        ({"checkers": ["passwd"]}, passwd, "passwd", f"ann@xx.example:{hash_password(PASSWORD)}"),
        ({"directories": ["people"]}, people, "people", "ann@xx.example"),
    ],
)
def test_whom_a_file_has_gets_mail_before_the_first_login(
    auth: dict[str, Any], part: Component, file: str, line: str, tmp_path: Path
) -> None:
    with Internet(seed=1, folder=tmp_path) as internet:
        host = internet.hub("xx.example", config={"auth": auth, "database": {"type": "inline"}}, plugins=[part])
        (tmp_path / "1-xx.example" / file).write_text(f"{line}\n")
        caller = internet.call(host, "smtp")
        caller.expect(b"220 ")
        caller.ask(b"EHLO yy.example\r\n", b"250 ")
        caller.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250 ")
        caller.ask(b"RCPT TO:<cid@xx.example>\r\n", b"550 5.1.1")
        caller.ask(b"RCPT TO:<ann@xx.example>\r\n", b"250 ")
        caller.ask(b"DATA\r\n", b"354 ")
        caller.ask(HELLO + b".\r\n", b"250 ")
        assert len(host.inbox("ann@xx.example")) == 1


def test_the_policy_refuses_who_greets_with_our_name() -> None:
    with Internet(seed=1) as internet:
        host = internet.hub("xx.example", ["ann"], {"delivery": {"policies": ["own-name"]}}, [own_name])
        for name, answer in (("mx.xx.example", b"550 5.7.1"), ("XX.example", b"550 5.7.1"), ("yy.example", b"250 ")):
            caller = internet.call(host, "smtp")
            caller.expect(b"220 ")
            caller.ask(f"EHLO {name}\r\n".encode(), answer)
        own = internet.call(host, "submissions")
        own.expect(b"220 ")
        own.ask(b"EHLO xx.example\r\n", b"250 ")


def test_the_router_sends_to_everybody_what_one_of_us_writes() -> None:
    with Internet(seed=1) as internet:
        routers = ["everybody", "aliases", "accounts", "catch-all"]
        host = internet.hub("xx.example", ["ann", "ben"], {"delivery": {"routers": routers}}, [everybody])
        host.submit("ann@xx.example", ["everybody@xx.example"], HELLO)
        internet.run(5)
        assert [len(host.inbox(f"{name}@xx.example")) for name in ("ann", "ben")] == [1, 1]
        caller = internet.call(host, "smtp")
        caller.expect(b"220 ")
        caller.ask(b"EHLO yy.example\r\n", b"250 ")
        caller.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250 ")
        caller.ask(b"RCPT TO:<everybody@xx.example>\r\n", b"550 5.7.1")


def test_the_rule_files_mail_of_lists() -> None:
    with Internet(seed=1) as internet:
        host = internet.hub("xx.example", config={"delivery": {"rules": ["by-list"]}}, plugins=[by_list])
        host.add_account("ann@xx.example", PASSWORD)
        client: Caller = imap(internet, host)
        client.ask(b"c create Lists/twisted\r\n", b"c OK")
        for value in (b"Twisted <twisted.python.example>", b"<other.example>", b"<../x>"):
            host.submit("", ["ann@xx.example"], b"List-Id: " + value + b"\r\n" + HELLO)
        assert b"MESSAGES 1" in client.ask(b"d status Lists/twisted (messages)\r\n", b"d OK")
        assert len(host.inbox("ann@xx.example")) == 2


class Kept(BaseHTTPRequestHandler):
    """Keeps what is PUT, by path."""

    server: Any

    def do_PUT(self) -> None:
        octets = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls += 1
        self.server.kept[self.path] = octets
        self.send_response(200 if self.server.calls > 1 else 503)  # kept, but that is not what the client hears
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is said."""


@pytest.fixture
def web() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Kept)
    server.calls, server.kept = 0, {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_agent_delivers_once_however_often_it_has_to_try(web: Any) -> None:
    with Internet(seed=1) as internet:
        shown = code_block("webhook_agent.toml")
        config = tomllib.loads(shown.replace("https://www.xx.example", f"http://127.0.0.1:{web.server_port}"))
        host: Host = internet.hub("xx.example", ["ann"], config, [webhook])
        sender = internet.call(host, "smtp")
        sender.expect(b"220")
        sender.ask(b"EHLO client.example\r\n", b"250 ")
        sender.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250")
        sender.ask(b"RCPT TO:<ann@xx.example>\r\n", b"250")
        sender.ask(b"RCPT TO:<nobody@xx.example>\r\n", b"550 5.1.1")
        sender.ask(b"RCPT TO:<bug@tickets.xx.example>\r\n", b"250")
        sender.ask(b"DATA\r\n", b"354")
        sender.ask(HELLO + b".\r\n", b"250")
        internet.run(3600)
        assert web.calls == 2
        ((path, octets),) = web.kept.items()
        assert path.startswith("/mail/")
        assert octets.endswith(HELLO.partition(b"\r\n\r\n")[2])
        assert host.queued() == []


def test_the_agent_has_a_program_read_it_until_it_is_taken() -> None:
    with Internet(seed=1) as internet:
        internet.processes.add("/bin/ticket", lambda call: Ended(75 if len(internet.processes.calls) == 1 else 0))
        route = {"agent": "program", "host": "/bin/ticket"}
        host = internet.hub("xx.example", ["ann"], {"route": {"tickets.example": route}}, [program])
        host.submit("ann@xx.example", ["bug@tickets.example"], HELLO)
        internet.run(3600)
        first, second = internet.processes.calls
        assert first == second
        assert first.stdin.endswith(b"How are you?\r\n")
        assert host.queued() == []
