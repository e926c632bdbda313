"""Commands about mailboxes: transcripts over the memory store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.protocols.imap_rig import Server, play, result

TRANSCRIPTS = {
    "select": r"""
        C: a SELECT INBOX
        S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft)
        S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft \*)] Kept for good, as is any new keyword
        S: * 3 EXISTS
        S: * 2 RECENT
        S: * OK [UIDVALIDITY 1767268800] Message UIDs are valid
        S: * OK [UIDNEXT 4] Predicted next UID
        S: * OK [UNSEEN 2] First unseen message
        S: a OK [READ-WRITE] Completed
    """,
    "examine an empty mailbox": r"""
        C: a EXAMINE Sent
        S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft)
        S: * OK [PERMANENTFLAGS ()] No flag can be changed
        S: * 0 EXISTS
        S: * 0 RECENT
        S: * OK [UIDVALIDITY 1767268804] Message UIDs are valid
        S: * OK [UIDNEXT 1] Predicted next UID
        S: a OK [READ-ONLY] Completed
        C: b FETCH 1:* FLAGS
        S: b OK Completed
    """,
    "a failed select leaves nothing selected": """
        C: a EXAMINE Sent
        S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)
        S: * OK [PERMANENTFLAGS ()] No flag can be changed
        S: * 0 EXISTS
        S: * 0 RECENT
        S: * OK [UIDVALIDITY 1767268804] Message UIDs are valid
        S: * OK [UIDNEXT 1] Predicted next UID
        S: a OK [READ-ONLY] Completed
        C: b SELECT Nothing
        S: b NO [NONEXISTENT] No such mailbox
        C: c CHECK
        S: c BAD Not allowed in the authenticated state
    """,
    "create and list with a missing parent": r"""
        C: a CREATE Work/2026/May
        S: a OK Completed
        C: b LIST "" W*
        S: * LIST (\Noselect \HasChildren) "/" "Work"
        S: * LIST (\Noselect \HasChildren) "/" "Work/2026"
        S: * LIST (\HasNoChildren) "/" "Work/2026/May"
        S: b OK Completed
        C: c LIST "" W%
        S: * LIST (\Noselect \HasChildren) "/" "Work"
        S: c OK Completed
        C: d LIST Work/ %
        S: * LIST (\Noselect \HasChildren) "/" "Work/2026"
        S: d OK Completed
        C: e SELECT Work
        S: e NO [NONEXISTENT] No such mailbox
        C: f CREATE Work/2026/May
        S: f NO [ALREADYEXISTS] Mailbox exists already
        C: g CREATE INBOX
        S: g NO [ALREADYEXISTS] Mailbox exists already
    """,
    "delimiter": r"""
        C: a LIST "" ""
        S: * LIST (\Noselect) "/" ""
        S: a OK Completed
    """,
    "special use": r"""
        C: a LIST (SPECIAL-USE) "" *
        S: * LIST (\HasNoChildren \Archive) "/" "Archive"
        S: * LIST (\HasNoChildren \Drafts) "/" "Drafts"
        S: * LIST (\HasNoChildren \Junk) "/" "Junk"
        S: * LIST (\HasNoChildren \Sent) "/" "Sent"
        S: * LIST (\HasNoChildren \Trash) "/" "Trash"
        S: a OK Completed
        C: b CREATE Flagged (USE (\Flagged))
        S: b OK Completed
        C: c LIST (SPECIAL-USE) "" F*
        S: * LIST (\HasNoChildren \Flagged) "/" "Flagged"
        S: c OK Completed
        C: d CREATE Two (USE (\Sent \Junk))
        S: d NO [USEATTR] A mailbox has one special use at most
    """,
    "international names": """
        C: a CREATE Entw&APw-rfe
        S: a OK Completed
        C: b LIST "" En*
        S: * LIST (\\HasNoChildren) "/" "Entw&APw-rfe"
        S: b OK Completed
        C: c STATUS Entw&APw-rfe (MESSAGES)
        S: * STATUS "Entw&APw-rfe" (MESSAGES 0)
        S: c OK Completed
    """,
    "delete": """
        C: a DELETE Junk
        S: a OK Completed
        C: b DELETE Junk
        S: b NO [NONEXISTENT] No such mailbox
        C: c DELETE INBOX
        S: c NO [NOPERM] INBOX cannot be deleted
        C: d STATUS Junk (MESSAGES)
        S: d NO [NONEXISTENT] No such mailbox
    """,
    "rename with inferiors": r"""
        C: a CREATE A/B
        S: a OK Completed
        C: b CREATE A
        S: b OK Completed
        C: c RENAME A Z
        S: c OK Completed
        C: d LIST "" Z*
        S: * LIST (\HasChildren) "/" "Z"
        S: * LIST (\HasNoChildren) "/" "Z/B"
        S: d OK Completed
        C: e RENAME Z Sent
        S: e NO [ALREADYEXISTS] Mailbox exists already
        C: f RENAME Nothing New
        S: f NO [NONEXISTENT] No such mailbox
    """,
    "renaming inbox moves its messages": """
        C: a RENAME INBOX Old
        S: a OK Completed
        C: b STATUS INBOX (MESSAGES)
        S: * STATUS INBOX (MESSAGES 0)
        S: b OK Completed
        C: c STATUS Old (MESSAGES)
        S: * STATUS "Old" (MESSAGES 3)
        S: c OK Completed
    """,
    "status": """
        C: a STATUS inbox (UNSEEN MESSAGES UIDNEXT UIDVALIDITY RECENT)
        S: * STATUS INBOX (UNSEEN 2 MESSAGES 3 UIDNEXT 4 UIDVALIDITY 1767268800 RECENT 2)
        S: a OK Completed
    """,
    "subscriptions": r"""
        C: a UNSUBSCRIBE Archive
        S: a OK Completed
        C: b SUBSCRIBE Lists/Python
        S: b OK Completed
        C: c LSUB "" %
        S: * LSUB () "/" INBOX
        S: * LSUB () "/" "Drafts"
        S: * LSUB () "/" "Junk"
        S: * LSUB (\Noselect) "/" "Lists"
        S: * LSUB () "/" "Sent"
        S: * LSUB () "/" "Trash"
        S: c OK Completed
        C: d LSUB "" L*
        S: * LSUB () "/" "Lists/Python"
        S: d OK Completed
        C: e LIST (SUBSCRIBED) "" L*
        S: * LIST (\NonExistent \HasNoChildren \Subscribed) "/" "Lists/Python"
        S: e OK Completed
        C: f LIST (SUBSCRIBED RECURSIVEMATCH) "" L%
        S: * LIST (\NonExistent \HasNoChildren) "/" "Lists" ("CHILDINFO" ("SUBSCRIBED"))
        S: f OK Completed
        C: g LIST "" (INBOX A*) RETURN (SUBSCRIBED CHILDREN)
        S: * LIST (\HasNoChildren \Subscribed) "/" INBOX
        S: * LIST (\HasNoChildren \Archive) "/" "Archive"
        S: g OK Completed
    """,
    "namespace": """
        C: a NAMESPACE
        S: * NAMESPACE (("" "/")) NIL NIL
        S: a OK Completed
    """,
    "names that break the rules": """
        C: a CREATE ../x
        S: a NO [CANNOT] Each level of a mailbox name must have 1 to 255 octets and not be . or ..
        C: b CREATE a//b
        S: b NO [CANNOT] Each level of a mailbox name must have 1 to 255 octets and not be . or ..
        C: c SELECT &AGE-
        S: c NO [NONEXISTENT] No such mailbox
    """,
    "names in no modified UTF-7 are the names of nothing": r"""
        C: a SELECT "R&D"
        S: a NO [NONEXISTENT] No such mailbox
        C: b STATUS R&D (MESSAGES)
        S: b NO [NONEXISTENT] No such mailbox
        C: c DELETE "&AOk-&AOk-"
        S: c NO [NONEXISTENT] No such mailbox
        C: d RENAME "&" x
        S: d NO [NONEXISTENT] No such mailbox
        C: e RENAME Drafts "R&D"
        S: e NO [CANNOT] Mailbox name is not in modified UTF-7
        C: f CREATE "R&D"
        S: f NO [CANNOT] Mailbox name is not in modified UTF-7
        C: g SUBSCRIBE "R&D"
        S: g NO [CANNOT] Mailbox name is not in modified UTF-7
        C: h UNSUBSCRIBE "R&D"
        S: h OK Completed
        C: i LIST "" "R&D*"
        S: i OK Completed
        C: j LIST "R&D" "*"
        S: j OK Completed
        C: k LIST "" ("R&D" Junk) RETURN (CHILDREN)
        S: * LIST (\HasNoChildren \Junk) "/" "Junk"
        S: k OK Completed
        C: l LSUB "" "R&D"
        S: l OK Completed
        C: m LSUB "R&D" "*"
        S: m OK Completed
        C: n SELECT "&ATE-nbox"
        S: n NO [NONEXISTENT] No such mailbox
        C: o CREATE "&ATE-nbox"
        S: o OK Completed
        C: p LIST "" "&ATE-nbox"
        S: * LIST (\HasNoChildren) "/" "&ATE-nbox"
        S: p OK Completed
    """,
    "a separator at the end means nothing": r"""
        C: a CREATE "x/"
        S: a OK Completed
        C: b STATUS "x/" (MESSAGES)
        S: * STATUS "x" (MESSAGES 0)
        S: b OK Completed
        C: c SUBSCRIBE "x/"
        S: c OK Completed
        C: d UNSUBSCRIBE "x/"
        S: d OK Completed
        C: e RENAME "x/" "a/y/"
        S: e OK Completed
        C: f STATUS "inbox/" (MESSAGES)
        S: * STATUS INBOX (MESSAGES 3)
        S: f OK Completed
        C: g DELETE a/y/
        S: g OK Completed
        C: h CREATE "x//"
        S: h NO [CANNOT] Each level of a mailbox name must have 1 to 255 octets and not be . or ..
        C: i SELECT /
        S: i NO [NONEXISTENT] No such mailbox
    """,
    "wildcards in names are letters": r"""
        C: a CREATE "100%"
        S: a OK Completed
        C: b CREATE a*b/x%y
        S: b OK Completed
        C: c LIST "" "100%"
        S: * LIST (\HasNoChildren) "/" "100%"
        S: c OK Completed
        C: d LIST "" a*b/%
        S: * LIST (\HasNoChildren) "/" "a*b/x%y"
        S: d OK Completed
        C: e LIST "" a*b
        S: * LIST (\Noselect \HasChildren) "/" "a*b"
        S: e OK Completed
        C: f STATUS a*b/x%y (MESSAGES)
        S: * STATUS "a*b/x%y" (MESSAGES 0)
        S: f OK Completed
        C: g SUBSCRIBE "100%"
        S: g OK Completed
        C: h LSUB "" "100%"
        S: * LSUB () "/" "100%"
        S: h OK Completed
        C: i RENAME "100%" *
        S: i OK Completed
        C: j DELETE *
        S: j OK Completed
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_transcript(name: str, store: str, tmp_path: Path) -> None:
    server = Server(folder=tmp_path if store == "sqlite" else None)
    play(server.login(), TRANSCRIPTS[name])
    result(server.database.stop())


