"""The exam that every mailbox store sits: plug-in stores inherit it in their tests as the built-in ones do.

    class TestMyStore(StoreExam):
        async def open_store(self) -> IMailStore:
            return MyStore(...)

The classes need no test framework: each `test_*` method is an ordinary function that raises AssertionError. A store
that waits for a clock says how to let it go on in `pump()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

from mailhub.errors import (
    MessageGone,
    NoSuchMailbox,
    OverQuota,
)
from mailhub.interfaces import IMailbox
from mailhub.message.digest import columns, digest
from mailhub.message.flags import DELETED, FLAGGED, NO_FLAGS, SEEN, Flags
from mailhub.message.record import (
    Added,
    Change,
    CopyResult,
    DigestName,
    Expunged,
    FlagChange,
    FlagsChanged,
    MailboxGone,
    Quota,
)
from mailhub.store.exam.names import MailboxNamesExam
from mailhub.store.exam.rig import DATE, SEEN_ONLY, USER, make_body, message, question, read_message, uids

DIGEST_NAMES: Sequence[DigestName] = get_args(DigestName)


class StoreExam(MailboxNamesExam):
    """IMailStore, IMailAccount, IMailbox."""

    # --- messages

    @question
    async def test_a_message_comes_out_as_it_went_in(self) -> None:
        account = await self._account()
        inbox = await account.mailbox("INBOX")
        for octets in (message(1), b"", b"no header at all\r\n", bytes(range(256)) * 3, message(2, 200_000)):
            promised = (await inbox.status()).uid_next
            uid = await self._append(account, inbox, octets)
            assert uid >= promised
            assert await read_message(inbox, uid) == octets

    @question
    async def test_any_split_of_a_body_gives_the_same_octets_and_digest(self) -> None:
        account = await self._account()
        inbox = await account.mailbox("INBOX")
        octets = message(1, 300_000)
        for chunk in (1000, 65_536, 70_001, 300_001):
            body = await make_body(account.new_body, octets, chunk)
            assert body.size == len(octets)
            uid = await inbox.append(body, NO_FLAGS, DATE)
            assert await read_message(inbox, uid) == octets
            found = await inbox.digests([uid], DIGEST_NAMES)
            expected = columns({uid: digest(octets)}, DIGEST_NAMES)
            assert {name: found[name] for name in DIGEST_NAMES} == expected

    @question
    async def test_rows_tell_what_line_ends_add(self) -> None:
        account = await self._account()
        inbox, other = await account.mailbox("INBOX"), await account.mailbox("Sent")
        told: list[Change] = []
        inbox.watch(told.append)
        large = b"a: b\n\n" + b"line\n" * 40_000
        for octets, growth in ((b"a: b\n\nc", 4), (b"a: b\r\n\r\nc\r\n", 0), (large, 40_002)):
            uid = await self._append(account, inbox, octets)
            await inbox.change_flags([uid], FlagChange("add", SEEN_ONLY))
            rows = [*await inbox.entries([uid]), *(row for each in told for row in getattr(each, "entries", ()))]
            assert [(row.size, row.growth) for row in rows] == [(len(octets), growth)] * 3
            copied = (await inbox.copy([uid], other)).target
            moved = (await inbox.move([uid], other)).target
            assert [row.growth for row in await other.entries([*copied, *moved])] == [growth] * 2
            told.clear()

    @question
    async def test_a_body_can_be_read_before_it_is_committed(self) -> None:
        account = await self._account()
        for octets in (message(1), message(2, 200_000)):
            body = await make_body(account.new_body, octets)
            reader = body.open()
            assert reader.size == len(octets)
            assert await reader.read(10, 20) == octets[10:30]
            assert await reader.read() == octets
            reader.close()
            reader.close()
            body.discard()
            body.discard()

    @question
    async def test_abandoned_bodies_leave_nothing(self) -> None:
        account = await self._account()
        for octets in (message(1), message(2, 200_000)):
            writer = account.new_body(len(octets))
            await writer.write(octets)
            writer.abort()
            body = await make_body(account.new_body, octets)
            body.discard()
        inbox = await account.mailbox("INBOX")
        body = await make_body(account.new_body, message(3, 200_000))
        uid = await inbox.append(body, NO_FLAGS, DATE)
        body.discard()  # harmless after a commit
        assert await read_message(inbox, uid) == message(3, 200_000)
        assert (await account.quota()).used == len(message(3, 200_000))

    @question
    async def test_reading_piece_by_piece(self) -> None:
        account = await self._account()
        inbox = await account.mailbox("INBOX")
        for octets in (message(1), message(2, 200_000)):
            uid = await self._append(account, inbox, octets)
            reader = await inbox.open(uid)
            size = len(octets)
            assert await reader.read(0, 0) == b""
            assert await reader.read(7, 5) == octets[7:12]
            assert await reader.read(size - 3) == octets[-3:]
            assert await reader.read(size - 3, 100) == octets[-3:]
            assert await reader.read(size) == b""
            assert await reader.read(size + 5, 10) == b""
            reader.close()
            reader.close()

    @question
    async def test_rows_and_counters_tell_what_is_there(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, SEEN_ONLY, frozenset({FLAGGED, "$Forwarded"}))
        entries = await inbox.entries()
        assert [entry.flags for entry in entries] == [NO_FLAGS, SEEN_ONLY, frozenset({FLAGGED, "$Forwarded"})]
        assert [entry.size for entry in entries] == [len(message(number)) for number in (1, 2, 3)]
        assert {entry.internal_date for entry in entries} == {DATE}
        ascending(entry.uid for entry in entries)
        ascending(entry.modseq for entry in entries)
        status = await inbox.status()
        total = sum(entry.size for entry in entries)
        assert (status.messages, status.unseen, status.size) == (3, 2, total)
        assert status.uid_next > entries[-1].uid
        assert status.highest_modseq == entries[-1].modseq
        assert status.uid_validity == inbox.uid_validity
        assert await account.quota() == Quota(total, 0, 3)

    @question
    async def test_rows_are_chosen_by_uid_and_by_mod_sequence(self) -> None:
        _, inbox = await self._inbox(*[NO_FLAGS] * 5)
        entries = list(await inbox.entries())
        first, second = entries[0], entries[1]
        assert list(await inbox.entries([first.uid, entries[3].uid, 10**6])) == [first, entries[3]]
        assert list(await inbox.entries([])) == []
        assert list(await inbox.entries(since_modseq=second.modseq)) == entries[2:]
        assert list(await inbox.entries([second.uid, entries[4].uid], second.modseq)) == [entries[4]]
        assert list(await inbox.entries(since_modseq=10**9)) == []

    @question
    async def test_digests_are_those_of_the_octets(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS, NO_FLAGS, NO_FLAGS)
        one, two, three = await uids(inbox)
        for _ in range(2):
            for name in DIGEST_NAMES:
                expected = columns({one: digest(message(1)), three: digest(message(3))}, [name])
                assert (await inbox.digests([one, three, 999], [name]))[name] == expected[name]
        await inbox.expunge([one], deleted_only=False)
        found = await inbox.digests([one, two], ["fields", "header_size"])
        expected = columns({two: digest(message(2))}, ["fields", "header_size"])
        assert (found["fields"], found["header_size"]) == (expected["fields"], expected["header_size"])
        assert not (await inbox.digests([], ["envelope"]))["envelope"]

    @question
    async def test_bodies_are_the_very_octets_of_small_messages(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, NO_FLAGS, NO_FLAGS)
        one, two, three = await uids(inbox)
        large = await self._append(account, inbox, message(4, 200_000))
        await inbox.expunge([two], deleted_only=False)
        octets = {one: message(1), three: message(3), large: message(4, 200_000)}
        found = await inbox.bodies([one, two, three, large, 999])
        assert found == {uid: octets[uid] for uid in found}  # any of them may be left out
        assert await inbox.bodies([]) == {}

    @question
    async def test_a_delivery_repeated_adds_nothing(self) -> None:
        account, inbox = await self._inbox()
        uid = await self._append(account, inbox, message(1), delivery_id="q1-7")
        assert await self._append(account, inbox, message(1), delivery_id="q1-7") == uid
        assert await self._append(account, inbox, message(1), delivery_id="q1-8") != uid
        await inbox.expunge(deleted_only=False)
        assert await self._append(account, inbox, message(1), delivery_id="q1-7") == uid
        assert await uids(inbox) == []
        sent = await account.mailbox("Sent")
        await self._append(account, sent, message(1), delivery_id="q1-7")
        assert len(await uids(sent)) == 1

    @question
    async def test_a_uid_is_never_used_twice(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS)
        seen = await uids(inbox)
        for number in range(3):
            await inbox.expunge(deleted_only=False)
            seen.append(await self._append(account, inbox, message(number)))
        ascending(seen)

    @question
    async def test_messages_that_are_gone_are_told(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS)
        (uid,) = await uids(inbox)
        await self.refuses(MessageGone, inbox.open(uid + 1))
        await inbox.expunge(deleted_only=False)
        await self.refuses(MessageGone, inbox.open(uid))

    # --- flags

    @question
    async def test_flags_are_added_removed_and_replaced(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS, SEEN_ONLY)
        one, two = await uids(inbox)
        before = await inbox.status()
        both = frozenset({SEEN, FLAGGED})
        result = await inbox.change_flags([one, two, 999], FlagChange("add", both))
        assert [(entry.uid, entry.flags) for entry in result.changed] == [(one, both), (two, both)]
        assert result.failed == ()
        assert {entry.modseq for entry in result.changed} == {before.highest_modseq + 1}
        assert tuple(await inbox.entries()) == result.changed
        assert (await inbox.status()).unseen == 0
        result = await inbox.change_flags([one], FlagChange("remove", SEEN_ONLY))
        assert [entry.flags for entry in result.changed] == [frozenset({FLAGGED})]
        assert (await inbox.status()).unseen == 1
        await inbox.change_flags([one, two], FlagChange("replace", frozenset({"$Junk"})))
        assert [entry.flags for entry in await inbox.entries()] == [frozenset({"$Junk"})] * 2
        assert (await inbox.status()).unseen == 2

    @question
    async def test_keywords_keep_the_spelling_that_the_mailbox_met_first(self) -> None:
        account, inbox = await self._inbox(frozenset({"$MdnSent", "Work"}), frozenset({"$MDNSENT", SEEN}))
        one, two = await uids(inbox)

        async def flags(mailbox: IMailbox) -> list[Flags]:
            return [entry.flags for entry in await mailbox.entries()]

        assert await flags(inbox) == [frozenset({"$MdnSent", "Work"}), frozenset({"$MdnSent", SEEN})]
        result = await inbox.change_flags([one, two], FlagChange("add", frozenset({"WORK", "$mdnsent"})))
        assert [(entry.uid, entry.flags) for entry in result.changed] == [(two, frozenset({"$MdnSent", "Work", SEEN}))]
        await inbox.change_flags([one], FlagChange("remove", frozenset({"wOrK"})))
        await inbox.change_flags([two], FlagChange("replace", frozenset({"WORK", "new"})))
        assert await flags(inbox) == [frozenset({"$MdnSent"}), frozenset({"Work", "new"})]
        drafts, sent = await account.mailbox("Drafts"), await account.mailbox("Sent")
        await self._append(account, drafts, b"x", frozenset({"work"}))
        await self._append(account, sent, b"x", frozenset({"NEW"}))
        await inbox.copy([one, two], drafts)
        await inbox.move([one, two], sent)
        assert await flags(drafts) == [frozenset({"work"}), frozenset({"$MdnSent"}), frozenset({"work", "new"})]
        assert await flags(sent) == [frozenset({"NEW"}), frozenset({"$MdnSent"}), frozenset({"Work", "NEW"})]

    @question
    async def test_a_change_that_changes_nothing_is_no_change(self) -> None:
        _, inbox = await self._inbox(SEEN_ONLY, NO_FLAGS)
        entries = await inbox.entries()
        before = await inbox.status()
        heard: list[Change] = []
        inbox.watch(heard.append)
        result = await inbox.change_flags([entries[0].uid], FlagChange("add", SEEN_ONLY))
        assert (result.changed, result.failed, heard) == ((), (), [])
        assert (await inbox.status(), await inbox.entries()) == (before, entries)
        result = await inbox.change_flags([entry.uid for entry in entries], FlagChange("add", SEEN_ONLY))
        assert [entry.uid for entry in result.changed] == [entries[1].uid]

    @question
    async def test_a_conditional_change_leaves_out_what_changed_since(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS, NO_FLAGS, NO_FLAGS)
        one, two, three = await uids(inbox)
        since = (await inbox.status()).highest_modseq
        await inbox.change_flags([two], FlagChange("add", SEEN_ONLY))
        result = await inbox.change_flags([one, two, three], FlagChange("add", frozenset({FLAGGED})), since)
        assert [entry.uid for entry in result.changed] == [one, three]
        assert result.failed == (two,)
        result = await inbox.change_flags([one, two], FlagChange("add", frozenset({DELETED})), 0)
        assert (result.changed, result.failed) == ((), (one, two))

    # --- copy, move, expunge

    @question
    async def test_copies_keep_flags_and_dates_and_live_on_their_own(self) -> None:
        account, inbox = await self._inbox(SEEN_ONLY, NO_FLAGS, frozenset({"$Work"}))
        sent = await account.mailbox("Sent")
        await self._append(account, sent, message(9))
        one, _, three = await uids(inbox)
        result = await inbox.copy([one, three, 999], sent)
        assert result.uid_validity == sent.uid_validity
        assert result.source == (one, three)
        copies = list(await sent.entries(result.target))
        assert [(copy.flags, copy.internal_date) for copy in copies] == [
            (SEEN_ONLY, DATE),
            (frozenset({"$Work"}), DATE),
        ]
        assert (await sent.status()).unseen == 2
        await inbox.expunge(deleted_only=False)
        assert await read_message(sent, result.target[0]) == message(1)
        assert (await sent.digests(result.target[1:], ["fields"]))["fields"] == {
            result.target[1]: digest(message(3)).fields
        }
        assert (await account.quota()).messages == 3

    @question
    async def test_copying_nothing_and_copying_onto_itself(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS)
        (uid,) = await uids(inbox)
        assert await inbox.copy([999], await account.mailbox("Sent")) == CopyResult(
            (await account.mailbox("Sent")).uid_validity, (), ()
        )
        result = await inbox.copy([uid], inbox)
        assert await uids(inbox) == [uid, *result.target]

    @question
    async def test_moving_leaves_nothing_behind(self) -> None:
        account, inbox = await self._inbox(SEEN_ONLY, NO_FLAGS, NO_FLAGS)
        trash = await account.mailbox("Trash")
        one, two, three = await uids(inbox)
        before = (await inbox.status()).highest_modseq
        quota = await account.quota()
        result = await inbox.move([one, three, 999], trash)
        assert (await uids(inbox), result.source) == ([two], (one, three))
        assert [entry.flags for entry in await trash.entries(result.target)] == [SEEN_ONLY, NO_FLAGS]
        assert list(await inbox.vanished(before)) == [one, three]
        assert await account.quota() == quota
        assert await read_message(trash, result.target[1]) == message(3)

    @question
    async def test_moving_onto_itself_gives_new_uids(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS, NO_FLAGS)
        one, two = await uids(inbox)
        result = await inbox.move([one], inbox)
        assert await uids(inbox) == [two, *result.target]
        assert (await inbox.status()).messages == 2
        assert await read_message(inbox, result.target[0]) == message(1)

    @question
    async def test_expunge_removes_what_is_marked_or_what_it_is_told(self) -> None:
        marked = frozenset({DELETED})
        account, inbox = await self._inbox(marked, NO_FLAGS, marked, NO_FLAGS, marked)
        one, two, three, four, five = await uids(inbox)
        assert list(await inbox.expunge([one, two, 999])) == [one]
        assert list(await inbox.expunge()) == [three, five]
        assert list(await inbox.expunge()) == []
        assert list(await inbox.expunge([four], deleted_only=False)) == [four]
        assert await uids(inbox) == [two]
        status = await inbox.status()
        assert (status.messages, status.unseen, status.size) == (1, 1, len(message(2)))
        assert await account.quota() == Quota(len(message(2)), 0, 1)

    @question
    async def test_what_vanished_is_told_by_mod_sequence(self) -> None:
        _, inbox = await self._inbox(*[NO_FLAGS] * 5)
        one, two, three, four, _ = await uids(inbox)
        start = (await inbox.status()).highest_modseq
        await inbox.expunge([two, three], deleted_only=False)
        between = (await inbox.status()).highest_modseq
        await inbox.expunge([one, four], deleted_only=False)
        assert between > start
        assert list(await inbox.vanished(start)) == [one, two, three, four]
        assert list(await inbox.vanished(between)) == [one, four]
        assert list(await inbox.vanished((await inbox.status()).highest_modseq)) == []

    # --- holding

    @question
    async def test_what_others_expunge_stays_readable_for_who_holds(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, NO_FLAGS, NO_FLAGS)
        octets = message(4, size=100_000)
        one, two, three = await uids(inbox)
        four = await self._append(account, inbox, octets)
        other = await account.mailbox("INBOX")
        holding = await account.mailbox("INBOX")
        hold = holding.hold()
        await other.expunge([one], deleted_only=False)
        await other.move([two, four], await account.mailbox("Trash"))
        await (await account.mailbox("Trash")).expunge(deleted_only=False)
        assert await read_message(holding, one) == message(1)
        assert await read_message(holding, four) == octets
        found = await holding.digests([one, two, three, four, 999], ["fields", "header_size"])
        assert set(found["fields"]) == set(found["header_size"]) == {one, two, three, four}
        assert found["fields"][four] == digest(octets).fields
        bodies = await holding.bodies([one, two, three])
        assert bodies == {uid: message(number) for number, uid in enumerate((one, two, three), 1)}
        assert await uids(holding) == [three]
        assert (await account.quota()).messages == 1
        await self.refuses(MessageGone, other.open(one))
        hold.let_go([one, three, 999])
        await self.refuses(MessageGone, holding.open(one))
        assert await read_message(holding, two) == message(2)
        await holding.expunge([three], deleted_only=False)
        await self.refuses(MessageGone, holding.open(three))
        hold.end()
        hold.end()
        await self.refuses(MessageGone, holding.open(two))
        assert await holding.bodies([one, two, three]) == {}
        assert not (await holding.digests([one, two, four], ["fields"]))["fields"]

    # --- watching

    @question
    async def test_watchers_hear_of_every_change_before_its_call_returns(self) -> None:
        account, inbox = await self._inbox()
        sent = await account.mailbox("Sent")
        heard: list[Change] = []
        (await account.mailbox("INBOX")).watch(heard.append)
        one = await self._append(account, inbox, message(1))
        two = await self._append(account, inbox, message(2))
        assert heard == [Added((entry,)) for entry in await inbox.entries()]
        changed = await inbox.change_flags([one, two], FlagChange("add", SEEN_ONLY))
        assert heard[2:] == [FlagsChanged(changed.changed)]
        await inbox.copy([one], sent)
        assert len(heard) == 3
        await inbox.move([one], sent)
        assert heard[3:] == [Expunged((one,), (await inbox.status()).highest_modseq)]
        await sent.copy(await uids(sent), inbox)
        assert heard[4:] == [Added(tuple(await inbox.entries(since_modseq=heard_modseq(heard[3]))))]
        await inbox.expunge([two], deleted_only=False)
        assert heard[5:] == [Expunged((two,), (await inbox.status()).highest_modseq)]
        await inbox.refresh()
        assert len(heard) == 6

    @question
    async def test_each_watch_stops_on_its_own(self) -> None:
        account, inbox = await self._inbox()
        heard: list[Change] = []
        stop_first = inbox.watch(heard.append)
        stop_second = inbox.watch(heard.append)
        stop_first()
        stop_first()
        await self._append(account, inbox, message(1))
        assert len(heard) == 1
        stop_second()
        await self._append(account, inbox, message(2))
        assert len(heard) == 1

    @question
    async def test_a_deleted_mailbox_is_gone_for_all_who_have_it(self) -> None:
        account = await self._account()
        await account.create("a")
        mailbox = await account.mailbox("a")
        uid = await self._append(account, mailbox, message(1))
        heard: list[Change] = []
        mailbox.watch(heard.append)
        await account.delete("a")
        await account.create("a")
        assert heard == [MailboxGone()]
        inbox = await account.mailbox("INBOX")
        body = await make_body(account.new_body, message(2))
        for call in (
            mailbox.status(),
            mailbox.entries(),
            mailbox.append(body, NO_FLAGS, DATE),
            mailbox.change_flags([uid], FlagChange("add", SEEN_ONLY)),
            mailbox.copy([uid], inbox),
            mailbox.move([uid], inbox),
            inbox.copy([uid], mailbox),
            inbox.move([uid], mailbox),
            mailbox.expunge(),
        ):
            await self.refuses(NoSuchMailbox, call)
        await self.refuses(MessageGone, mailbox.open(uid))
        assert not (await mailbox.digests([uid], ["envelope"]))["envelope"]
        assert await mailbox.bodies([uid]) == {}
        assert list(await mailbox.vanished(0)) == []
        assert await uids(await account.mailbox("a")) == []
        assert (await account.quota()).used == 0

    # --- quota

    @question
    async def test_quota_bounds_what_is_added_and_nothing_else(self) -> None:
        if not self.has_quota:
            return
        store = await self.open_store()
        octets = message(1)
        account = await self.add_account(store, USER, quota=2 * len(octets) + 1)
        inbox, sent = await account.mailbox("INBOX"), await account.mailbox("Sent")
        await store.check_quota(USER, 2 * len(octets) + 1)
        await self.refuses(OverQuota, store.check_quota(USER, 2 * len(octets) + 2))
        uid = await self._append(account, inbox, octets)
        await inbox.copy([uid], sent)
        await self.refuses(OverQuota, self._append(account, inbox, octets))
        await self.refuses(OverQuota, inbox.copy([uid], sent))
        assert (len(await uids(inbox)), len(await uids(sent))) == (1, 1)
        assert await account.quota() == Quota(2 * len(octets), 2 * len(octets) + 1, 2)
        result = await inbox.move([uid], sent)
        await sent.expunge(result.target, deleted_only=False)
        await self._append(account, inbox, octets)


def ascending(numbers: Any) -> None:
    """Each greater than the one before."""
    values: Sequence[int] = list(numbers)
    assert all(low < high for low, high in pairwise(values)), values


def heard_modseq(change: Change) -> int:
    """The mod-sequence of an Expunged."""
    assert isinstance(change, Expunged)
    return change.modseq
