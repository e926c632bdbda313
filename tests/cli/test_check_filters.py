"""What `mailhub check` says of the programs that policies ask."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailhub.cli.check_filters import filters
from mailhub.config.settings import Config, load
from mailhub.testing.process import free_ports
from tests.cli.conftest import Command


@contextmanager
def program(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """One that answers its first connection so: its port, and what it has heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            line, _ = listener.accept()
            with line:
                line.settimeout(30)
                heard.append(line.recv(100))
                line.sendall(answer if heard[0] else b"")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(30)


def asking(config: Config, table: str) -> Config:
    config.file.write_text(config.file.read_text() + f"[policy.f]\n{table}\n")
    return load(config.file)


@pytest.mark.parametrize(
    ("answer", "good", "told"),
    [
        (b"PONG\0", True, "answers"),
        (b"HELLO\0", None, "does not answer: it answers b'HELLO' to PING"),
        (b"", None, "does not answer: the connection"),
    ],
)
def test_clamd_is_asked_to_answer(config: Config, answer: bytes, good: bool | None, told: str) -> None:
    with program(answer) as (port, heard):
        where = f"inet:127.0.0.1:{port}"
        [(found, line)] = filters(asking(config, f'type = "clamav"\naddress = "{where}"'))
    assert heard == [b"zPING\0"]
    assert found is good
    assert line.startswith(f"policy f: what listens at {where} {told}")


@pytest.mark.parametrize(
    "table",
    [
        'type = "milter"\naddress = "inet:127.0.0.1:{port}"',
        'type = "policy-service"\naddress = "inet:localhost:{port}"',
        'type = "rspamd"\nurl = "http://127.0.0.1:{port}"',
        'type = "http"\nurl = "http://127.0.0.1:{port}/x"',
    ],
)
def test_others_have_to_be_there(config: Config, table: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        [(found, line)] = filters(asking(config, table.format(port=listener.getsockname()[1])))
    assert found is True
    assert line.endswith(" takes connections")


def test_what_is_not_there_is_a_warning_of_the_command(mailhub: Command, config: Config) -> None:
    [port] = free_ports(1)
    asking(config, f'type = "clamav"\naddress = "inet:127.0.0.1:{port}"')
    result = mailhub("check")
    assert f"warning  policy f: what listens at inet:127.0.0.1:{port} does not answer: Cannot connect" in result.out


def test_nobody_is_asked_where_no_policy_asks_or_its_table_is_wrong(config: Config) -> None:
    assert list(filters(config)) == []
    assert list(filters(asking(config, 'type = "clamav"\naddress = "nowhere"'))) == []
