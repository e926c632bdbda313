"""A kind of record of a host or domain: what there should be, and a look at what there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import attrs
from twisted.internet.defer import Deferred

from mailhub.cli.records.record import Record
from mailhub.delivery.relay.sts import Fetch
from mailhub.errors import MailError, PermanentError
from mailhub.interfaces import Environment
from mailhub.net.https import Https

State = Literal["right", "missing", "wrong", "unknown"]


@attrs.frozen
class Looked:
    """What came of a look: one sentence, the records that DNS has, and those that it should have, none where it has
    them. `matters`: while it is not right, mail is lost, refused or not believed; else it is an advice. `beside` is
    what belongs to it and is no record, a line each."""

    state: State
    text: str
    found: Sequence[Record] = ()
    publish: Sequence[Record] = ()
    matters: bool = False
    beside: Sequence[str] = ()

    @property
    def is_problem(self) -> bool:
        """Whether something that matters is not right, or nobody can tell."""
        return self.matters and self.state != "right"


@attrs.frozen(eq=False)
class World:
    """What is asked: DNS, and web servers by `https`; `policy` gets those of MTA-STS."""

    environment: Environment
    policy: Fetch
    https: Https | None = None


Look = Callable[[World], Awaitable[Sequence[Looked]]]


@attrs.frozen(eq=False)
class Topic:
    """`what` names it, as in `mailhub dns --json`; `about` is what it is for, in words. `of` is whose it is, such as
    "domain example.org". `records` are what there should be as far as it can be told without asking. `look` may raise
    MailError."""

    what: str
    of: str
    about: str
    records: Sequence[Record]
    look: Look
    beside: Sequence[str] = ()

    async def looked(self, world: World) -> Sequence[Looked]:
        """What DNS says of it, once it has answered."""
        try:
            return await self.look(world)
        except MailError as error:
            text = f"{self.of}: {error.text}" + (f" ({error.detail})" if error.detail else "")
            state: State = "missing" if isinstance(error, PermanentError) else "unknown"
            return [Looked(state, text, publish=self.records, matters=True)]


async def looked_at(topics: Sequence[Topic], world: World) -> list[tuple[Topic, Sequence[Looked]]]:
    """All of them at the same time, told in their order."""
    asking = [Deferred.fromCoroutine(_looked(topic, world)) for topic in topics]
    return [(topic, await each) for topic, each in zip(topics, asking, strict=True)]


async def _looked(topic: Topic, world: World) -> Sequence[Looked]:
    return await topic.looked(world)
