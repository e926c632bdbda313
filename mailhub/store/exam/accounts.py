"""The exams of the tables of accounts and of names."""

from __future__ import annotations

from typing import Any

from mailhub.errors import MailboxExists, NoSuchMailbox, NoSuchUser, OverQuota
from mailhub.interfaces import Account, KeptNames
from mailhub.message.record import Change, MailboxGone
from mailhub.store.exam.rig import OTHER, SEEN_ONLY, USER, make_body, message, question, uids
from mailhub.store.exam.submissions import NOW, DatabaseExam


class AccountsExam(DatabaseExam):
    """`IDatabase.accounts`, with the store of the same database."""

    @question
    async def test_accounts_are_added_found_and_listed(self) -> None:
        _, accounts = await self._open()
        assert (await accounts.find(USER), list(await accounts.all())) == (None, [])
        await accounts.add(OTHER, "hash c", quota=1000)
        await accounts.add(USER, "hash b")
        assert await accounts.find(USER) == Account(USER, "hash b", 0)
        assert list(await accounts.all()) == [Account(USER, "hash b", 0), Account(OTHER, "hash c", 1000)]
        await self.refuses(MailboxExists, accounts.add(USER, "other"))
        await accounts.set_password(USER, "new")
        assert await accounts.find(USER) == Account(USER, "new", 0)

    @question
    async def test_an_account_goes_with_all_its_mail(self) -> None:
        _, accounts = await self._open()
        await accounts.add(USER, "")
        account = await self.database.store.account(USER)
        inbox = await account.mailbox("INBOX")
        heard: list[Change] = []
        inbox.watch(heard.append)
        await inbox.append(await make_body(account.new_body, message(1, 200_000)), SEEN_ONLY, NOW)
        await accounts.remove(USER)
        assert heard[-1:] == [MailboxGone()]
        assert (await accounts.find(USER), await self.database.store.exists(USER)) == (None, False)
        for call in (account.mailboxes(), account.quota(), account.create("a"), account.subscribe("a", True)):
            await self.refuses(NoSuchUser, call)
        for other in (account.mailbox("INBOX"), inbox.status(), inbox.entries(), account.rename("Sent", "a")):
            await self.refuses(NoSuchMailbox, other)
        await accounts.add(USER, "again")
        again = await (await self.database.store.account(USER)).mailbox("INBOX")
        assert await uids(again) == []
        assert again.uid_validity > inbox.uid_validity

    @question
    async def test_unknown_accounts_are_told(self) -> None:
        _, accounts = await self._open()
        await self.refuses(NoSuchUser, accounts.remove(USER))
        await self.refuses(NoSuchUser, accounts.set_password(USER, "x"))
        await self.refuses(NoSuchUser, accounts.set_enabled(USER, False))
        await self.refuses(NoSuchUser, accounts.set_quota(USER, 1))

    @question
    async def test_disabling_keeps_all_and_a_quota_counts_at_once(self) -> None:
        _, accounts = await self._open()
        await accounts.add(USER, "hash")
        await self.database.store.check_quota(USER, 10)
        await accounts.set_enabled(USER, False)
        await accounts.set_quota(USER, 9)
        assert await accounts.find(USER) == Account(USER, "hash", 9, enabled=False)
        assert await self.database.store.exists(USER)
        await self.refuses(OverQuota, self.database.store.check_quota(USER, 10))
        await accounts.set_enabled(USER, True)
        await accounts.set_quota(USER, 0)
        assert await accounts.find(USER) == Account(USER, "hash", 0)
        await self.database.store.check_quota(USER, 10)

    @question
    async def test_whose_login_has_changed_is_told(self) -> None:
        _, accounts = await self._open()
        for user in (USER, OTHER):
            await accounts.add(user, "hash")
        before, _ = await accounts.changed(0)
        assert await accounts.changed(before) == (before, [])
        await accounts.set_password(USER, "new")
        await accounts.set_quota(OTHER, 1)
        first, whose = await accounts.changed(before)
        assert (first > before, list(whose)) == (True, [USER])
        await accounts.set_enabled(OTHER, False)
        await accounts.remove(USER)
        last, whose = await accounts.changed(first)
        assert (last > first, list(whose)) == (True, [OTHER, USER])


