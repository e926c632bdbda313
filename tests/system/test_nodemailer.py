"""nodemailer submits to one hub, over both ways to TLS. `.ci/clients` installs it."""

from __future__ import annotations

import email
import email.policy
import json
import os
import subprocess
from pathlib import Path

import pytest

from mailhub.testing.process import DEADLINE, ServerProcess
from tests.system.conftest import missing, need
from tests.system.mail_servers import CACHE

pytestmark = pytest.mark.system

A, B = "a@xx.example", "b@xx.example"
MODULES = CACHE / "nodemailer/node_modules"


def test_nodemailer_submits_over_starttls_and_tls(one_hub: ServerProcess) -> None:
    """UTF-8 in the header, two forms of the text, octets of every kind, a hidden recipient."""
    need("node")
    if not (MODULES / "nodemailer").is_dir():
        missing("nodemailer")
    ports = [one_hub.ports["submission"], one_hub.ports["submissions"]]
    done = subprocess.run(
        ["node", Path(__file__).with_name("nodemailer") / "send.js"],
        env={
            **os.environ,
            "NODE_PATH": str(MODULES),
            "PORTS": ",".join(map(str, ports)),
            "SECURE_PORT": str(ports[1]),
            "LOGIN": A,
            "PASSWORD": one_hub.accounts[A],
            "TO": B,
            "BCC": A,
        },
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["port"], each["accepted"], each["rejected"]) for each in told] == [
        (port, [B, A], []) for port in ports
    ]
    assert all(each["response"].startswith("250 ") for each in told)
    for user in (A, B):
        found = one_hub.wait_for_messages(user, 2)
        assert len(found) == 2
        for octets, port in zip(found, ports, strict=True):
            message = email.message_from_bytes(octets, policy=email.policy.default)
            assert message["Subject"] == f"Grüße by nodemailer {port}"
            assert message["From"].addresses[0].display_name == "Änn"
            assert "Bcc" not in message
            text = message.get_body(("plain",))
            assert text is not None
            assert text.get_content().splitlines() == ["A line with ümlauts", ".and one with a dot"]
            (attachment,) = message.iter_attachments()
            assert attachment.get_content() == bytes([0, 13, 10, 46, 13, 10, 255])
