"""What `StoreExam` asks of accounts and of the names of their mailboxes."""

from __future__ import annotations

from mailhub.errors import (
    InvalidMailboxName,
    MailboxExists,
    NoSuchMailbox,
    NoSuchUser,
    NotPermitted,
)
from mailhub.message.flags import NO_FLAGS
from mailhub.message.record import MailboxInfo
from mailhub.store.exam.rig import SEEN_ONLY, message, question, same, uids
from mailhub.store.exam.switches import ExaminedStore


class MailboxNamesExam(ExaminedStore):
    """IMailStore and IMailAccount: accounts, and the mailboxes that are made, renamed and deleted."""

    @question(needs=("has_usual_folders",))
    async def test_a_new_account_has_the_usual_folders_and_is_subscribed_to_them(self) -> None:
        account = await self._account()
        names = ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]
        found = [MailboxInfo(info.name, info.special_use) for info in await account.mailboxes()]
        same(found, [MailboxInfo(name, "" if name == "INBOX" else f"\\{name}") for name in names])
        same(list(await account.subscriptions()), names)

    @question
    async def test_unknown_users_are_told(self) -> None:
        """IMailStore.exists(), account() and check_quota(): NoSuchUser."""
        store = await self.open_store()
        for user in (self.stranger, self.user) if self.makes_accounts else (self.stranger,):
            assert not await store.exists(user)
            await self.refuses(NoSuchUser, store.account(user))
            await self.refuses(NoSuchUser, store.check_quota(user, 1))
        await self.add_account(store, self.user)
        assert await store.exists(self.user)
        assert not await store.exists(self.stranger)
        account = await store.account(self.user)
        same(account.user, self.user)
        await account.logout()

    @question(needs=("makes_accounts",))
    async def test_an_account_that_a_checker_vouches_for_is_made_once(self) -> None:
        store = await self.open_store()
        first = await store.account(self.other, create=True)
        before = (await first.mailbox("INBOX")).uid_validity
        if self.has_folders and not self.read_only:
            await first.create("kept")
        again = await store.account(self.other, create=True)
        same((await again.mailbox("INBOX")).uid_validity, before)
        same(list(await again.mailboxes()), list(await first.mailboxes()))

    @question(needs=("has_folders",))
    async def test_inbox_means_the_same_in_any_case(self) -> None:
        account = await self._account()
        await account.create("inbox/lists")
        same((await account.mailbox("InBox")).name, "INBOX")
        same((await account.mailbox("INBOX/lists")).name, "INBOX/lists")
        await self.refuses(NoSuchMailbox, account.mailbox("INBOX/Lists"))
        await self.refuses(MailboxExists, account.create("Inbox"))

    @question(needs=("has_folders",))
    async def test_no_letters_but_those_of_ascii_make_inbox_and_wildcards_are_letters(self) -> None:
        account = await self._account()
        for name in ("\u0131nbox", "inbo\uff58", "100%", "a*b"):
            await self.refuses(NoSuchMailbox, account.mailbox(name))
            await account.create(name)
            same((await account.mailbox(name)).name, name)
            await account.rename(name, f"x/{name}")
            await account.delete(f"x/{name}")

    @question(needs=("has_folders",))
    async def test_bad_names_are_refused(self) -> None:
        account = await self._account()
        await account.create("plain")
        before = await account.mailboxes()
        for name in (
            "",
            "/a",
            "a/",
            "a//b",
            "a/../b",
            ".",
            "a\x00b",
            "a\nb",
            "\ud800",
            "x" * 1001,
            "a/" * 40 + "a",
        ):
            await self.refuses(InvalidMailboxName, account.create(name))
            await self.refuses(InvalidMailboxName, account.rename("plain", name))
            await self.refuses(InvalidMailboxName, account.subscribe(name, True))
        same(await account.mailboxes(), before)

    @question(
        needs=(
            "has_folders",
            "has_special_uses",
        )
    )
    async def test_a_mailbox_is_created_with_its_special_use_and_deleted(self) -> None:
        account = await self._account()
        await account.create("Großes/\N{SNOWMAN}", "\\Flagged")
        assert MailboxInfo("Großes/\N{SNOWMAN}", "\\Flagged") in await account.mailboxes()
        await self.refuses(MailboxExists, account.create("Großes/\N{SNOWMAN}"))
        await account.delete("Großes/\N{SNOWMAN}")
        await self.refuses(NoSuchMailbox, account.delete("Großes/\N{SNOWMAN}"))
        await self.refuses(NoSuchMailbox, account.mailbox("Großes/\N{SNOWMAN}"))
        await self.refuses(NotPermitted, account.delete("inbox"))

    @question(
        needs=(
            "has_usual_folders",
            "has_folders",
        )
    )
    async def test_a_usual_name_brings_its_use_back(self) -> None:
        """Where no other mailbox has it, and no other was asked for."""
        account = await self._account()

        async def uses() -> dict[str, str]:
            return {info.name: info.special_use for info in await account.mailboxes() if info.special_use}

        before = await uses()
        for name in before:
            await account.delete(name)
            await account.create(name)
        same(await uses(), before)
        await account.rename("Sent", "Old")
        await account.create("Sent")
        same((await uses())["Old"], "\\Sent")
        assert "Sent" not in await uses()
        await account.delete("Old")
        await account.rename("Sent", "Sent items")
        await account.rename("Sent items", "Sent")
        same(await uses(), before)
        await account.delete("Junk")
        await account.create("Spam", "\\Junk")
        await account.create("Junk")
        await account.create("a/Sent")
        same(await uses(), {name: use for name, use in before.items() if name != "Junk"} | {"Spam": "\\Junk"})
        await account.delete("Drafts")
        await account.create("Drafts", "\\Flagged")
        same((await uses())["Drafts"], "\\Flagged")

    @question(needs=("has_folders",))
    async def test_inferiors_outlive_their_superior(self) -> None:
        account = await self._account()
        await account.create("a")
        await account.create("a/b")
        await account.delete("a")
        same((await account.mailbox("a/b")).name, "a/b")

    @question(needs=("has_folders",))
    async def test_a_mailbox_made_again_has_a_greater_uidvalidity(self) -> None:
        account = await self._account()
        seen = [(await account.mailbox(info.name)).uid_validity for info in await account.mailboxes()]
        for _ in range(3):
            await account.create("again")
            seen.append((await account.mailbox("again")).uid_validity)
            same((await (await account.mailbox("again")).status()).uid_validity, seen[-1])
            await account.delete("again")
        same(len(set(seen)), len(seen))
        same(seen[-3:], sorted(seen[-3:]))
        assert 0 < min(seen) <= max(seen) < 2**32

    @question(rights="i", needs=("has_folders",))
    async def test_renaming_takes_messages_uids_and_inferiors_along(self) -> None:
        account = await self._account()
        others = [info.name for info in await account.mailboxes()]
        for name in ("a", "a/b", "a/b/c", "ab"):
            await account.create(name)
        before = await account.mailbox("a/b")
        uid = await self._append(account, before, message(1))
        await account.rename("a", "x/y")
        names = [info.name for info in await account.mailboxes() if info.name not in others]
        same([name for name in names if name != "x"], ["ab", "x/y", "x/y/b", "x/y/b/c"])
        after = await account.mailbox("x/y/b")
        same((await uids(after), after.uid_validity), ([uid], before.uid_validity))
        same(await uids(before), [uid])  # a session that has it selected goes on

    @question(needs=("has_folders",))
    async def test_renaming_is_refused_when_a_name_is_taken_or_missing(self) -> None:
        account = await self._account()
        for name in ("a", "a/b", "c/b", "taken"):
            await account.create(name)
        before = await account.mailboxes()
        await self.refuses(NoSuchMailbox, account.rename("nothing", "x"))
        await self.refuses(MailboxExists, account.rename("a", "taken"))
        await self.refuses(MailboxExists, account.rename("a", "a"))
        await self.refuses(MailboxExists, account.rename("a", "inbox"))
        await self.refuses(MailboxExists, account.rename("a", "c"))  # c/b is there
        await self.refuses(InvalidMailboxName, account.rename("a", "a/b/c"))
        await self.refuses(InvalidMailboxName, account.rename("a", "/".join("x" * 32)))  # too deep for a/b
        same(await account.mailboxes(), before)

    @question(rights="ise", needs=("has_folders",))
    async def test_renaming_inbox_moves_its_messages_and_leaves_it_empty(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, SEEN_ONLY)
        await account.create("INBOX/sub")
        await account.rename("inbox", "Old/2024")
        old = await account.mailbox("Old/2024")
        same([entry.flags for entry in await old.entries()], [NO_FLAGS, SEEN_ONLY])
        same(await uids(inbox), [])
        same((await account.mailbox("INBOX/sub")).name, "INBOX/sub")
        await self.refuses(MailboxExists, account.rename("INBOX", "Old/2024"))

    @question(needs=("has_folders",))
    async def test_subscriptions_are_names_and_need_no_mailbox(self) -> None:
        account = await self._account()
        for info in await account.mailboxes():
            await account.subscribe(info.name, False)
        await account.subscribe("not/there", True)
        await account.subscribe("inbox", True)
        await account.subscribe("inbox", True)
        same(list(await account.subscriptions()), ["INBOX", "not/there"])
        await account.create("not/there")
        await account.delete("not/there")
        same(list(await account.subscriptions()), ["INBOX", "not/there"])
        await account.subscribe("never subscribed", False)