class NamesExam(DatabaseExam):
    """`IDatabase.names`."""

    @question
    async def test_names_are_kept_until_they_are_taken_away(self) -> None:
        await self._open()
        names = self.database.names
        assert await names.kept() == KeptNames()
        assert [await names.add_domain(name) for name in ("xx.example", "xx.example", "yy.example")] == [
            True,
            False,
            True,
        ]
        assert list(await names.add_alias("all@xx.example", ["b@xx.example", "a@xx.example"])) == [
            "b@xx.example",
            "a@xx.example",
        ]
        assert list(await names.add_alias("all@xx.example", ["a@xx.example", "c@xx.example"])) == ["c@xx.example"]
        kept = await names.kept()
        assert kept is not None
        assert kept.domains == {"xx.example", "yy.example"}
        assert kept.aliases == {"all@xx.example": ("b@xx.example", "a@xx.example", "c@xx.example")}
        assert list(await names.remove_alias("all@xx.example", ["b@xx.example", "d@xx.example"])) == ["b@xx.example"]
        assert list(await names.remove_alias("all@xx.example")) == ["a@xx.example", "c@xx.example"]
        assert [
            await names.add_domain_alias("ww.example", to) for to in ("xx.example", "yy.example", "yy.example")
        ] == [
            True,
            True,
            False,
        ]
        kept = await names.kept()
        assert kept is not None
        assert dict(kept.same_as) == {"ww.example": "yy.example"}
        assert kept.domains == {"xx.example", "yy.example"}
        assert [await names.remove_domain(name) for name in ("ww.example", "xx.example", "zz.example")] == [
            True,
            True,
            False,
        ]
        kept = await names.kept()
        assert kept is not None
        assert (sorted(kept.domains), list(kept.aliases), list(kept.same_as)) == (["yy.example"], [], [])

    @question
    async def test_whole_tables_are_added_at_once_and_again_without_a_change(self) -> None:
        await self._open()
        names = self.database.names
        await names.add_alias("all@xx.example", ["a@xx.example"])
        aliases = {"all@xx.example": ["a@xx.example", "b@xx.example"], "more@xx.example": ["c@xx.example"]}
        table: Any = (aliases, ["xx.example"], {"ww.example": "xx.example"})
        assert await names.add_all(*table) == 4
        kept = await names.kept()
        assert kept is not None
        assert (dict(kept.same_as), set(kept.domains)) == ({"ww.example": "xx.example"}, {"xx.example"})
        assert {name: list(targets) for name, targets in kept.aliases.items()} == aliases
        assert await names.add_all(*table) == 0
        assert await names.kept(kept.version) is None
        # Others may take the place of what is there.
        remove = {"all@xx.example": ["a@xx.example"], "more@xx.example": ["c@xx.example"]}
        assert await names.add_all({"all@xx.example": ["d@xx.example"]}, remove=remove) == 1
        kept = await names.kept(kept.version)
        assert kept is not None
        assert {name: list(targets) for name, targets in kept.aliases.items()} == {
            "all@xx.example": ["b@xx.example", "d@xx.example"]
        }

    @question
    async def test_lists_and_their_members(self) -> None:
        await self._open()
        names = self.database.names
        assert [await names.put_list("l@xx.example", text) for text in ("{}", "{}", '{"group": true}')] == [
            True,
            False,
            True,
        ]
        assert list(await names.join_list("l@xx.example", ["B@yy.example", "a@xx.example"])) == [
            "B@yy.example",
            "a@xx.example",
        ]
        assert list(await names.join_list("l@xx.example", ["b@YY.example", "c@xx.example"])) == ["c@xx.example"]
        assert list(await names.list_members("l@xx.example")) == ["a@xx.example", "B@yy.example", "c@xx.example"]
        assert await names.has_member("l@xx.example", "b@yy.example")
        assert not await names.has_member("m@xx.example", "b@yy.example")
        assert list(await names.leave_list("l@xx.example", ["A@xx.example", "d@xx.example"])) == ["A@xx.example"]
        kept = await names.kept()
        assert kept is not None
        assert dict(kept.lists) == {"l@xx.example": '{"group": true}'}
        assert [await names.remove_list("l@xx.example") for _ in range(2)] == [True, False]
        assert list(await names.list_members("l@xx.example")) == []

    @question
    async def test_only_news_is_told_to_who_knows_the_rest(self) -> None:
        await self._open()
        names = self.database.names
        await names.add_domain("xx.example")
        kept = await names.kept()
        assert kept is not None
        await names.add_domain("xx.example")
        await names.remove_domain("yy.example")
        await names.remove_alias("a@xx.example")
        assert await names.kept(kept.version) is None
        await names.add_alias("a@xx.example", ["b@xx.example"])
        newer = await names.kept(kept.version)
        assert newer is not None
        assert newer.version > kept.version
