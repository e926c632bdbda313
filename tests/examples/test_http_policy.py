"""The program that the policy "http" asks, as the documentation names it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from examples.http_policy import Policy
from mailhub.delivery.filters.web_words import of_client, parse, question
from mailhub.interfaces import AddField, Origin, Verdict


class Silent(Policy):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def connection() -> Iterator[HTTPConnection]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        yield made
    finally:
        made.close()
        server.shutdown()
        server.server_close()
        thread.join(30)


def test_it_answers_each_stage_on_one_connection(connection: HTTPConnection) -> None:
    def ask(stage: Any, sender: str = "a@yy.example") -> Verdict:
        told = of_client(stage, Origin("smtp", "192.0.2.1", "s1", helo="c.example"), "mx.xx.example")
        connection.request("POST", "/", question({**told, "envelope": {"sender": sender}}))
        return parse(connection.getresponse().read())

    assert ask("mail").action == "accept"
    assert ask("mail", "spammer@yy.example") == Verdict("reject", "5.7.1", "We know you", [])
    assert ask("message").edits == [AddField("X-Looked-At", "192.0.2.1")]