def test_a_message_is_recent_for_the_first_session_only() -> None:
    server = Server()
    looker = server.login("INBOX", examine=True)
    first = server.login()
    assert b"* 2 RECENT" in first.send(b"a SELECT INBOX\r\n")
    second = server.login()
    assert b"* 0 RECENT" in second.send(b"a SELECT INBOX\r\n")
    counter = server.login()
    assert b"RECENT 0" in counter.send(b"b STATUS INBOX (RECENT)\r\n")
    server.deliver(b"Subject: four\r\n\r\n")
    assert b"RECENT 1" in counter.send(b"c STATUS INBOX (RECENT)\r\n")
    assert b"* 4 EXISTS\r\n* 3 RECENT" in first.send(b"d NOOP\r\n")
    assert second.send(b"e NOOP\r\n").startswith(b"* 4 EXISTS\r\n* 0 RECENT")
    assert b"* 2 FETCH (FLAGS (\\Recent))" in looker.send(b"f FETCH 2 FLAGS\r\n"), (
        "EXAMINE took nothing from the others"
    )


def test_what_was_told_is_recent_no_more_under_another_name() -> None:
    server = Server()
    client = server.login()
    client.send(b"a CREATE One\r\nb APPEND One {3+}\r\nx\r\n\r\n")
    assert b"RECENT 1" in client.send(b"c STATUS One (RECENT)\r\n")
    assert b"* 1 RECENT" in client.send(b"d SELECT One\r\n")
    client.send(b"e UNSELECT\r\nf RENAME One Two\r\n")
    assert b"RECENT 0" in client.send(b"g STATUS Two (RECENT)\r\n")
    assert b"* 0 RECENT" in client.send(b"h SELECT Two\r\n")
    client.send(b"i UNSELECT\r\nj DELETE Two\r\nk CREATE Two\r\nl APPEND Two {3+}\r\nx\r\n\r\n")
    assert b"RECENT 1" in client.send(b"m STATUS Two (RECENT)\r\n")
    assert b"* 1 RECENT" in client.send(b"n SELECT Two\r\n")


