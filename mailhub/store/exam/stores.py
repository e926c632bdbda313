"""The exam that every mailbox store sits: plug-in stores inherit it in their tests as the built-in ones do.

    class TestMyStore(StoreExam):
        has_quota = False

        async def open_store(self) -> IMailStore:
            return MyStore(...)

What the contract leaves to a store is a switch (`ExaminedStore`). The classes need no test framework: each `test_*`
method is an ordinary function that raises AssertionError, or `unittest.SkipTest` where a switch is off. A store that
waits for a clock says how to let it go on in `pump()`.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mailhub.errors import (
    MessageGone,
    NoSuchMailbox,
    OverQuota,
)
from mailhub.interfaces import IMailbox
from mailhub.message.digest import columns, digest
from mailhub.message.flags import DELETED, FLAGGED, NO_FLAGS, SEEN, Flags
from mailhub.message.record import (
    LAST_UID,
    Added,
    Change,
    CopyResult,
    Expunged,
    FlagChange,
    FlagsChanged,
    MailboxGone,
    Quota,
)
from mailhub.store.exam.names import MailboxNamesExam
from mailhub.store.exam.reading import DIGEST_NAMES, ReadingExam, ascending
from mailhub.store.exam.rig import DATE, SEEN_ONLY, make_body, message, question, read_message, same, uids


class StoreExam(MailboxNamesExam, ReadingExam):
    """IMailStore, IMailAccount, IMailbox."""

    # --- messages

    @question(rights="i")
    async def test_a_message_comes_out_as_it_went_in(self) -> None:
        account = await self._account()
        inbox = await account.mailbox("INBOX")
        for octets in (message(1), b"", b"no header at all\r\n", bytes(range(256)) * 3, message(2, 200_000)):
            promised = (await inbox.status()).uid_next
            uid = await self._append(account, inbox, octets)
            assert uid >= promised
            same(await read_message(inbox, uid), octets)

    @question(rights="i")
    async def test_any_split_of_a_body_gives_the_same_octets_and_digest(self) -> None:
        account = await self._account()
        inbox = await account.mailbox("INBOX")
        octets = message(1, 300_000)
        for chunk in (1000, 65_536, 70_001, 300_001):
            body = await make_body(account.new_body, octets, chunk)
            same(body.size, len(octets))
            uid = await inbox.append(body, NO_FLAGS, DATE)
            same(await read_message(inbox, uid), octets)
            found = await inbox.digests([uid], DIGEST_NAMES)
            expected = columns({uid: digest(octets)}, DIGEST_NAMES)
            same({name: found[name] for name in DIGEST_NAMES}, expected)

    @question(rights="ise", needs=("has_folders",))
    async def test_rows_tell_what_line_ends_add(self) -> None:
        account = await self._account()
        inbox, other = await account.mailbox("INBOX"), await self._second(account, "Sent")
        told: list[Change] = []
        inbox.watch(told.append)
        large = b"a: b\n\n" + b"line\n" * 40_000
        for octets, growth in ((b"a: b\n\nc", 4), (b"a: b\r\n\r\nc\r\n", 0), (large, 40_002)):
            uid = await self._append(account, inbox, octets)
            await inbox.change_flags([uid], FlagChange("add", SEEN_ONLY))
            rows = [*await inbox.entries([uid]), *(row for each in told for row in getattr(each, "entries", ()))]
            allowed = {growth} if self.tells_growth else {growth, 0}
            same([row.size for row in rows], [len(octets)] * 3)
            assert {row.growth for row in rows} <= allowed, f"{rows} came, the growth is {growth}"
            copied = (await inbox.copy([uid], other)).target
            moved = (await inbox.move([uid], other)).target
            assert {row.growth for row in await other.entries([*copied, *moved])} <= allowed
            told.clear()

    @question(rights="i")
    async def test_a_body_can_be_read_before_it_is_committed(self) -> None:
        account = await self._account()
        for octets in (message(1), message(2, 200_000)):
            body = await make_body(account.new_body, octets)
            reader = body.open()
            same(reader.size, len(octets))
            same(await reader.read(10, 20), octets[10:30])
            same(await reader.read(), octets)
            reader.close()
            reader.close()
            body.discard()
            body.discard()

    @question(rights="i")
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
        same(await read_message(inbox, uid), message(3, 200_000))
        if self.has_quota:
            same((await account.quota()).used, len(message(3, 200_000)))

    @question(rights="i")
    async def test_reading_piece_by_piece(self) -> None:
        account = await self._account()
        inbox = await account.mailbox("INBOX")
        for octets in (message(1), message(2, 200_000)):
            uid = await self._append(account, inbox, octets)
            reader = await inbox.open(uid)
            size = len(octets)
            same(await reader.read(0, 0), b"")
            same(await reader.read(7, 5), octets[7:12])
            same(await reader.read(size - 3), octets[-3:])
            same(await reader.read(size - 3, 100), octets[-3:])
            same(await reader.read(size), b"")
            same(await reader.read(size + 5, 10), b"")
            reader.close()
            reader.close()

    @question(rights="isw")
    async def test_rows_and_counters_tell_what_is_there(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, SEEN_ONLY, frozenset({FLAGGED, self._word}))
        entries = await inbox.entries()
        same([entry.flags for entry in entries], [NO_FLAGS, SEEN_ONLY, frozenset({FLAGGED, self._word})])
        same([entry.size for entry in entries], [len(message(number)) for number in (1, 2, 3)])
        same({entry.internal_date for entry in entries}, {DATE})
        ascending(entry.uid for entry in entries)
        ascending(entry.modseq for entry in entries)
        status = await inbox.status()
        total = sum(entry.size for entry in entries)
        same((status.messages, status.unseen, status.size), (3, 2, total))
        assert status.uid_next > entries[-1].uid
        assert status.highest_modseq >= entries[-1].modseq
        same(status.uid_validity, inbox.uid_validity)
        if self.has_quota:
            same(await account.quota(), Quota(total, 0, 3))

    @question(rights="i")
    async def test_rows_are_chosen_by_uid_and_by_mod_sequence(self) -> None:
        _, inbox = await self._inbox(*[NO_FLAGS] * 5)
        entries = list(await inbox.entries())
        first, second = entries[0], entries[1]
        same(list(await inbox.entries([first.uid, entries[3].uid, LAST_UID])), [first, entries[3]])
        same(list(await inbox.entries([])), [])
        same(list(await inbox.entries(since_modseq=second.modseq)), entries[2:])
        same(list(await inbox.entries([second.uid, entries[4].uid], second.modseq)), [entries[4]])
        same(list(await inbox.entries(since_modseq=(await inbox.status()).highest_modseq)), [])

    @question(rights="ie")
    async def test_digests_are_those_of_the_octets(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS, NO_FLAGS, NO_FLAGS)
        one, two, three = await uids(inbox)
        for _ in range(2):
            for name in DIGEST_NAMES:
                expected = columns({one: digest(message(1)), three: digest(message(3))}, [name])
                same((await inbox.digests([one, three, LAST_UID], [name]))[name], expected[name])
        await inbox.expunge([one], deleted_only=False)
        found = await inbox.digests([one, two], ["fields", "header_size"])
        expected = columns({two: digest(message(2))}, ["fields", "header_size"])
        same((found["fields"], found["header_size"]), (expected["fields"], expected["header_size"]))
        assert not (await inbox.digests([], ["envelope"]))["envelope"]

    @question(rights="ie")
    async def test_bodies_are_the_very_octets_of_small_messages(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, NO_FLAGS, NO_FLAGS)
        one, two, three = await uids(inbox)
        large = await self._append(account, inbox, message(4, 200_000))
        await inbox.expunge([two], deleted_only=False)
        octets = {one: message(1), three: message(3), large: message(4, 200_000)}
        found = await inbox.bodies([one, two, three, large, LAST_UID])
        same(found, {uid: octets[uid] for uid in found})  # any of them may be left out
        same(await inbox.bodies([]), {})

    @question(rights="ie")
    async def test_a_delivery_repeated_adds_nothing(self) -> None:
        account, inbox = await self._inbox()
        uid = await self._append(account, inbox, message(1), delivery_id="q1-7")
        same(await self._append(account, inbox, message(1), delivery_id="q1-7"), uid)
        assert await self._append(account, inbox, message(1), delivery_id="q1-8") != uid
        await inbox.expunge(deleted_only=False)
        same(await self._append(account, inbox, message(1), delivery_id="q1-7"), uid)
        same(await uids(inbox), [])
        if self.has_folders:
            sent = await self._second(account, "Sent")
            await self._append(account, sent, message(1), delivery_id="q1-7")
            same(len(await uids(sent)), 1)

    @question(rights="ie")
    async def test_a_uid_is_never_used_twice(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS)
        seen = await uids(inbox)
        for number in range(3):
            await inbox.expunge(deleted_only=False)
            seen.append(await self._append(account, inbox, message(number)))
        ascending(seen)

    @question(rights="ie")
    async def test_messages_that_are_gone_are_told(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS)
        (uid,) = await uids(inbox)
        await self.refuses(MessageGone, inbox.open(uid + 1))
        await inbox.expunge(deleted_only=False)
        await self.refuses(MessageGone, inbox.open(uid))

    # --- flags

    @question(rights="isw")
    async def test_flags_are_added_removed_and_replaced(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS, SEEN_ONLY)
        one, two = await uids(inbox)
        before = await inbox.status()
        both = frozenset({SEEN, FLAGGED})
        result = await inbox.change_flags([one, two, LAST_UID], FlagChange("add", both))
        same([(entry.uid, entry.flags) for entry in result.changed], [(one, both), (two, both)])
        same(result.failed, ())
        assert min(entry.modseq for entry in result.changed) > before.highest_modseq
        same(tuple(await inbox.entries()), result.changed)
        same((await inbox.status()).unseen, 0)
        result = await inbox.change_flags([one], FlagChange("remove", SEEN_ONLY))
        same([entry.flags for entry in result.changed], [frozenset({FLAGGED})])
        same((await inbox.status()).unseen, 1)
        await inbox.change_flags([one, two], FlagChange("replace", frozenset({self._word})))
        same([entry.flags for entry in await inbox.entries()], [frozenset({self._word})] * 2)
        same((await inbox.status()).unseen, 2)

    @question(
        rights="isew",
        needs=(
            "has_folders",
            "keeps_keywords",
        ),
    )
    async def test_keywords_keep_the_spelling_that_the_mailbox_met_first(self) -> None:
        account, inbox = await self._inbox(frozenset({"$MdnSent", "Work"}), frozenset({"$MDNSENT", SEEN}))
        one, two = await uids(inbox)

        async def flags(mailbox: IMailbox) -> list[Flags]:
            return [entry.flags for entry in await mailbox.entries()]

        same(await flags(inbox), [frozenset({"$MdnSent", "Work"}), frozenset({"$MdnSent", SEEN})])
        result = await inbox.change_flags([one, two], FlagChange("add", frozenset({"WORK", "$mdnsent"})))
        same([(entry.uid, entry.flags) for entry in result.changed], [(two, frozenset({"$MdnSent", "Work", SEEN}))])
        await inbox.change_flags([one], FlagChange("remove", frozenset({"wOrK"})))
        await inbox.change_flags([two], FlagChange("replace", frozenset({"WORK", "new"})))
        same(await flags(inbox), [frozenset({"$MdnSent"}), frozenset({"Work", "new"})])
        drafts, sent = await self._second(account, "Drafts"), await self._second(account, "Sent")
        await self._append(account, drafts, b"x", frozenset({"work"}))
        await self._append(account, sent, b"x", frozenset({"NEW"}))
        await inbox.copy([one, two], drafts)
        await inbox.move([one, two], sent)
        same(await flags(drafts), [frozenset({"work"}), frozenset({"$MdnSent"}), frozenset({"work", "new"})])
        same(await flags(sent), [frozenset({"NEW"}), frozenset({"$MdnSent"}), frozenset({"Work", "NEW"})])

    @question(rights="is")
    async def test_a_change_that_changes_nothing_is_no_change(self) -> None:
        _, inbox = await self._inbox(SEEN_ONLY, NO_FLAGS)
        entries = await inbox.entries()
        before = await inbox.status()
        heard: list[Change] = []
        inbox.watch(heard.append)
        result = await inbox.change_flags([entries[0].uid], FlagChange("add", SEEN_ONLY))
        same((result.changed, result.failed, heard), ((), (), []))
        same((await inbox.status(), await inbox.entries()), (before, entries))
        result = await inbox.change_flags([entry.uid for entry in entries], FlagChange("add", SEEN_ONLY))
        same([entry.uid for entry in result.changed], [entries[1].uid])

    @question(rights="iswt")
    async def test_a_conditional_change_leaves_out_what_changed_since(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS, NO_FLAGS, NO_FLAGS)
        one, two, three = await uids(inbox)
        since = (await inbox.status()).highest_modseq
        await inbox.change_flags([two], FlagChange("add", SEEN_ONLY))
        result = await inbox.change_flags([one, two, three], FlagChange("add", frozenset({FLAGGED})), since)
        same([entry.uid for entry in result.changed], [one, three])
        same(result.failed, (two,))
        result = await inbox.change_flags([one, two], FlagChange("add", frozenset({DELETED})), 0)
        same((result.changed, result.failed), ((), (one, two)))

    # --- copy, move, expunge

    @question(rights="iswe", needs=("has_folders",))
    async def test_copies_keep_flags_and_dates_and_live_on_their_own(self) -> None:
        account, inbox = await self._inbox(SEEN_ONLY, NO_FLAGS, frozenset({self._word}))
        sent = await self._second(account, "Sent")
        await self._append(account, sent, message(9))
        one, _, three = await uids(inbox)
        result = await inbox.copy([one, three, LAST_UID], sent)
        same(result.uid_validity, sent.uid_validity)
        same(result.source, (one, three))
        copies = list(await sent.entries(result.target))
        same(
            [(copy.flags, copy.internal_date) for copy in copies],
            [
                (SEEN_ONLY, DATE),
                (frozenset({self._word}), DATE),
            ],
        )
        same((await sent.status()).unseen, 2)
        await inbox.expunge(deleted_only=False)
        same(await read_message(sent, result.target[0]), message(1))
        same(
            (await sent.digests(result.target[1:], ["fields"]))["fields"], {result.target[1]: digest(message(3)).fields}
        )
        if self.has_quota:
            same((await account.quota()).messages, 3)

    @question(rights="i", needs=("has_folders",))
    async def test_copying_nothing_and_copying_onto_itself(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS)
        (uid,) = await uids(inbox)
        same(
            await inbox.copy([LAST_UID], await self._second(account, "Sent")),
            CopyResult((await self._second(account, "Sent")).uid_validity, (), ()),
        )
        result = await inbox.copy([uid], inbox)
        same(await uids(inbox), [uid, *result.target])

    @question(rights="ise", needs=("has_folders",))
    async def test_moving_leaves_nothing_behind(self) -> None:
        account, inbox = await self._inbox(SEEN_ONLY, NO_FLAGS, NO_FLAGS)
        trash = await self._second(account, "Trash")
        one, two, three = await uids(inbox)
        before = (await inbox.status()).highest_modseq
        quota = await account.quota()
        result = await inbox.move([one, three, LAST_UID], trash)
        same((await uids(inbox), result.source), ([two], (one, three)))
        same([entry.flags for entry in await trash.entries(result.target)], [SEEN_ONLY, NO_FLAGS])
        same(list(await inbox.vanished(before)), [one, three])
        if self.has_quota:
            same(await account.quota(), quota)
        same(await read_message(trash, result.target[1]), message(3))

    @question(rights="ie", needs=("has_folders",))
    async def test_two_sessions_that_move_the_same_messages_double_none(self) -> None:
        account, inbox = await self._inbox(*[NO_FLAGS] * 12)
        there = await uids(inbox)
        sent, trash = await self._second(account, "Sent"), await self._second(account, "Trash")
        moves = [
            Deferred.fromCoroutine((await account.mailbox("INBOX")).move(there, target)) for target in (sent, trash)
        ]
        moved = [await move for move in moves]
        same(sorted(uid for result in moved for uid in result.source), there)
        same(await uids(inbox), [])
        same([await uids(sent), await uids(trash)], [list(result.target) for result in moved])

    @question(rights="ie")
    async def test_moving_onto_itself_gives_new_uids(self) -> None:
        _, inbox = await self._inbox(NO_FLAGS, NO_FLAGS)
        one, two = await uids(inbox)
        result = await inbox.move([one], inbox)
        same(await uids(inbox), [two, *result.target])
        same((await inbox.status()).messages, 2)
        same(await read_message(inbox, result.target[0]), message(1))

    @question(rights="ite")
    async def test_expunge_removes_what_is_marked_or_what_it_is_told(self) -> None:
        marked = frozenset({DELETED})
        account, inbox = await self._inbox(marked, NO_FLAGS, marked, NO_FLAGS, marked)
        one, two, three, four, five = await uids(inbox)
        same(list(await inbox.expunge([one, two, LAST_UID])), [one])
        same(list(await inbox.expunge()), [three, five])
        same(list(await inbox.expunge()), [])
        same(list(await inbox.expunge([four], deleted_only=False)), [four])
        same(await uids(inbox), [two])
        status = await inbox.status()
        same((status.messages, status.unseen, status.size), (1, 1, len(message(2))))
        if self.has_quota:
            same(await account.quota(), Quota(len(message(2)), 0, 1))

    @question(rights="ie")
    async def test_what_vanished_is_told_by_mod_sequence(self) -> None:
        _, inbox = await self._inbox(*[NO_FLAGS] * 5)
        one, two, three, four, _ = await uids(inbox)
        start = (await inbox.status()).highest_modseq
        await inbox.expunge([two, three], deleted_only=False)
        between = (await inbox.status()).highest_modseq
        await inbox.expunge([one, four], deleted_only=False)
        assert between > start
        same(list(await inbox.vanished(start)), [one, two, three, four])
        same(list(await inbox.vanished(between)), [one, four])
        same(list(await inbox.vanished((await inbox.status()).highest_modseq)), [])

    # --- holding

    @question(
        rights="ie",
        needs=(
            "has_folders",
            "holds_expunged",
        ),
    )
    async def test_what_others_expunge_stays_readable_for_who_holds(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, NO_FLAGS, NO_FLAGS)
        octets = message(4, size=200_000)
        one, two, three = await uids(inbox)
        four = await self._append(account, inbox, octets)
        other = await account.mailbox("INBOX")
        holding = await account.mailbox("INBOX")
        hold = holding.hold()
        await other.expunge([one], deleted_only=False)
        await other.move([two, four], await self._second(account, "Trash"))
        await (await self._second(account, "Trash")).expunge(deleted_only=False)
        same(await read_message(holding, one), message(1))
        same(await read_message(holding, four), octets)
        found = await holding.digests([one, two, three, four, LAST_UID], ["fields", "header_size"])
        assert set(found["fields"]) == set(found["header_size"]) == {one, two, three, four}
        same(found["fields"][four], digest(octets).fields)
        bodies = await holding.bodies([one, two, three])
        expected = {uid: message(number) for number, uid in enumerate((one, two, three), 1)}
        same(bodies, {uid: expected[uid] for uid in bodies})
        same(await uids(holding), [three])
        if self.has_quota:
            same((await account.quota()).messages, 1)
        await self.refuses(MessageGone, other.open(one))
        hold.let_go([one, three, LAST_UID])
        await self.refuses(MessageGone, holding.open(one))
        same(await read_message(holding, two), message(2))
        await holding.expunge([three], deleted_only=False)
        await self.refuses(MessageGone, holding.open(three))
        hold.end()
        hold.end()
        await self.refuses(MessageGone, holding.open(two))
        same(await holding.bodies([one, two, three]), {})
        assert not (await holding.digests([one, two, four], ["fields"]))["fields"]

    # --- watching

    @question(rights="ise", needs=("has_folders",))
    async def test_watchers_hear_of_every_change_before_its_call_returns(self) -> None:
        account, inbox = await self._inbox()
        sent = await self._second(account, "Sent")
        heard: list[Change] = []
        (await account.mailbox("INBOX")).watch(heard.append)

        def news() -> list[tuple[str, object]]:
            """What was said since the last time; a change may be told in several parts."""
            told = [each for change in heard for each in parts(change)]
            heard.clear()
            return told

        one = await self._append(account, inbox, message(1))
        same([what for what, _ in news()], ["added"])
        two = await self._append(account, inbox, message(2))
        same(news(), [("added", entry) for entry in await inbox.entries([two])])
        changed = await inbox.change_flags([one, two], FlagChange("add", SEEN_ONLY))
        same(news(), [("flags", entry) for entry in changed.changed])
        await inbox.copy([one], sent)
        same(news(), [])
        before = (await inbox.status()).highest_modseq
        await inbox.move([one], sent)
        modseqs = [change.modseq for change in heard if isinstance(change, Expunged)]
        same(news(), [("expunged", one)])
        after = (await inbox.status()).highest_modseq
        assert all(before < modseq <= after for modseq in modseqs), f"{modseqs} came, of {before} to {after}"
        await sent.copy(await uids(sent), inbox)
        same(news(), [("added", entry) for entry in await inbox.entries(since_modseq=after)])
        await inbox.expunge([two], deleted_only=False)
        same(news(), [("expunged", two)])
        await inbox.refresh()
        same(news(), [])

    @question(rights="i")
    async def test_each_watch_stops_on_its_own(self) -> None:
        account, inbox = await self._inbox()
        heard: list[Change] = []
        stop_first = inbox.watch(heard.append)
        stop_second = inbox.watch(heard.append)
        stop_first()
        stop_first()
        await self._append(account, inbox, message(1))
        same(len(heard), 1)
        stop_second()
        await self._append(account, inbox, message(2))
        same(len(heard), 1)

    @question(rights="iswe", needs=("has_folders",))
    async def test_a_deleted_mailbox_is_gone_for_all_who_have_it(self) -> None:
        account = await self._account()
        await account.create("a")
        mailbox = await account.mailbox("a")
        uid = await self._append(account, mailbox, message(1))
        heard: list[Change] = []
        mailbox.watch(heard.append)
        await account.delete("a")
        await account.create("a")
        same(heard, [MailboxGone()])
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
        same(await mailbox.bodies([uid]), {})
        same(list(await mailbox.vanished(0)), [])
        same(await uids(await account.mailbox("a")), [])
        if self.has_quota:
            same((await account.quota()).used, 0)

    # --- quota

    @question(
        rights="ie",
        needs=(
            "has_folders",
            "has_quota",
        ),
    )
    async def test_quota_bounds_what_is_added_and_nothing_else(self) -> None:
        store = await self.open_store()
        octets = message(1)
        account = await self.add_account(store, self.user, quota=2 * len(octets) + 1)
        inbox, sent = await account.mailbox("INBOX"), await self._second(account, "Sent")
        await store.check_quota(self.user, 2 * len(octets) + 1)
        await self.refuses(OverQuota, store.check_quota(self.user, 2 * len(octets) + 2))
        uid = await self._append(account, inbox, octets)
        await inbox.copy([uid], sent)
        await self.refuses(OverQuota, self._append(account, inbox, octets))
        await self.refuses(OverQuota, inbox.copy([uid], sent))
        same((len(await uids(inbox)), len(await uids(sent))), (1, 1))
        same(await account.quota(), Quota(2 * len(octets), 2 * len(octets) + 1, 2))
        result = await inbox.move([uid], sent)
        await sent.expunge(result.target, deleted_only=False)
        await self._append(account, inbox, octets)


def parts(change: Change) -> list[tuple[str, object]]:
    """What a change tells, message by message."""
    if isinstance(change, Added):
        return [("added", entry) for entry in change.entries]
    if isinstance(change, FlagsChanged):
        return [("flags", entry) for entry in change.entries]
    return [("expunged", uid) for uid in change.uids] if isinstance(change, Expunged) else [("gone", None)]
