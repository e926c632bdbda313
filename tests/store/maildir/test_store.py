"""What a server and other programs see of each other in a Maildir."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailhub.errors import ConfigurationError, NotPermitted, OverQuota
from mailhub.interfaces import IMailAccount, IMailbox
from mailhub.message.flags import ANSWERED, DELETED, FLAGGED, NO_FLAGS, SEEN
from mailhub.message.record import Added, Expunged, FlagChange, FlagsChanged, MailboxGone
from mailhub.store.exam.rig import make_body, read_message, uids
from mailhub.store.maildir.store import MaildirOptions
from tests.store.maildir.rig import ANN, HELLO, HELLO_SENT, Site, wait


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.account()
    site.started()
    yield site
    wait(site.store.stop())


def account(site: Site) -> IMailAccount:
    return wait(site.store.account(ANN))


def inbox(site: Site) -> IMailbox:
    return wait(account(site).mailbox("INBOX"))


def flags(mailbox: IMailbox) -> list[set[str]]:
    wait(mailbox.refresh())
    return [set(entry.flags) for entry in wait(mailbox.entries())]


def append(site: Site, octets: bytes, *flags: str, name: str = "INBOX", date: int = 1_600_000_000) -> int:
    owner = account(site)
    body = wait(make_body(owner.new_body, octets))
    return wait(wait(owner.mailbox(name)).append(body, frozenset(flags), date))


def test_what_others_deliver_has_crlf_and_its_size_on_the_wire(site: Site) -> None:
    account(site)
    os.utime(site.put("1700000001.1.mx"), (1, 1_650_000_000))
    site.put("1700000002.2.mx", HELLO_SENT)
    mailbox = inbox(site)
    entries = wait(mailbox.entries())
    assert [(entry.size, entry.flags) for entry in entries] == [(len(HELLO_SENT), NO_FLAGS)] * 2
    assert entries[0].internal_date == 1_650_000_000
    assert [wait(read_message(mailbox, entry.uid)) for entry in entries] == [HELLO_SENT] * 2


def test_what_is_appended_is_written_with_lf_and_says_its_sizes(site: Site) -> None:
    append(site, HELLO_SENT)
    append(site, HELLO_SENT, SEEN, FLAGGED, "$Forwarded")
    first, second = site.files()
    assert first.startswith("cur/1700000000.M")
    assert first.endswith(f".mx.xx.example,S={len(HELLO)},W={len(HELLO_SENT)}:2,FPS")
    assert second.startswith("new/1700000000.M")
    for name in (first, second):
        path = site.root / name
        assert path.read_bytes() == HELLO
        assert int(path.stat().st_mtime) == 1_600_000_000
        assert path.stat().st_mode & 0o777 == 0o600
    assert list((site.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("octets", [b"a: b\n\nbare\n", b"a: b\r\r\n\r\n", b"", b"\r\n\n", b"no end", bytes(range(256))])
def test_what_lf_cannot_say_is_written_as_it_is(site: Site, octets: bytes) -> None:
    uid = append(site, octets)
    site.restarted()
    assert wait(read_message(inbox(site), uid)) == octets
    assert (site.root / site.files()[0]).read_bytes() == octets


def test_flags_of_others_are_seen_and_uids_stay(site: Site) -> None:
    account(site)
    path = site.put("1700000001.1.mx")
    site.put("1700000002.2.mx")
    mailbox = inbox(site)
    before = wait(uids(mailbox))
    told: list[Any] = []
    mailbox.watch(told.append)
    moved = path.rename(site.root / "cur" / "1700000001.1.mx:2,")
    assert flags(mailbox) == [set(), set()]
    assert told == []
    moved = moved.rename(site.root / "cur" / "1700000001.1.mx:2,RS")
    assert flags(mailbox) == [{SEEN, ANSWERED}, set()]
    assert [type(each) for each in told] == [FlagsChanged]
    assert wait(uids(mailbox)) == before
    moved.unlink()
    wait(mailbox.refresh())
    assert told[1:] == [Expunged((before[0],), told[-1].modseq)]
    site.put("1700000003.3.mx")
    wait(mailbox.refresh())
    assert isinstance(told[-1], Added)
    site.restarted()
    assert wait(uids(inbox(site))) == [2, 3]


def test_a_watched_folder_is_looked_at_by_itself(site: Site) -> None:
    mailbox = inbox(site)
    wait(mailbox.entries())
    told: list[Any] = []
    stop = mailbox.watch(told.append)
    site.put("1700000001.1.mx")
    site.clock.advance(site.options.poll_seconds)
    assert [type(each) for each in told] == [Added]
    stop()
    site.put("1700000002.2.mx")
    site.clock.advance(10 * site.options.poll_seconds)
    assert len(told) == 1


def test_our_flags_are_letters_and_what_others_have_set_meanwhile_stays(site: Site) -> None:
    account(site)
    path = site.put("1700000001.1.mx")
    mailbox = inbox(site)
    (uid,) = wait(uids(mailbox))
    path.rename(site.root / "cur" / "1700000001.1.mx:2,FXS")  # mutt, in this very moment
    wait(mailbox.change_flags([uid], FlagChange("add", frozenset({DELETED, "Work"}))))
    assert site.files() == ["cur/1700000001.1.mx:2,FSTXa"]
    assert (site.root / "dovecot-keywords").read_text() == "0 Work\n"
    assert flags(mailbox) == [{FLAGGED, SEEN, DELETED, "Work"}]
    wait(mailbox.change_flags([uid], FlagChange("remove", frozenset({FLAGGED}))))
    assert site.files() == ["cur/1700000001.1.mx:2,STXa"]
    assert wait(mailbox.expunge()) == [uid]
    assert site.files() == []


def test_what_others_have_removed_or_moved_away_is_gone_and_no_fault(site: Site) -> None:
    account(site)
    path = site.put("1700000001.1.mx")
    site.put("1700000002.2.mx").rename(site.root / "cur" / "1700000002.2.mx:2,")
    mailbox = inbox(site)
    one, two = wait(uids(mailbox))
    path.unlink()
    (site.root / "cur" / "1700000002.2.mx:2,").rename(site.root / "cur" / "1700000002.2.mx:2,S")
    wait(mailbox.change_flags([one, two], FlagChange("add", frozenset({FLAGGED}))))
    assert site.files() == ["cur/1700000002.2.mx:2,FS"]
    assert flags(mailbox) == [{SEEN, FLAGGED}]


def test_folders_of_others_are_served_by_their_names(site: Site) -> None:
    owner = account(site)
    wait(owner.create("Großes/Ärger.2024"))
    assert (site.root / ".Gro&AN8-es.&AMQ-rger&AC4-2024" / "maildirfolder").is_file()
    for name in (".Lists.python", ".na\u00efve", ".a\nb", ".&bad", ".INBOX", "..up", ".no-cur"):
        (site.root / name).mkdir()
        if name != ".no-cur":
            (site.root / name / "cur").mkdir()
    os.symlink(site.root / ".Lists.python", site.root / ".link")
    assert {info.name for info in wait(owner.mailboxes())} == {
        *("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"),
        *("Großes/Ärger.2024", "Lists/python", "na\u00efve"),
    }
    assert [info.special_use for info in wait(owner.mailboxes()) if info.name == "Junk"] == ["\\Junk"]
    append(site, HELLO_SENT, name="Lists/python")
    assert len(site.files(".Lists.python")) == 1


def test_a_maildir_without_an_account_has_a_user_and_usual_folders_are_not_forced_on_it(tmp_path: Path) -> None:
    site = Site(tmp_path, path=f"{tmp_path}/home/{{local}}/Maildir")
    site.root = tmp_path / "home/ann/Maildir"
    for each in ("tmp", "new", "cur"):
        (site.root / each).mkdir(parents=True)
    site.put("1700000001.1.mx")
    store = site.started()
    assert wait(store.exists(ANN))
    assert not wait(store.exists("ben@xx.example"))
    assert [info.name for info in wait(account(site).mailboxes())] == ["INBOX"]
    assert wait(uids(inbox(site))) == [1]
    wait(store.stop())


def test_a_maildir_that_is_away_is_not_begun_anew(site: Site) -> None:
    append(site, HELLO_SENT)
    away = site.root.rename(site.folder / "away")
    site.restarted()
    owner = wait(site.store.account(ANN))
    assert len(wait(owner.mailboxes())) == 6
    assert not site.root.exists()
    away.rename(site.root)
    assert wait(uids(inbox(site))) == [1]


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for user in ("../../x@xx.example", "a/b@xx.example", ".@xx.example", "\0@xx.example", "new@xx.example"):
        site.account(user)
    store = site.started()
    for user in site.hub.accounts.rows:
        wait(wait(store.account(user)).mailboxes())
    made = {path.name for path in (tmp_path / "maildirs" / "xx.example").iterdir()}
    assert made == {"%2E.%2F..%2Fx", "a%2Fb", "%2E", "%00", "new"}
    wait(store.stop())


def test_subscriptions_are_in_the_maildirs_own_file(site: Site) -> None:
    owner = account(site)
    wait(owner.subscribe("Lists/Großes", True))
    file = site.root / "subscriptions"
    assert file.read_text().splitlines() == ["Archive", "Drafts", "INBOX", "Junk", "Lists.Gro&AN8-es", "Sent", "Trash"]
    file.write_text("V\t2\n\nINBOX\nLists\tpython\n")
    assert wait(owner.subscriptions()) == ["INBOX", "Lists/python"]
    wait(owner.subscribe("Sent", True))
    assert file.read_text() == "V\t2\n\nINBOX\nLists\tpython\nSent\n"


def test_maildirsize_is_kept_right(site: Site) -> None:
    site.account(quota=10_000)
    append(site, HELLO_SENT)
    file = site.root / "maildirsize"
    assert file.read_text() == f"10000S\n{len(HELLO)} 1\n"
    uid = append(site, HELLO_SENT)
    assert file.read_text() == f"10000S\n{len(HELLO)} 1\n{len(HELLO)} 1\n"
    wait(inbox(site).expunge([uid], deleted_only=False))
    assert file.read_text().endswith(f"-{len(HELLO)} -1\n")
    with file.open("a") as lines:
        lines.write("1 1\n" * 2000)
    append(site, HELLO_SENT, name="Sent")
    assert file.read_text() == f"10000S\n{2 * len(HELLO)} 2\n"
    site.account(quota=20_000)
    site.clock.advance(2)
    append(site, HELLO_SENT)
    assert file.read_text() == f"20000S\n{3 * len(HELLO)} 3\n"


def test_a_folder_that_others_remove_or_rename_is_gone_for_who_watches_it(site: Site) -> None:
    owner = account(site)
    told: list[Any] = []
    for name in ("Sent", "Trash"):
        mailbox = wait(owner.mailbox(name))
        wait(mailbox.entries())
        mailbox.watch(told.append)
    shutil.rmtree(site.root / ".Sent")
    (site.root / ".Trash").rename(site.root / ".Bin")
    site.clock.advance(site.options.poll_seconds)
    assert told == [MailboxGone(), MailboxGone()]
    names = {info.name for info in wait(owner.mailboxes())}
    assert "Bin" in names
    assert not names & {"Sent", "Trash"}


def test_what_others_remove_makes_room(site: Site) -> None:
    site.account(quota=2 * len(HELLO_SENT))
    for _ in range(2):
        append(site, HELLO_SENT)
    with pytest.raises(OverQuota):
        wait(site.store.check_quota(ANN, 1))
    (site.root / site.files()[0]).unlink()
    wait(site.store.check_quota(ANN, 1))
    append(site, HELLO_SENT)


def test_a_limit_that_others_have_written_counts(site: Site) -> None:
    account(site)
    (site.root / "maildirsize").write_text("1000000S,1000C\n0 0\n")
    assert wait(account(site).quota()).limit == 1_000_000


def test_inbox_cannot_be_deleted(site: Site) -> None:
    with pytest.raises(NotPermitted):
        wait(account(site).delete("INBOX"))


def test_large_messages_go_through_files(site: Site) -> None:
    large = b"Subject: large\r\n\r\n" + b"Hello, this is a line of text.\r\n" * 50_000
    binary = large + b"\n" + bytes(range(256)) * 20
    for octets in (large, binary):
        uid = append(site, octets)
        reader = wait(wait(account(site).mailbox("INBOX")).open(uid))
        assert reader.size == len(octets)
        assert wait(reader.read(100_000, 7)) == octets[100_000:100_007]
        assert wait(reader.read()) == octets
        reader.close()
    site.put("1700000009.9.mx", large.replace(b"\r\n", b"\n"))
    mailbox = inbox(site)
    assert [wait(read_message(mailbox, uid)) for uid in wait(uids(mailbox))] == [large, binary, large]


@pytest.mark.parametrize(
    "options",
    [
        {"path": "/var/mail"},
        {"path": "/var/mail/{name}"},
        {"mode": "0777"},
        {"mode": "0400"},
        {"mode": "rw"},
        {"poll_seconds": -1.0},
        {"poll_seconds": float("nan")},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|not known"):
        MaildirOptions(**options)


def test_users_of_two_domains_never_share_a_maildir(tmp_path: Path) -> None:
    site = Site(tmp_path, path="{local}")
    site.hub.domains |= {"yy.example"}
    with pytest.raises(ConfigurationError, match="domain"):
        site.build()


def test_modes_are_those_of_the_configuration(tmp_path: Path) -> None:
    site = Site(tmp_path, mode="0660")
    site.account()
    site.started()
    append(site, HELLO_SENT, "word")
    for path in (site.root, site.root / "cur", site.root / ".Sent"):
        assert path.stat().st_mode & 0o777 == 0o770
    for path in (site.root / site.files()[0], site.root / "dovecot-keywords"):
        assert path.stat().st_mode & 0o777 == 0o660
    wait(site.store.stop())