def test_recent_is_counted_alike_however_inbox_is_written() -> None:
    client = Server().login("inbox")
    for name in (b"INBOX", b"inbox", b"Inbox"):
        assert b"RECENT 0" in client.send(b"a STATUS " + name + b" (RECENT)\r\n")


def test_keywords_in_use_are_listed() -> None:
    server = Server()
    server.deliver(b"\r\n", frozenset({"$Forwarded", "work"}))
    assert b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Forwarded work)" in server.login().send(
        b"a SELECT INBOX\r\n"
    )


def test_a_session_that_deletes_its_own_mailbox_goes_on() -> None:
    client = Server().login("Junk")
    play(
        client,
        r"""
        C: a DELETE Junk
        S: a OK Completed
        C: b FETCH 1 FLAGS
        S: b BAD Not allowed in the authenticated state
        C: c NOOP
        S: c OK Completed
        C: d CLOSE
        S: d BAD Not allowed in the authenticated state
        C: e EXAMINE INBOX
        S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft)
        S: * OK [PERMANENTFLAGS ()] No flag can be changed
        S: * 3 EXISTS
        S: * 2 RECENT
        S: * OK [UIDVALIDITY 1767268800] Message UIDs are valid
        S: * OK [UIDNEXT 4] Predicted next UID
        S: * OK [UNSEEN 2] First unseen message
        S: e OK [READ-ONLY] Completed
        """,
    )


