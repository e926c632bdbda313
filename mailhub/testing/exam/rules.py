"""What is asked of rules."""

from __future__ import annotations

from typing import Any

from mailhub.delivery.editing import Editing
from mailhub.delivery.rules import RuleFault, checked
from mailhub.delivery.screens import EditRefused
from mailhub.errors import MailError
from mailhub.interfaces import IMessageView, Placements
from mailhub.message.envelope import Mail
from mailhub.store.exam.rig import question, same
from mailhub.testing.exam import samples
from mailhub.testing.exam.component import ComponentExam
from mailhub.testing.exam.samples import MAILS, MESSAGES, ORIGINS, RECIPIENTS, USER


class RuleExam(ComponentExam):
    """An `IMailRules`. What it does with a message is its own; that it can be done is examined."""

    kind = "rule"

    def make_rule(self) -> Any:
        """The rule; by default the one that `factory` makes of `options`."""
        return self.build()

    @question
    async def test_any_message_has_an_answer(self) -> None:
        """IMailRules.apply(): Placements, or None for no opinion, for any message, however it is made."""
        rule = self.make_rule()
        for what, octets in MESSAGES.items():
            await self._apply(rule, what, octets)

    @question
    async def test_any_envelope_has_an_answer(self) -> None:
        """IMailRules.apply(): Placements or None for any sender, also for the null reverse-path, from any client."""
        rule = self.make_rule()
        for what, mail in MAILS.items():
            for who, origin in ORIGINS.items():
                of = samples.transaction(origin, mail, tuple(RECIPIENTS.values()))
                await self._apply(rule, f"{what}, {who}", mail=mail, message=samples.view(_PLAIN, of))

    @question
    async def test_it_is_asked_for_each_account(self) -> None:
        """IMailRules.apply(): for each account that the message goes to, also for those that it does not know."""
        rule = self.make_rule()
        for account in (USER, "nobody-of-that-name@xx.example", "änn@exämple.example", '"a n@n"@xx.example', USER):
            await self._apply(rule, account, account=account)

    @question
    async def test_accounts_may_be_asked_for_at_once(self) -> None:
        """IMailRules.apply(): one call may begin while another is under way."""
        rule = self.make_rule()
        await self.at_once(self._apply(rule, f"{number} of 5 at once") for number in range(5))

    @question
    async def test_the_message_stays_as_it_is(self) -> None:
        """IMessageView: to look at; what is to be changed stands in the edits of a Placement."""
        message: Any = samples.view(MESSAGES["octets beyond ASCII"])
        before = (message.header, await message.read(), message.mail, tuple(message.recipients), message.origin)
        await self._apply(self.make_rule(), "octets beyond ASCII", message=message)
        same((message.header, await message.read(), message.mail, tuple(message.recipients), message.origin), before)

    @question
    async def test_a_body_that_cannot_be_read_is_told(self) -> None:
        """IMessageView.read() raises StoreUnavailable: a rule raises a MailError then, or has its answer."""
        await self._apply(
            self.make_rule(), "a body that cannot be read", message=samples.unreadable_view(), may_raise=True
        )

    # --- How it is done ----------------------------------------------------------------------------------------------

    async def _apply(
        self,
        rule: Any,
        about: str,
        octets: bytes = MESSAGES["a plain message"],
        *,
        account: str = USER,
        mail: Mail = MAILS["a sender"],
        message: IMessageView | None = None,
        may_raise: bool = False,
    ) -> None:
        try:
            given = await self.ask(
                "IMailRules.apply()", rule.apply, account, mail, message or samples.view(octets), about=about
            )
        except MailError as error:
            if may_raise:
                return
            raise AssertionError(
                f"IMailRules.apply() must give Placements or None (Refusal to refuse); it raised {error!r}; {about}"
            ) from error
        if given is None:
            return
        try:
            self._check_edits(checked(given), message.header if message else samples.view(octets).header, octets)
        except (RuleFault, EditRefused) as error:
            raise AssertionError(f"IMailRules.apply() must give Placements or None; {error}; {about}") from None

    def _check_edits(self, placements: Placements, header: bytes, octets: bytes) -> None:
        """Those of each copy. Raises EditRefused."""
        for deposit in placements.deposits:
            edits = Editing()
            edits.begin(header, whole=bool(header) or not octets)
            edits.take(deposit.edits)


_PLAIN = MESSAGES["a plain message"]
