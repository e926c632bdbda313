"""What is asked of delivery agents."""

from __future__ import annotations

import re
import unittest
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mailhub.answers import answer, in_time
from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import Delivery, IBlobReader, QueuedRecipient, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Reach, Source, State
from mailhub.store.exam.rig import question
from mailhub.store.octets import OctetsReader
from mailhub.testing.exam.component import ComponentExam, shown, told
from mailhub.testing.exam.samples import MAILS, MESSAGES, RECIPIENTS, Unreadable

_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_CLASSES = {State.DELIVERED: "2", State.DELAYED: "4", State.FAILED: "5"}


class AgentExam(ComponentExam):
    """An `IDeliveryAgent`. What becomes of mail is its own; that it is told for every recipient is examined.

    `target` is the target of the routes that it is given, `recipient` the one that it can deliver to.
    """

    kind = "agent"
    target: ClassVar[str] = ""
    recipient: ClassVar[str] = "ann@xx.example"
    answer_seconds = 300.0  # for one delivery

    def make_agent(self) -> Any:
        """The agent; by default the one that `factory` makes of `options`."""
        return self.build()

    @question
    async def test_every_recipient_has_an_outcome(self) -> None:
        """IDeliveryAgent.deliver(): an Outcome for every QueuedRecipient.id."""
        agent = self.make_agent()
        for count in (1, 3, 100):
            await self._deliver(agent, self._delivery(f"m{count}", recipients=[Address.parse(self.recipient)] * count))

    @question
    async def test_any_message_has_an_outcome(self) -> None:
        """IDeliveryAgent.deliver(): an Outcome for any message, however it is made."""
        agent = self.make_agent()
        for number, (what, octets) in enumerate(MESSAGES.items()):
            await self._deliver(agent, self._delivery(f"n{number}", OctetsReader(octets)), what)

    @question
    async def test_any_envelope_has_an_outcome(self) -> None:
        """IDeliveryAgent.deliver(): an Outcome for any sender, also the null reverse-path, and any recipient."""
        agent = self.make_agent()
        for number, (what, mail) in enumerate(MAILS.items()):
            recipients = [recipient.address for recipient in RECIPIENTS.values()]
            await self._deliver(agent, self._delivery(f"e{number}", mail=mail, recipients=recipients), what)

    @question
    async def test_a_delivery_may_come_again(self) -> None:
        """Delivery.id: the same on every attempt; what was delivered when a crash came is delivered again."""
        agent = self.make_agent()
        for attempt in range(3):
            await self._deliver(agent, self._delivery("again", attempts=attempt), f"attempt {attempt}")
        await self._deliver(self.make_agent(), self._delivery("again", attempts=3), "attempt 3, after a restart")

    @question
    async def test_deliveries_may_come_at_once(self) -> None:
        """IDeliveryAgent.deliver(): one call may begin while another is under way."""
        agent = self.make_agent()
        await self.at_once(self._deliver(agent, self._delivery(f"o{number}")) for number in range(5))

    @question
    async def test_what_could_not_be_read_is_not_delivered(self) -> None:
        """IBlobReader.read() raises MailError: the agent raises too, or says DELAYED or FAILED."""
        body = Unreadable()
        outcomes = await self._deliver(self.make_agent(), self._delivery("u", body), "a body that cannot be read")
        delivered = [number for number, outcome in outcomes.items() if outcome.state is State.DELIVERED]
        if body.asked and delivered:
            raise AssertionError(
                f"IDeliveryAgent.deliver() said DELIVERED for {delivered}, and the message could not be read"
            )

    @question
    async def test_it_can_be_stopped(self) -> None:
        """IDeliveryAgent.stop(): closes kept connections, whether there are any or not; may be called again."""
        agent = self.make_agent()
        await self._stop(agent)
        agent = self.make_agent()
        await self._deliver(agent, self._delivery("s"))
        await self._stop(agent)
        await self._stop(agent)

    # --- How it is done ----------------------------------------------------------------------------------------------

    def _delivery(
        self,
        name: str,
        body: IBlobReader | None = None,
        *,
        mail: Mail = MAILS["a sender"],
        recipients: Sequence[Address] = (),
        attempts: int = 0,
    ) -> Delivery:
        name = f"exam-{name}"
        rows = tuple(
            QueuedRecipient(1000 + number, Route(self._agent_name, address, self.target), attempts, 0)
            for number, address in enumerate(recipients or [Address.parse(self.recipient)])
        )
        return Delivery(name, mail, self.target, rows, body or OctetsReader(MESSAGES["a plain message"]))

    @property
    def _agent_name(self) -> str:
        return self.factory.name if self.factory is not None else "examined"

    async def _deliver(self, agent: Any, delivery: Delivery, about: str = "a plain message") -> Mapping[int, Outcome]:
        """The outcomes; none where it raised, which counts as DELAYED: a MailError, or what network and disk raise."""
        await self._look_for_need(agent)

        async def delivered() -> Any:
            try:
                return await answer(agent.deliver(delivery))
            except OSError as error:
                raise TemporaryError from error

        try:
            outcomes = await self.ask("IDeliveryAgent.deliver()", delivered, about=about)
        except MailError:
            return {}
        method = "IDeliveryAgent.deliver() must give an Outcome for every QueuedRecipient.id"
        if not isinstance(outcomes, Mapping):
            raise AssertionError(f"{method}; {shown(outcomes)} came; {about}")
        wanted = {recipient.id for recipient in delivery.recipients}
        if left_out := sorted(wanted - outcomes.keys()):
            raise AssertionError(f"{method}; {shown(outcomes)} came, without {shown(left_out)}; {about}")
        for outcome in outcomes.values():
            if fault := _fault(outcome):
                raise AssertionError(f"IDeliveryAgent.deliver(): {fault}; {shown(outcome)} came; {about}")
        return outcomes

    async def _look_for_need(self, agent: Any) -> None:
        """Where nothing can be delivered for want of a target, questions are of no use. Raises SkipTest."""
        if self._looked:
            return
        self._looked = True
        plain = self._delivery("target")
        watched = _Watched(plain.id, plain.mail, plain.target, plain.recipients, plain.body)
        try:
            await in_time(self.internet.clock, self.answer_seconds, agent.deliver, watched)
        except Exception as error:
            raised = f"deliver() raised {told(error)}"
            if not self.target and "asked" in vars(watched):
                raise unittest.SkipTest(f"it needs a target, named by --target; without one {raised}") from None
            if self.target and isinstance(error, (MailError, OSError)):
                raise unittest.SkipTest(f"it does not deliver to the target {self.target}: {raised}") from None

    _looked = False

    async def _stop(self, agent: Any) -> None:
        try:
            await self.ask("IDeliveryAgent.stop()", agent.stop)
        except MailError as error:
            raise AssertionError(f"IDeliveryAgent.stop() closes what there is; it raised {error!r}") from error


class _Watched(Delivery):
    """Knows whether its target was asked for."""

    def __getattribute__(self, name: str) -> Any:
        if name == "target":
            vars(self)["asked"] = True
        return super().__getattribute__(name)


def _fault(outcome: object) -> str:
    """What is wrong with an outcome; "" for nothing."""
    if not isinstance(outcome, Outcome) or not isinstance(outcome.state, State):
        return "each value is an Outcome, its state a State"
    if not isinstance(outcome.source, Source) or not isinstance(outcome.reach, Reach):
        return "Outcome.source is a Source, Outcome.reach a Reach"
    texts = (outcome.status, outcome.reply, outcome.remote, outcome.protocol, outcome.tls)
    if not all(isinstance(text, str) for text in texts):
        return "the words of an Outcome are text"
    if not _STATUS.fullmatch(outcome.status) or outcome.status[0] != _CLASSES[outcome.state]:
        return (
            f"Outcome.status of {outcome.state.name} is an enhanced status code (RFC 3463) that begins with"
            f" {_CLASSES[outcome.state]}"
        )
    return ""
