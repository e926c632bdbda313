"""Keywords as letters, in a file that Dovecot writes as well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailhub.errors import StoreUnavailable, TooManyKeywords
from mailhub.message.record import FlagChange
from mailhub.store.exam.rig import uids
from mailhub.store.maildir import keywords
from tests.store.maildir.rig import ANN, HELLO_SENT, Site, wait
from tests.store.maildir.test_store import append, flags, inbox


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.account()
    wait(site.started().account(ANN))
    yield site
    wait(site.store.stop())


def test_those_of_dovecot_are_read_and_nonsense_is_passed_over(site: Site) -> None:
    (site.root / "dovecot-keywords").write_bytes(b"0 $Junk\n1 NonJunk\nx y\n2 \\Seen\n3 a b\n99 far\n4 \xff\n7 $junk\n")
    site.put("1700000001.1.mx").rename(site.root / "cur" / "1700000001.1.mx:2,Sabdeh")
    assert flags(inbox(site)) == [{"\\Seen", "$Junk", "NonJunk"}]
    (uid,) = wait(uids(inbox(site)))
    wait(inbox(site).change_flags([uid], FlagChange("add", frozenset({"new"}))))
    assert (site.root / "dovecot-keywords").read_text().splitlines() == ["0 $Junk", "1 NonJunk", "2 new", "7 $junk"]
    # Letters that stand for nothing here stay, since another program may know them; one is enough for a keyword.
    assert site.files() == ["cur/1700000001.1.mx:2,Sabcde"]


def test_there_are_26_and_those_that_no_message_has_make_room(site: Site) -> None:
    for number in range(keywords.NUMBER):
        append(site, HELLO_SENT, f"word{number}")
    with pytest.raises(TooManyKeywords):
        append(site, HELLO_SENT, "one-more")
    mailbox = inbox(site)
    first = wait(uids(mailbox))[0]
    wait(mailbox.expunge([first], deleted_only=False))
    append(site, HELLO_SENT, "one-more")
    site.restarted()
    found = {flag for each in flags(inbox(site)) for flag in each}
    assert found == {"one-more", *(f"word{number}" for number in range(1, keywords.NUMBER))}


def test_a_file_that_another_program_writes_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = site.root / "dovecot-keywords.lock"
    lock.touch()
    monkeypatch.setattr(keywords, "_WAIT_SECONDS", 0.0)
    with pytest.raises(StoreUnavailable):
        append(site, HELLO_SENT, "word")
    assert site.files() == []
    append(site, HELLO_SENT, "$Forwarded")  # no keyword that needs the file
    os.utime(lock, (0, 0))  # of a program that is no more
    append(site, HELLO_SENT, "word")
    assert not lock.exists()
    assert {"word"} in flags(inbox(site))
