"""What `StoreExam` asks of accounts and of the names of their mailboxes."""

from __future__ import annotations

from typing import ClassVar

from mailhub.errors import (
    InvalidMailboxName,
    MailboxExists,
    NoSuchMailbox,
    NoSuchUser,
    NotPermitted,
)
from mailhub.interfaces import IMailAccount, IMailbox, IMailStore
from mailhub.message.flags import NO_FLAGS, Flags
from mailhub.message.record import MailboxInfo
from mailhub.store.exam.rig import DATE, OTHER, SEEN_ONLY, USER, Exam, make_body, message, question, uids


class MailboxNamesExam(Exam):
    """IMailStore and IMailAccount; what the questions about messages begin with."""

    has_quota: ClassVar[bool] = True  # whether add_account() can set a quota

    async def open_store(self) -> IMailStore:
        """A new, empty store that is started."""
        raise AssertionError("an exam needs open_store()")

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        """A new account; `quota` in octets."""
        return await store.account(user, create=True)

    async def _account(self) -> IMailAccount:
        return await self.add_account(await self.open_store(), USER)

    async def _inbox(self, *flags_of: Flags) -> tuple[IMailAccount, IMailbox]:
        """An INBOX with one message for each set of flags."""
        account = await self._account()
        inbox = await account.mailbox("INBOX")
        for number, flags in enumerate(flags_of, 1):
            await self._append(account, inbox, message(number), flags)
        return account, inbox

    async def _append(
        self, account: IMailAccount, mailbox: IMailbox, octets: bytes, flags: Flags = NO_FLAGS, delivery_id: str = ""
    ) -> int:
        return await mailbox.append(await make_body(account.new_body, octets), flags, DATE, delivery_id)

    @question
    async def test_a_new_account_has_the_usual_folders_and_is_subscribed_to_them(self) -> None:
        account = await self._account()
        names = ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]
        found = [MailboxInfo(info.name, info.special_use) for info in await account.mailboxes()]
        assert found == [MailboxInfo(name, "" if name == "INBOX" else f"\\{name}") for name in names]
        assert list(await account.subscriptions()) == names

    @question
    async def test_unknown_users_are_told(self) -> None:
        store = await self.open_store()
        assert not await store.exists(USER)
        await self.refuses(NoSuchUser, store.account(USER))
        await self.refuses(NoSuchUser, store.check_quota(USER, 1))
        await self.add_account(store, USER)
        assert await store.exists(USER)
        assert not await store.exists(OTHER)
        account = await store.account(USER)
        assert account.user == USER
        await account.logout()

    @question
    async def test_an_account_that_a_checker_vouches_for_is_made_once(self) -> None:
        store = await self.open_store()
        first = await store.account(OTHER, create=True)
        await first.create("kept")
        again = await store.account(OTHER, create=True)
        assert (await again.mailbox("kept")).name == "kept"

    @question
    async def test_inbox_means_the_same_in_any_case(self) -> None:
        account = await self._account()
        await account.create("inbox/lists")
        assert (await account.mailbox("InBox")).name == "INBOX"
        assert (await account.mailbox("INBOX/lists")).name == "INBOX/lists"
        await self.refuses(NoSuchMailbox, account.mailbox("INBOX/Lists"))
        await self.refuses(MailboxExists, account.create("Inbox"))

    @question
    async def test_no_letters_but_those_of_ascii_make_inbox_and_wildcards_are_letters(self) -> None:
        account = await self._account()
        for name in ("\u0131nbox", "inbo\uff58", "100%", "a*b"):
            await self.refuses(NoSuchMailbox, account.mailbox(name))
            await account.create(name)
            assert (await account.mailbox(name)).name == name
            await account.rename(name, f"x/{name}")
            await account.delete(f"x/{name}")

    @question
    async def test_bad_names_are_refused(self) -> None:
        account = await self._account()
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
            await self.refuses(InvalidMailboxName, account.rename("Sent", name))
            await self.refuses(InvalidMailboxName, account.subscribe(name, True))
        assert await account.mailboxes() == before

    @question
    async def test_a_mailbox_is_created_with_its_special_use_and_deleted(self) -> None:
        account = await self._account()
        await account.create("Großes/\N{SNOWMAN}", "\\Flagged")
        assert MailboxInfo("Großes/\N{SNOWMAN}", "\\Flagged") in await account.mailboxes()
        await self.refuses(MailboxExists, account.create("Großes/\N{SNOWMAN}"))
        await account.delete("Großes/\N{SNOWMAN}")
        await self.refuses(NoSuchMailbox, account.delete("Großes/\N{SNOWMAN}"))
        await self.refuses(NoSuchMailbox, account.mailbox("Großes/\N{SNOWMAN}"))
        await self.refuses(NotPermitted, account.delete("inbox"))

    @question
    async def test_a_usual_name_brings_its_use_back(self) -> None:
        """Where no other mailbox has it, and no other was asked for."""
        account = await self._account()

        async def uses() -> dict[str, str]:
            return {info.name: info.special_use for info in await account.mailboxes() if info.special_use}

        before = await uses()
        for name in before:
            await account.delete(name)
            await account.create(name)
        assert await uses() == before
        await account.rename("Sent", "Old")
        await account.create("Sent")
        assert (await uses())["Old"] == "\\Sent"
        assert "Sent" not in await uses()
        await account.delete("Old")
        await account.rename("Sent", "Sent items")
        await account.rename("Sent items", "Sent")
        assert await uses() == before
        await account.delete("Junk")
        await account.create("Spam", "\\Junk")
        await account.create("Junk")
        await account.create("a/Sent")
        assert await uses() == {name: use for name, use in before.items() if name != "Junk"} | {"Spam": "\\Junk"}
        await account.delete("Drafts")
        await account.create("Drafts", "\\Flagged")
        assert (await uses())["Drafts"] == "\\Flagged"

    @question
    async def test_inferiors_outlive_their_superior(self) -> None:
        account = await self._account()
        await account.create("a")
        await account.create("a/b")
        await account.delete("a")
        assert (await account.mailbox("a/b")).name == "a/b"

    @question
    async def test_a_mailbox_made_again_has_a_greater_uidvalidity(self) -> None:
        account = await self._account()
        seen = [(await account.mailbox(info.name)).uid_validity for info in await account.mailboxes()]
        for _ in range(3):
            await account.create("again")
            seen.append((await account.mailbox("again")).uid_validity)
            assert (await (await account.mailbox("again")).status()).uid_validity == seen[-1]
            await account.delete("again")
        assert len(set(seen)) == len(seen)
        assert seen[-3:] == sorted(seen[-3:])
        assert 0 < min(seen) <= max(seen) < 2**32

    @question
    async def test_renaming_takes_messages_uids_and_inferiors_along(self) -> None:
        account = await self._account()
        for name in ("a", "a/b", "a/b/c", "ab"):
            await account.create(name)
        before = await account.mailbox("a/b")
        await self._append(account, before, message(1))
        await account.rename("a", "x/y")
        names = [info.name for info in await account.mailboxes() if info.special_use == ""]
        assert names == ["INBOX", "ab", "x/y", "x/y/b", "x/y/b/c"]
        after = await account.mailbox("x/y/b")
        assert (await uids(after), after.uid_validity) == ([1], before.uid_validity)
        assert await uids(before) == [1]  # a session that has it selected goes on

    @question
    async def test_renaming_is_refused_when_a_name_is_taken_or_missing(self) -> None:
        account = await self._account()
        for name in ("a", "a/b", "c/b"):
            await account.create(name)
        before = await account.mailboxes()
        await self.refuses(NoSuchMailbox, account.rename("nothing", "x"))
        await self.refuses(MailboxExists, account.rename("a", "Sent"))
        await self.refuses(MailboxExists, account.rename("a", "a"))
        await self.refuses(MailboxExists, account.rename("a", "inbox"))
        await self.refuses(MailboxExists, account.rename("a", "c"))  # c/b is there
        await self.refuses(InvalidMailboxName, account.rename("a", "a/b/c"))
        await self.refuses(InvalidMailboxName, account.rename("a", "/".join("x" * 32)))  # too deep for a/b
        assert await account.mailboxes() == before

    @question
    async def test_renaming_inbox_moves_its_messages_and_leaves_it_empty(self) -> None:
        account, inbox = await self._inbox(NO_FLAGS, SEEN_ONLY)
        await account.create("INBOX/sub")
        await account.rename("inbox", "Old/2024")
        old = await account.mailbox("Old/2024")
        assert [entry.flags for entry in await old.entries()] == [NO_FLAGS, SEEN_ONLY]
        assert await uids(inbox) == []
        assert (await account.mailbox("INBOX/sub")).name == "INBOX/sub"
        await self.refuses(MailboxExists, account.rename("INBOX", "Sent"))

    @question
    async def test_subscriptions_are_names_and_need_no_mailbox(self) -> None:
        account = await self._account()
        for info in await account.mailboxes():
            await account.subscribe(info.name, False)
        await account.subscribe("not/there", True)
        await account.subscribe("inbox", True)
        await account.subscribe("inbox", True)
        assert list(await account.subscriptions()) == ["INBOX", "not/there"]
        await account.create("not/there")
        await account.delete("not/there")
        assert list(await account.subscriptions()) == ["INBOX", "not/there"]
        await account.subscribe("never subscribed", False)
