"""What `StoreExam` asks of every store, one that can be written or not: what is there, and what must not be done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, get_args

from mailhub.errors import MessageGone, NoSuchMailbox, NoSuchUser, NotPermitted
from mailhub.interfaces import IMailAccount, IMailbox, IMailStore, rights_of
from mailhub.message.digest import columns, digest
from mailhub.message.flags import DELETED, FLAGGED, NO_FLAGS, SEEN
from mailhub.message.mailbox_names import normalise
from mailhub.message.record import LAST_UID, Change, DigestName, Entry, FlagChange
from mailhub.store.exam.rig import DATE, make_body, message, question, read_message, same
from mailhub.store.exam.switches import ExaminedStore

DIGEST_NAMES: Sequence[DigestName] = get_args(DigestName)
_SAMPLE = 50  # messages of a mailbox, from either end: there may be very many


class ReadingExam(ExaminedStore):
    """What is there is told the same by every method, and each time."""

    async def _filled(self) -> tuple[IMailStore, IMailAccount, IMailbox]:
        """The store, and a mailbox with messages: new ones where some can be added, else those that the user has."""
        store = await self.open_store()
        account = await self.add_account(store, self.user)
        mailbox = await account.mailbox("INBOX")
        if "i" in self._rights:
            for number, size in ((1, 0), (2, 200_000), (3, 0)):
                await self._append(account, mailbox, message(number, size))
            return store, account, mailbox
        for info in await account.mailboxes():
            mailbox = await account.mailbox(info.name)
            if (await mailbox.status()).messages:
                return store, account, mailbox
        raise AssertionError(f"the exam of a store that cannot be written to needs messages of {self.user}")

    @question
    async def test_mailboxes_are_listed_and_are_there(self) -> None:
        """IMailAccount.mailboxes(): all that can be selected, in name order; INBOX always exists, in any case."""
        _, account, _ = await self._filled()
        names = [info.name for info in await account.mailboxes()]
        same(names, sorted(set(names)))
        same([name for name in names if normalise(name) != name], [])
        assert "INBOX" in names
        for name in names:
            same((await account.mailbox(name)).name, name)
        same((await account.mailbox("iNbOx")).name, "INBOX")
        await self.refuses(NoSuchMailbox, account.mailbox("there is/no such mailbox"))
        same(list(await account.subscriptions()), sorted(set(await account.subscriptions())))

    @question
    async def test_uid_validities_are_numbers_of_their_own(self) -> None:
        """IMailbox.uid_validity (RFC 9051 2.3.1.1): from 1 to 2**32 - 1, and no other of the account's has it."""
        store, account, _ = await self._filled()
        found = {info.name: (await account.mailbox(info.name)).uid_validity for info in await account.mailboxes()}
        assert all(0 < number < 2**32 for number in found.values()), f"{found} came"
        assert len(set(found.values())) == len(found), f"two mailboxes have the same: {found}"
        again = await store.account(self.user)
        for name, number in found.items():
            mailbox = await again.mailbox(name)
            same((mailbox.uid_validity, (await mailbox.status()).uid_validity), (number, number))

    @question
    async def test_counters_are_those_of_the_rows(self) -> None:
        """IMailbox.entries(): index rows in UID order; status(): the counters now."""
        _, account, _ = await self._filled()
        for info in await account.mailboxes():
            mailbox = await account.mailbox(info.name)
            entries, status = await mailbox.entries(), await mailbox.status()
            ascending(entry.uid for entry in entries)
            unseen = sum(SEEN not in entry.flags for entry in entries)
            size = sum(entry.size for entry in entries)
            same((status.messages, status.unseen, status.size), (len(entries), unseen, size))
            last = entries[-1].uid if entries else 0
            assert last < status.uid_next <= LAST_UID, f"UIDNEXT is {status.uid_next} after UID {last}"
            assert all(entry.uid > 0 and 0 < entry.modseq <= status.highest_modseq for entry in entries)

    @question
    async def test_rows_can_be_asked_for_one_by_one(self) -> None:
        """IMailbox.entries(): of the given UIDs that exist; only those with a higher mod-sequence."""
        _, _, mailbox = await self._filled()
        entries, status = list(await mailbox.entries()), await mailbox.status()
        some = sample(entries)[::2]
        same(list(await mailbox.entries([*(entry.uid for entry in some), LAST_UID])), some)
        same(list(await mailbox.entries([])), [])
        same(list(await mailbox.entries(since_modseq=status.highest_modseq)), [])
        bound = entries[0].modseq
        same(
            list(await mailbox.entries(since_modseq=bound)),
            [entry for entry in entries if entry.modseq > bound],
        )

    @question
    async def test_sizes_are_those_of_the_octets(self) -> None:
        """Entry.size in octets; IBlobReader.read(): up to `length` octets from `offset`."""
        _, _, mailbox = await self._filled()
        for entry in sample(await mailbox.entries()):
            octets = await read_message(mailbox, entry.uid)
            same((entry.uid, entry.size), (entry.uid, len(octets)))
            reader = await mailbox.open(entry.uid)
            try:
                same(await reader.read(7, 20), octets[7:27])
                same(await reader.read(max(0, len(octets) - 3)), octets[-3:])
                same(await reader.read(len(octets) + 5, 10), b"")
            finally:
                reader.close()

    @question
    async def test_bodies_are_what_open_gives(self) -> None:
        """IMailbox.bodies(): the very octets of many small messages at once."""
        _, _, mailbox = await self._filled()
        uids = [entry.uid for entry in sample(await mailbox.entries())]
        for uid, octets in (await mailbox.bodies([*uids, LAST_UID])).items():
            assert uid in uids, f"nobody asked for UID {uid}"
            same(octets, await read_message(mailbox, uid))

    @question
    async def test_digests_agree_with_the_octets(self) -> None:
        """IMailbox.digests(): ENVELOPE, BODYSTRUCTURE and so on, each by UID."""
        _, _, mailbox = await self._filled()
        uids = [entry.uid for entry in sample(await mailbox.entries())]
        found = await mailbox.digests([*uids, LAST_UID], DIGEST_NAMES)
        expected = columns({uid: digest(await read_message(mailbox, uid)) for uid in uids}, DIGEST_NAMES)
        for name in DIGEST_NAMES:
            same((name, dict(found[name])), (name, dict(expected[name])))

    @question
    async def test_two_readings_agree(self) -> None:
        """UIDs are never used twice, and octets do not change."""
        store, _, mailbox = await self._filled()
        again = await (await store.account(self.user)).mailbox(mailbox.name)
        some = sample(await mailbox.entries())
        before = [(entry, await read_message(mailbox, entry.uid)) for entry in some]
        await again.refresh()
        after = [(entry, await read_message(again, entry.uid)) for entry in sample(await again.entries())]
        same(after, before)
        same(await again.status(), await mailbox.status())

    @question
    async def test_what_is_not_there_is_told(self) -> None:
        """IMailbox.open() raises MessageGone; digests() and bodies() leave out what is gone."""
        store, _, mailbox = await self._filled()
        await self.refuses(MessageGone, mailbox.open(LAST_UID))
        same(await mailbox.bodies([LAST_UID]), {})
        same(dict((await mailbox.digests([LAST_UID], ["envelope"]))["envelope"]), {})
        assert not await store.exists(self.stranger)
        await self.refuses(NoSuchUser, store.account(self.stranger))

    @question
    async def test_watching_and_holding_can_be_ended(self) -> None:
        """IMailbox.watch(): the result stops it; hold(): end() may be called again."""
        _, _, mailbox = await self._filled()
        heard: list[Change] = []
        stop = mailbox.watch(heard.append)
        await mailbox.refresh()
        same(heard, [])
        stop()
        stop()
        hold = mailbox.hold()
        hold.let_go([LAST_UID])
        hold.end()
        hold.end()

    @question
    async def test_without_a_right_nothing_is_changed(self) -> None:
        """IMailbox.rights: methods without a right raise NotPermitted."""
        _, account, mailbox = await self._filled()
        rights = rights_of(mailbox)
        same(rights & frozenset("iswte"), self._rights & frozenset("iswte"))
        before = await _seen(account)
        uids = [entry.uid for entry in await mailbox.entries()][:1]

        async def append() -> object:
            body = await make_body(account.new_body, message(1))
            try:
                return await mailbox.append(body, NO_FLAGS, DATE)
            finally:
                body.discard()

        def changing(flag: str) -> Callable[[], Awaitable[object]]:
            return lambda: mailbox.change_flags(uids, FlagChange("add", frozenset({flag})))

        calls: Iterable[tuple[str, Callable[[], Awaitable[object]]]] = (
            ("i", append),
            ("i", lambda: mailbox.copy(uids, mailbox)),
            ("ie", lambda: mailbox.move(uids, mailbox)),
            ("s", changing(SEEN)),
            ("w", changing(FLAGGED)),
            ("t", changing(DELETED)),
            ("e", lambda: mailbox.expunge(uids, deleted_only=False)),
            ("e", mailbox.expunge),
        )
        for needed, call in calls:
            if not rights.issuperset(needed):
                await self.refuses(NotPermitted, call())
        if self.read_only or not self.has_folders:
            await self.refuses(NotPermitted, account.create("made by an exam"))
            await self.refuses(NotPermitted, account.delete("INBOX"))
            await self.refuses(NotPermitted, account.rename("INBOX", "renamed by an exam"))
        same(await _seen(account), before)

    @question
    async def test_a_name_is_subscribed_to_or_refused(self) -> None:
        """IMailAccount.subscribe(): puts a name on the list or takes it off; NotPermitted where there is no list."""
        _, account, _ = await self._filled()
        before = list(await account.subscriptions())
        try:
            await account.subscribe("INBOX", "INBOX" not in before)
        except NotPermitted:
            same(list(await account.subscriptions()), before)
            return
        same(sorted(set(await account.subscriptions()) ^ set(before)), ["INBOX"])
        await account.subscribe("INBOX", "INBOX" in before)
        same(list(await account.subscriptions()), before)

    @question
    async def test_room_is_told(self) -> None:
        """IMailAccount.quota(): use and limit; IMailStore.check_quota() raises OverQuota, NoSuchUser."""
        store, account, _ = await self._filled()
        quota = await account.quota()
        assert min(quota.used, quota.limit, quota.messages) >= 0, f"{quota} came"
        if quota.limit == 0 and "i" in self._rights:
            await store.check_quota(self.user, 1)
        await self.refuses(NoSuchUser, store.check_quota(self.stranger, 1))
        await account.logout()


async def _seen(account: IMailAccount) -> list[tuple[str, object, Sequence[Entry]]]:
    """All that can be seen of an account, but for octets."""
    found: list[tuple[str, object, Sequence[Entry]]] = []
    for info in await account.mailboxes():
        mailbox = await account.mailbox(info.name)
        found.append((info.name, await mailbox.status(), list(await mailbox.entries())))
    return found


def sample(entries: Sequence[Entry]) -> list[Entry]:
    """The first and the last of them, in order."""
    return list(entries) if len(entries) <= 2 * _SAMPLE else [*entries[:_SAMPLE], *entries[-_SAMPLE:]]


def ascending(numbers: Any) -> None:
    """Each greater than the one before."""
    values: Sequence[int] = list(numbers)
    fault = next((pair for pair in pairwise(values) if pair[0] >= pair[1]), None)
    assert fault is None, f"ascending numbers were expected; {fault} came"
