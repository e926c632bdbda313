"""rspamd from Debian behind a hub, asked over HTTP."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailhub.testing.process import ServerProcess
from tests.system.test_milters import GTUBE, A, Filter, bring, letter

pytestmark = pytest.mark.system

_RSPAMD = """\
options {{
  pidfile = "{folder}/pid"; tempdir = "{folder}"; hs_cache_dir = "{folder}"; url_tld = "{folder}/tlds"; filters = "";
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "info"; }}
metric {{ name = "default"; actions {{ reject = 15; add_header = 6; }} }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
"""
_HUB = """
[checks]
spf = false
dkim = false
dmarc = "off"
iprev = false
[delivery]
policies = ["rspamd"]
[policy.rspamd]
type = "rspamd"
url = "http://127.0.0.1:{port}"
timeout_seconds = 60
"""


@pytest.fixture
def rspamd() -> Iterator[Filter]:
    with Filter("rspamd", _RSPAMD, ("-f", "-i", "-c"), user="_rspamd") as found:
        yield found


def test_rspamd_refuses_what_it_knows_for_spam_and_marks_the_rest(rspamd: Filter, tmp_path: Path) -> None:
    extra = _HUB.format(port=rspamd.port)
    with ServerProcess(tmp_path / "xx", "xx.example", {A: "correct horse"}, extra=extra) as hub:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            bring(hub, letter(GTUBE).as_bytes())
        assert refused.value.smtp_code == 554
        assert b"(rspamd)" in refused.value.smtp_error
        for count in (1, 2):
            bring(hub, letter(f"Nothing of the kind, {count}.").as_bytes())
            message = hub.wait_for_messages(A, count)[-1]
            assert f"Nothing of the kind, {count}.".encode() in message
            assert b"\r\nX-Spam-Action: no action\r\n" in message