def test_other_sessions_of_a_deleted_mailbox_are_closed() -> None:
    server = Server()
    deleter, idler, worker, leaver = server.login(), server.login("Junk"), server.login("Junk"), server.login("Junk")
    idler.send(b"i IDLE\r\n")
    assert deleter.send(b"a DELETE Junk\r\n") == b"a OK Completed\r\n"
    farewell = b"* BYE [NONEXISTENT] The selected mailbox was deleted\r\n"
    assert idler.taken() == farewell
    assert worker.send(b"w FETCH 1:* FLAGS\r\n") == farewell
    assert worker.peer.disconnecting
    assert b"S OK [READ-WRITE]" in leaver.send(b"S SELECT INBOX\r\n")


def test_a_renamed_mailbox_stays_selected() -> None:
    server = Server()
    client, other = server.login("Junk"), server.login()
    assert b"OK" in other.send(b"a RENAME Junk Spam\r\n")
    server.deliver(b"\r\n", name="Spam")
    assert b"* 1 EXISTS" in client.send(b"b NOOP\r\n")


def test_others_have_their_turn_while_many_names_are_listed() -> None:
    server = Server()
    for number in range(100):
        result(server.account.create(f"m{number}", ""))
    client, other = server.login(), server.login()
    client.connection.dataReceived(b"a LIST (SUBSCRIBED) nothing *\r\nb LIST x *\r\nc LIST m *\r\n")
    assert b"c OK" not in client.peer.taken()
    assert other.send(b"o NOOP\r\n") == b"o OK Completed\r\n"
    answer = client.taken()
    assert answer.count(b"* LIST") == 100
    assert answer.endswith(b"c OK Completed\r\n")
