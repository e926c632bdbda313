"""What the questions about stores begin with: the store that is examined, and what it has not."""

from __future__ import annotations

from typing import ClassVar

from mailhub.errors import NoSuchMailbox
from mailhub.interfaces import IMailAccount, IMailbox, IMailStore
from mailhub.message.flags import NO_FLAGS, Flags
from mailhub.message.record import ALL_RIGHTS, READ_ONLY, Rights
from mailhub.store.exam.rig import DATE, OTHER, USER, Exam, make_body, message


class ExaminedStore(Exam):
    """A store, by `open_store()`, and switches for what the contract leaves to it.

    What the store has not is switched off, and what depends on it is not asked. That a method without a right refuses
    and changes nothing is asked instead.
    """

    user: ClassVar[str] = USER  # has an account, or gets one; of a read-only store, one that has messages
    other: ClassVar[str] = OTHER  # gets an account where the store makes accounts
    stranger: ClassVar[str] = "nobody-of-that-name@xx.example"  # has no account

    read_only: ClassVar[bool] = False  # nothing can be added, changed or removed; sets `rights`
    rights: ClassVar[Rights] = ALL_RIGHTS  # of the user's INBOX, and of mailboxes that are made
    has_folders: ClassVar[bool] = True  # mailboxes can be made, renamed and deleted
    has_quota: ClassVar[bool] = True  # add_account() can set a quota, and what is used is counted
    makes_accounts: ClassVar[bool] = True  # account(create=True) makes the account of somebody unknown
    has_usual_folders: ClassVar[bool] = False  # a new account has Sent, Trash and so on, with their special uses
    has_special_uses: ClassVar[bool] = True  # create() keeps any special use
    keeps_keywords: ClassVar[bool] = True  # flags that are not the system's are kept
    holds_expunged: ClassVar[bool] = True  # IMailbox.hold() keeps some messages readable
    tells_growth: ClassVar[bool] = False  # Entry.growth is known

    async def open_store(self) -> IMailStore:
        """A new store that is started. It is empty, but for a read-only one: there `user` has messages."""
        raise AssertionError("an exam needs open_store()")

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        """A new account; `quota` in octets. The one that there is, where the store makes none."""
        return await store.account(user, create=self.makes_accounts)

    def lacks(self, rights: str, needs: tuple[str, ...]) -> str:
        """See `Exam`: a question about writing is not asked where there is nothing to write to."""
        if self.read_only and "has_folders" in needs:
            return "the store is read-only"
        if missing := set(rights) - self._rights:
            return f"there is no right to {''.join(sorted(missing))}"
        return super().lacks(rights, needs)

    @property
    def _rights(self) -> Rights:
        return READ_ONLY if self.read_only else self.rights

    @property
    def _word(self) -> str:
        """A flag beside those that are asked for by name."""
        return "$Forwarded" if self.keeps_keywords else "\\Answered"

    async def _account(self) -> IMailAccount:
        return await self.add_account(await self.open_store(), self.user)

    async def _inbox(self, *flags_of: Flags) -> tuple[IMailAccount, IMailbox]:
        """An INBOX with one message for each set of flags."""
        account = await self._account()
        inbox = await account.mailbox("INBOX")
        for number, flags in enumerate(flags_of, 1):
            await self._append(account, inbox, message(number), flags)
        return account, inbox

    async def _second(self, account: IMailAccount, name: str) -> IMailbox:
        """Another mailbox, made where it is not one of those that every account has."""
        try:
            return await account.mailbox(name)
        except NoSuchMailbox:
            await account.create(name)
            return await account.mailbox(name)

    async def _append(
        self, account: IMailAccount, mailbox: IMailbox, octets: bytes, flags: Flags = NO_FLAGS, delivery_id: str = ""
    ) -> int:
        return await mailbox.append(await make_body(account.new_body, octets), flags, DATE, delivery_id)
