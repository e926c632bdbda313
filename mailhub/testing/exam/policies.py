"""What is asked of policies and of the screens that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from mailhub.delivery.editing import check_envelope
from mailhub.delivery.screens import EditRefused, Moment
from mailhub.errors import MailError, NotPermitted, TemporaryError
from mailhub.interfaces import ITransactionView, Origin, Verdict
from mailhub.message.edits import EDITS_LIMIT
from mailhub.store.exam.rig import question, same
from mailhub.testing.exam import samples
from mailhub.testing.exam.component import ComponentExam, shown
from mailhub.testing.exam.samples import MAILS, MESSAGES, ORIGINS, RECIPIENTS

_MOMENTS: Sequence[str] = get_args(Moment)
_ACTIONS = ("accept", "reject", "defer", "discard", "quarantine")
# The class of a status that an action may have (RFC 3463 3.1).
_CLASSES: Mapping[str, str] = {"reject": "5", "defer": "4"}
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


class PolicyExam(ComponentExam):
    """An `IPolicy`. What it decides is its own; that it decides, in time, about whatever comes, is examined."""

    kind = "policy"

    def make_policy(self) -> Any:
        """The policy; by default the one that `factory` makes of `options`."""
        return self.build()

    @question
    async def test_a_connection_gets_a_screen(self) -> None:
        """IPolicy.begin(): a screen for each connection; raises NotPermitted or TemporaryError instead."""
        policy = self.make_policy()
        for who, origin in ORIGINS.items():
            await self._screen(policy, origin, who)

    @question
    async def test_every_moment_has_a_verdict(self) -> None:
        """IScreen: hello(), login(), mail(), recipient() and message() give a Verdict, for any client and envelope."""
        policy = self.make_policy()
        for who, origin in ORIGINS.items():
            for what, mail in MAILS.items():
                screen = await self._screen(policy, origin, who)
                if screen is not None:
                    await self._talk(screen, samples.transaction(origin, mail, ()), f"{who}, {what}")
                    await self._ask(screen, "closed")

    @question
    async def test_any_message_has_a_verdict(self) -> None:
        """IScreen.message(): a Verdict for any message, however it is made."""
        policy = self.make_policy()
        for what, octets in MESSAGES.items():
            screen = await self._screen(policy, ORIGINS["a server"])
            if screen is not None:
                await self._judge(screen, octets, what)

    @question
    async def test_any_recipient_has_a_verdict(self) -> None:
        """IScreen.recipient(): a Verdict for any recipient; recipient_refused() may come after it."""
        screen = await self._screen(self.make_policy(), ORIGINS["a server"])
        before: list[Any] = []
        for what, recipient in RECIPIENTS.items() if screen is not None else ():
            transaction = samples.transaction(recipients=before)
            await self._say(screen, "recipient", what, transaction, recipient)
            await self._ask(screen, "recipient_refused", transaction, recipient, NotPermitted("no"))
            before.append(recipient)

    @question
    async def test_messages_follow_one_another(self) -> None:
        """IScreen: one connection has many messages, may say EHLO again, and may leave a message unfinished."""
        screen = await self._screen(self.make_policy(), ORIGINS["a server"])
        for turn in range(3) if screen is not None else ():
            transaction = samples.transaction(recipients=())
            await self._say(screen, "mail", f"unfinished message {turn}", transaction)
            await self._talk(screen, transaction, f"message {turn}")

    @question
    async def test_connections_do_not_disturb_each_other(self) -> None:
        """IPolicy.begin(): a screen has a state of its own; one that is closed leaves others as they are."""
        policy = self.make_policy()
        first = await self._screen(policy, ORIGINS["a server"])
        second = await self._screen(policy, ORIGINS["a login"])
        if first is None or second is None:
            return
        transaction = samples.transaction(recipients=())
        await self._say(first, "mail", "first connection", transaction)
        await self._talk(second, samples.transaction(ORIGINS["a login"], recipients=()), "second connection")
        await self._ask(second, "closed")
        await self._say(first, "recipient", "the other is closed", transaction, RECIPIENTS["a user"])
        screens = (first, await self._screen(policy, ORIGINS["a server"]))
        plain = MESSAGES["a plain message"]
        await self.at_once(self._judge(screen, plain, "two at once") for screen in screens if screen is not None)

    @question
    async def test_a_connection_may_end_at_any_moment(self) -> None:
        """IScreen.closed(): called once, whatever happened."""
        policy = self.make_policy()
        transaction = samples.transaction(recipients=())
        beginnings: Sequence[Sequence[tuple[str, tuple[object, ...]]]] = (
            (),
            (("hello", (ORIGINS["a server"],)),),
            (("mail", (transaction,)),),
            (("mail", (transaction,)), ("recipient", (transaction, RECIPIENTS["a user"]))),
        )
        for calls in beginnings:
            screen = await self._screen(policy, ORIGINS["a server"])
            if screen is not None:
                for moment, arguments in calls:
                    await self._ask(screen, moment, *arguments)
                await self._ask(screen, "closed")

    @question
    async def test_the_message_stays_as_it_is(self) -> None:
        """IMessageView: to look at; what is to be changed stands in the edits of the Verdict."""
        screen = await self._screen(self.make_policy(), ORIGINS["a server"])
        if screen is None:
            return
        message: Any = samples.view(MESSAGES["octets beyond ASCII"])
        before = (message.header, await message.read(), message.mail, tuple(message.recipients), message.origin)
        await self._say(screen, "message", "octets beyond ASCII", message)
        after = (message.header, await message.read(), message.mail, tuple(message.recipients), message.origin)
        same(after, before)

    @question
    async def test_a_body_that_cannot_be_read_is_told(self) -> None:
        """IMessageView.read() raises StoreUnavailable: a screen raises a MailError then, or has its verdict."""
        screen = await self._screen(self.make_policy(), ORIGINS["a server"])
        if screen is None:
            return
        try:
            verdict = await self._ask(screen, "message", samples.unreadable_view(), may_raise=True)
        except MailError:
            return
        self._check(verdict, "message", "a body that cannot be read")

    # --- How it is done ----------------------------------------------------------------------------------------------

    async def _screen(self, policy: Any, origin: Origin, who: str = "") -> Any:
        """The screen of a new connection; None where it is refused."""
        try:
            screen = await self.ask("IPolicy.begin()", policy.begin, origin, about=who)
        except (NotPermitted, TemporaryError):
            return None
        except MailError as error:
            raise AssertionError(
                f"IPolicy.begin() raises NotPermitted or TemporaryError, and no {type(error).__name__}; {who}"
            ) from error
        methods = [method for moment in _MOMENTS if (method := getattr(screen, moment, None)) is not None]
        if isinstance(screen, type) or not methods or not all(map(callable, methods)):
            raise AssertionError(f"IPolicy.begin() must give an IScreen; {shown(screen)} came; {who}")
        return screen

    async def _ask(self, screen: Any, moment: str, *arguments: object, about: str = "", may_raise: bool = False) -> Any:
        method = getattr(screen, moment, None)
        if method is None:  # every one may be left out
            return Verdict()
        try:
            return await self.ask(f"IScreen.{moment}()", method, *arguments, about=about)
        except MailError as error:
            if may_raise:
                raise
            raise AssertionError(
                f'IScreen.{moment}() must give a Verdict ("reject" or "defer" to refuse); it raised {error!r}'
            ) from error

    async def _talk(self, screen: Any, transaction: ITransactionView, about: str) -> None:
        """One message, from EHLO to the end of the data."""
        origin = transaction.origin
        await self._say(screen, "hello", about, origin)
        if origin.user:
            await self._say(screen, "login", about, origin)
        await self._say(screen, "mail", about, transaction)
        recipient = RECIPIENTS["a user"]
        await self._say(screen, "recipient", about, transaction, recipient)
        named = samples.transaction(origin, transaction.mail, [recipient])
        message = samples.view(MESSAGES["a plain message"], named)
        await self._say(screen, "message", about, message)

    async def _judge(self, screen: Any, octets: bytes, about: str) -> None:
        verdict = await self._ask(screen, "message", samples.view(octets), about=about)
        self._check(verdict, "message", about, octets)

    async def _say(self, screen: Any, moment: str, about: str, *arguments: object) -> None:
        self._check(await self._ask(screen, moment, *arguments, about=about), moment, about)

    def _check(self, verdict: object, moment: str, about: str, octets: bytes | None = None) -> None:
        """Whether a verdict can be followed; `about` says what it was given for."""
        method = f"IScreen.{moment}()"
        if not isinstance(verdict, Verdict):
            raise AssertionError(f"{method} must give a Verdict; {shown(verdict)} came; {about}")
        if verdict.action not in _ACTIONS:
            raise AssertionError(f"Verdict.action is one of {', '.join(_ACTIONS)}; {shown(verdict.action)} came")
        if not isinstance(verdict.status, str) or not isinstance(verdict.text, str):
            raise AssertionError(f"Verdict.status and .text are text; {shown(verdict)} came; {about}")
        wanted = _CLASSES.get(verdict.action, "245")
        if verdict.status and not (_STATUS.fullmatch(verdict.status) and verdict.status[0] in wanted):
            raise AssertionError(
                f"Verdict.status of {verdict.action!r} is an enhanced status code (RFC 3463) that begins with"
                f" {' or '.join(wanted)}; {verdict.status!r} came; {about}"
            )
        self._check_edits(verdict.edits, method, about, octets)

    def _check_edits(self, edits: object, method: str, about: str, octets: bytes | None) -> None:
        if not isinstance(edits, list | tuple) or len(edits) > EDITS_LIMIT:
            raise AssertionError(
                f"{method}: edits are a sequence of at most {EDITS_LIMIT}; {shown(edits)} came; {about}"
            )
        try:
            check_envelope(edits)
            held, _ = samples.editing(MESSAGES["a plain message"] if octets is None else octets)
            held.take(edits)
        except EditRefused as error:
            raise AssertionError(f"{method}: edits that can be carried out were expected; {error}; {about}") from None
