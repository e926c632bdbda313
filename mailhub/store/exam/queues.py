"""The exam of the queue."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import attrs
from twisted.internet.defer import Deferred, gatherResults

from mailhub.errors import MessageGone
from mailhub.interfaces import (
    ALIAS,
    AT_ONCE,
    STORE,
    Notice,
    Plan,
    QueuedRecipient,
    Route,
    RowChange,
    Settlement,
    Submission,
    Which,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Recipient, Source, State
from mailhub.store.exam.arrivals import ArrivalExam
from mailhub.store.exam.rig import OTHER, USER, make_body, message, question, read_message, uids
from mailhub.store.exam.submissions import FROM, LATER, NOW, TRACE, smtp, to


class QueueExam(ArrivalExam):
    """`IDatabase.queue`, with the mailboxes that share its transactions: what is committed, given out and settled."""

    @question
    async def test_outcomes_are_recorded_for_each_recipient(self) -> None:
        queue, _ = await self._open()
        receipt = await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"), smtp("s"))))
        claim = await self._claim(queue)
        first, second, third = (row.id for row in claim.message.recipients)
        assert [row.route.via for row in claim.message.recipients] == [smtp(name).via for name in "qrs"]
        delayed = Outcome.delayed("busy \udc80", status="4.2.1", remote="mx.example", source=Source.REMOTE)
        settled = [
            Settlement(first, Outcome.delivered()),
            Settlement(second, delayed, LATER),
            Settlement(third, Outcome.failed("no")),
            Settlement(third + 1000, Outcome.delivered()),
        ]
        assert await queue.settle(claim, settled)
        (queued,) = await queue.messages()
        (row,) = queued.recipients
        assert (row.id, row.attempts, row.due) == (second, 1, LATER)
        assert row.last is not None
        assert (row.last.state, row.last.status, row.last.remote) == (State.DELAYED, "4.2.1", "mx.example")
        assert row.last.source is Source.REMOTE
        assert row.last.reply.startswith("busy ")
        assert (list(await self._due(queue, LATER - 1)), await queue.next_due()) == ([], LATER)
        claim = await self._claim(queue, LATER)
        await queue.settle(claim, [Settlement(second, Outcome.delayed("again"), LATER + 1)])
        ((row,),) = [queued.recipients for queued in await self._due(queue, LATER + 1)]
        assert row.attempts == 2
        claim = await self._claim(queue, LATER + 1)
        await queue.settle(claim, [Settlement(second, Outcome.delivered())])
        assert list(await queue.messages()) == []
        await self.refuses(MessageGone, queue.open(receipt.id))

    @question
    async def test_outcomes_that_come_together_are_recorded_each_for_itself(self) -> None:
        """The rows of some messages end, those of others wait, or are left."""
        queue, _ = await self._open()
        for number in range(4):
            await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))), TRACE + message(number))
        claims = await queue.claim(NOW, 100, 100)
        ended, waiting, halved, untried = claims
        assert len({claim.message.id for claim in claims}) == 4
        settled = [
            (ended, [Settlement(row.id, Outcome.delivered()) for row in ended.message.recipients]),
            (waiting, [Settlement(row.id, Outcome.delayed("busy"), LATER) for row in waiting.message.recipients]),
            (halved, [Settlement(halved.message.recipients[0].id, Outcome.failed("no"))]),
        ]
        calls = [Deferred.fromCoroutine(queue.settle(claim, each)) for claim, each in settled]
        assert await gatherResults(calls) == [True] * 3
        left = [
            (queued.id, [(row.route.recipient.local, row.attempts) for row in queued.recipients])
            for queued in await queue.messages()
        ]
        assert left == [
            (waiting.message.id, [("q", 1), ("r", 1)]),
            (halved.message.id, [("r", 0)]),
            (untried.message.id, [("q", 0), ("r", 0)]),
        ]
        await self.refuses(MessageGone, queue.open(ended.message.id))
        for number, claim in enumerate(claims[1:], 1):
            assert await (await queue.open(claim.message.id)).read() == message(number)

    @question
    async def test_what_is_removed_after_it_was_claimed_cannot_be_opened(self) -> None:
        queue, _ = await self._open()
        ids = [(await self._submit(queue, Plan(routes=(smtp("q"),)))).id for _ in range(2)]
        claims = await queue.claim(NOW, 100, 100)
        assert await queue.remove(ids[:1]) == 1
        assert await queue.change({RowChange(removed=True): [claims[1].message]}) == 1
        for name in ids:
            await self.refuses(MessageGone, queue.open(name))

    @question
    async def test_reports_are_committed_with_the_outcomes(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        await self._submit(queue, Plan(routes=(smtp("q"),)))
        claim = await self._claim(queue)
        reports = []
        for plan in (Plan((to(USER),)), Plan((to(OTHER),)), Plan(routes=(smtp("sender"),))):
            body = await make_body(queue.new_body, TRACE + message(7))
            reports.append(Submission(Mail(None), plan, body, len(TRACE)))
        await queue.settle(claim, [Settlement(claim.message.recipients[0].id, Outcome.failed("no"))], reports)
        inbox = await self._inbox_of(queue, USER)
        assert await read_message(inbox, (await uids(inbox))[0]) == TRACE + message(7)
        (queued,) = await queue.messages()  # the report for OTHER, who is not there, is dropped
        assert (queued.mail, queued.recipients[0].route) == (Mail(None), smtp("sender"))

    @question
    async def test_nobody_is_told_twice(self) -> None:
        """A caller that has lost the answer settles again, with reports made anew."""
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        await self._submit(queue, Plan(routes=(smtp("q"),)))
        claim = await self._claim(queue)
        failed = [Settlement(claim.message.recipients[0].id, Outcome.failed("no"))]
        told = []
        for _ in range(2):
            body = await make_body(queue.new_body, TRACE + message(7))
            report = Submission(Mail(None), Plan((to(USER),)), body, len(TRACE))
            told.append(await queue.settle(claim, failed, [report]))
            body.discard()
        assert told == [True, False]
        assert len(await uids(await self._inbox_of(queue, USER))) == 1

    @question
    async def test_due_gives_the_oldest_first_and_only_what_is_due(self) -> None:
        queue, _ = await self._open()
        ids = [(await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))).id for _ in range(4)]
        claims = {claim.message.id: claim for claim in await queue.claim(NOW, 10, 10)}
        for number, (message_id, wait) in enumerate(zip(ids, (50, 10, 30, 20), strict=True)):
            first, second = claims[message_id].message.recipients
            far = Settlement(second.id, Outcome.delayed("later"), LATER + number)
            await queue.settle(claims[message_id], [Settlement(first.id, Outcome.delayed("busy"), NOW + wait), far])
        order = [ids[1], ids[3], ids[2], ids[0]]
        assert [queued.id for queued in await self._due(queue, NOW + 60)] == order
        assert [queued.id for queued in await self._due(queue, NOW + 60, 2)] == order[:2]
        oldest = await queue.claim(NOW + 60, 1, 1)
        assert [queued.id for queued in await self._due(queue, NOW + 60, 2)] == order[1:3]
        await queue.release(oldest)
        assert [queued.id for queued in await self._due(queue, NOW + 20)] == order[:2]
        assert {len(queued.recipients) for queued in await self._due(queue, NOW + 60)} == {1}
        assert await queue.next_due() == NOW + 10
        assert len(await queue.messages(3)) == 3
        # After `latest` nothing can be due but where the clock was set back.
        assert [queued.id for queued in await self._due(queue, NOW + 20, latest=NOW + 25)] == order
        assert [queued.id for queued in await self._due(queue, NOW + 20, 3, latest=NOW + 25)] == order[:3]
        last = await self._due(queue, NOW, latest=LATER)
        assert [row.due for queued in last for row in queued.recipients] == [LATER + 1, LATER + 2, LATER + 3]
        assert [await queue.next_due(moment) for moment in (NOW + 10, LATER + 2, LATER + 3)] == [
            NOW + 20,
            LATER + 3,
            None,
        ]

    @question
    async def test_what_waits_for_its_time_can_be_taken_back_whole(self) -> None:
        queue, _ = await self._open()
        plan = Plan(routes=(smtp("q"), smtp("r")))
        first, second = [(await self._submit(queue, plan, not_before=LATER)).id for _ in range(2)]
        started = (await self._submit(queue, plan)).id
        assert await queue.cancel(first)
        assert not await queue.cancel(first)
        assert not await queue.cancel(started)
        assert not await queue.cancel("nonsense")
        await queue.retry([second])  # the operator sends it now
        assert not await queue.cancel(second)
        assert sorted(message.id for message in await queue.messages()) == sorted([second, started])
        assert {len(message.recipients) for message in await queue.messages()} == {2}

    @question
    async def test_a_row_that_waits_may_go_another_way(self) -> None:
        queue, _ = await self._open()
        await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))
        claim = await self._claim(queue)
        first, second = claim.message.recipients
        other = attrs.evolve(first.route, agent="backup", target="backup.example:25")
        await queue.settle(
            claim,
            [
                Settlement(first.id, Outcome.delayed("busy"), NOW + 5, other),
                Settlement(second.id, Outcome.delayed("busy"), NOW + 5),
            ],
        )
        found = {claim.destination: claim.message.recipients for claim in await queue.claim(NOW + 5, 10, 10)}
        assert sorted(found) == sorted([other.destination, second.route.destination])
        (moved,) = found[other.destination]
        assert (moved.route, moved.attempts, moved.id) == (other, 1, first.id)
        assert found[second.route.destination][0].route == second.route

    @question
    async def test_claimed_rows_are_nobody_elses(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))
        claim = await self._claim(queue)
        assert list(await queue.claim(LATER, 10, 10)) == []
        assert len(await queue.messages()) == 1
        first, second = claim.message.recipients
        assert await queue.settle(claim, [Settlement(first.id, Outcome.delayed("busy"), LATER)])
        assert list(await queue.claim(LATER - 1, 10, 10)) == []
        await queue.release([claim])
        again = await self._claim(queue, LATER)
        assert [row.id for row in again.message.recipients] == [second.id, first.id]
        assert again.fence > claim.fence
        # Who was taken for dead, and comes back, has nothing to say any more.
        body = await make_body(queue.new_body, TRACE + message(7))
        report = Submission(Mail(None), Plan((to(USER),)), body, len(TRACE))
        assert not await queue.settle(claim, [Settlement(second.id, Outcome.failed("no"))], [report])
        body.discard()
        await queue.release([claim])
        assert list(await queue.claim(LATER, 10, 10)) == []
        (queued,) = await queue.messages()
        assert [(row.attempts, row.last is None) for row in queued.recipients] == [(1, False), (0, True)]
        assert await uids(await self._inbox_of(queue, USER)) == []
        assert await queue.settle(again, [Settlement(row.id, Outcome.delivered()) for row in (first, second)])
        assert list(await queue.messages()) == []

    @question
    async def test_each_destination_gives_up_to_its_quota(self) -> None:
        queue, _ = await self._open()
        for number in range(5):
            await self._submit(queue, Plan(routes=(smtp("q", "one"), smtp("r", "one"), smtp("s", "two"))))
            if number < 2:
                await self._submit(queue, Plan(routes=(smtp("q", "three"),)))

        async def claimed(limit: int, quota: int, **quotas: int) -> list[tuple[str, int]]:
            claims = await queue.claim(NOW, limit, quota, {f"smtp {name}": count for name, count in quotas.items()})
            await queue.release(claims)
            return [(claim.destination.removeprefix("smtp "), len(claim.message.recipients)) for claim in claims]

        assert await claimed(100, 2) == [("one", 2)] * 2 + [("three", 1)] * 2 + [("two", 1)] * 2
        assert await claimed(100, 1, one=3, two=0) == [("one", 2)] * 3 + [("three", 1)]
        assert await claimed(3, 5) == [("one", 2), ("one", 1)]
        assert await claimed(4, 2) == [("three", 1)] * 2 + [("two", 1)] * 2
        assert await claimed(4, 2) == [("one", 2)] * 2
        assert await claimed(100, 0) == []
        assert await claimed(100, 0, two=2, four=1) == [("two", 1)] * 2
        assert await claimed(1, 0, two=2) == [("two", 1)]
        assert await claimed(2, 2) == [("three", 1)] * 2, "whose turn it is stayed as it was"

    @question
    async def test_the_operator_has_a_say_about_what_is_claimed(self) -> None:
        queue, _ = await self._open()
        ids = [(await self._submit(queue, Plan(routes=(smtp("q"),)))).id for _ in range(2)]
        removed, tried = await queue.claim(NOW, 10, 10)
        assert await queue.remove([ids[0]]) == 1
        assert await queue.settle(removed, [Settlement(removed.message.recipients[0].id, Outcome.delivered())])
        assert await queue.retry([ids[1]]) == 1
        assert list(await queue.claim(NOW, 10, 10)) == []
        await queue.release([tried])
        assert (await self._claim(queue)).message.recipients[0].due == AT_ONCE

    @question
    async def test_how_an_answer_came_is_kept(self) -> None:
        queue, _ = await self._open()
        await self._submit(queue, Plan(routes=(smtp("q"),)))
        claim = await self._claim(queue)
        said = Outcome(State.DELAYED, "4.2.1", "450 later", "mx", Source.REMOTE, "lmtp", "TLSv1.3/X")
        await queue.settle(claim, [Settlement(claim.message.recipients[0].id, said, LATER)])
        (queued,) = await queue.messages()
        last = queued.recipients[0].last
        assert last is not None
        assert attrs.astuple(last) == attrs.astuple(said)

    @question
    async def test_who_watches_hears_of_rows_whoever_puts_them_in(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        heard: list[str] = []
        stop = queue.watch(lambda: heard.append("one"))

        async def told(call: Awaitable[object]) -> int:
            """How often it was told of what this call committed."""
            before = len(heard)
            await call
            return len(heard) - before

        assert await told(self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))) == 1
        assert await told(self._submit(queue, Plan((to(USER),), (smtp("q"),)), not_before=LATER)) == 1
        assert await told(self._submit(queue, Plan((to(USER), to(OTHER))))) == 1  # a DSN is due
        assert await told(self._submit(queue, Plan((to(USER),)))) == 0
        assert await told(self._submit(queue, Plan((to(USER), to(OTHER))), refusals="reply")) == 0
        for claim in await queue.claim(NOW, 1, 1):
            outcomes = [Settlement(row.id, Outcome.delivered()) for row in claim.message.recipients]
            assert await told(queue.settle(claim, outcomes)) == 0
        for plan, count in ((Plan((to(USER),)), 0), (Plan(routes=(smtp("sender"),)), 1)):
            (claim,) = await queue.claim(NOW, 1, 1)
            body = await make_body(queue.new_body, TRACE + message(7))
            failed = [Settlement(row.id, Outcome.failed("no")) for row in claim.message.recipients]
            assert await told(queue.settle(claim, failed, [Submission(Mail(None), plan, body, len(TRACE))])) == count
        assert await told(queue.retry([])) == 1
        stop()
        stop()
        assert await told(queue.retry([])) == 0

    @question
    async def test_a_listener_that_fails_is_nobody_elses_trouble(self) -> None:
        queue, _ = await self._open()
        heard: list[int] = []

        def failing() -> None:
            raise ValueError("no")

        stops = [queue.watch(failing), queue.watch(lambda: heard.append(1))]
        await self._submit(queue, Plan(routes=(smtp("q"),)))
        for stop in stops:
            stop()
        assert len(await queue.messages()) == 1
        assert heard == [1]

    @question
    async def test_what_the_commit_settles_is_told_by_a_row_of_its_own(self) -> None:
        """`Plan.notices`, and only those whose deposits were made."""
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        made, refused = (to(user) for user in (USER, OTHER))
        notices = tuple(
            Notice(Route(STORE, deposit.recipient, deposit.user), Outcome.delivered(), (number,))
            for number, deposit in enumerate((made, refused))
        )
        alias = Notice(Route(ALIAS, FROM, ""), Outcome(State.EXPANDED, "2.0.0"))
        plan = Plan((made, refused), (), (*notices, alias))
        await self._submit(queue, plan, submitter="somebody")
        (claim,) = await queue.claim(NOW, 10, 10)
        assert (claim.destination, claim.message.submitter, claim.message.begins) == ("", "somebody", NOW)
        told = [(row.route.recipient, row.last and row.last.state) for row in claim.message.recipients]
        assert told == [
            (refused.recipient, State.FAILED),
            (made.recipient, State.DELIVERED),
            (FROM, State.EXPANDED),
        ]
        await self._submit(queue, plan, refusals="reply")
        (answered,) = await queue.claim(NOW, 10, 10)
        assert len(answered.message.recipients) == 2
        # Of what is held until later nothing is told before.
        await self._submit(queue, Plan(routes=(smtp("q"),), notices=(alias,)), not_before=LATER)
        assert list(await queue.claim(LATER - 1, 10, 10)) == []
        assert {claim.message.begins for claim in await queue.claim(LATER, 10, 10)} == {LATER}

    @question
    async def test_a_row_whose_dsn_cannot_be_made_waits_for_it_alone(self) -> None:
        queue, _ = await self._open()
        await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))
        claim = await self._claim(queue)
        first, second = claim.message.recipients
        late = Outcome.delayed("busy")
        await queue.settle(
            claim,
            [
                Settlement(first.id, Outcome.delivered(), LATER, untold=True),
                Settlement(second.id, late, LATER, warned=True),
            ],
        )
        assert list(await queue.claim(LATER - 1, 10, 10)) == []
        claims = {claim.destination: claim for claim in await queue.claim(LATER, 10, 10)}
        assert list(claims) == ["", smtp("r").destination]
        (untold,), (warned,) = (claim.message.recipients for claim in claims.values())
        assert (untold.id, untold.last, untold.tried, untold.warned) == (first.id, Outcome.delivered(), NOW, False)
        assert (warned.id, warned.last, warned.tried, warned.warned) == (second.id, late, NOW, True)
        await queue.settle(claims[""], [Settlement(first.id, Outcome.delivered())])
        await queue.settle(claims[smtp("r").destination], [Settlement(second.id, late, LATER + 1)])
        (queued,) = await queue.messages()
        assert [(row.id, row.warned) for row in queued.recipients] == [(second.id, True)]

    @question
    async def test_the_highest_priority_is_first_at_a_destination_and_among_destinations(self) -> None:
        """RFC 6710."""
        queue, _ = await self._open()
        for priority in (-3, None, 6, 1, 0):
            await self._submit(queue, Plan(routes=(smtp("q", "b"),)), mail=Mail(FROM, priority=priority))
        await self._submit(queue, Plan(routes=(smtp("q", "a"),)))
        await self._submit(queue, Plan(routes=(smtp("q", "c"),)), mail=Mail(FROM, priority=9))

        async def claimed(limit: int, quota: int) -> list[tuple[str, int | None]]:
            claims = await queue.claim(NOW, limit, quota)
            await queue.release(claims)
            return [(claim.destination.removeprefix("smtp "), claim.message.mail.priority) for claim in claims]

        by_turn = [("c", 9), ("b", 6), ("b", 1), ("b", None), ("b", 0), ("b", -3), ("a", None)]
        assert await claimed(10, 10) == by_turn
        assert await claimed(10, 2) == [("c", 9), ("b", 6), ("b", 1), ("a", None)]
        assert await claimed(1, 2) == [("c", 9)]
        assert await claimed(10, 10) == by_turn

    @question
    async def test_the_operator_finds_what_is_meant(self) -> None:
        queue, _ = await self._open()
        elsewhere = Route("smtp", Address("ü", "bücher.example"), originals=(Recipient(Address("list", "yy.example")),))
        quoted = Route("smtp", Address("a b", "zz.example"), originals=(Recipient(Address("a..B", "yy.example")),))
        mails = (Mail(FROM), Mail(None), Mail(Address("b", "xx.example")), Mail(Address("c d", "ww.example")))
        plans = [Plan(routes=routes) for routes in ((smtp("q"), elsewhere), (smtp("r"),), (smtp("s"),), (quoted,))]
        first, second, third, fourth = [
            (await self._submit(queue, plan, mail=mail)).id for mail, plan in zip(mails, plans, strict=True)
        ]
        for claim in await queue.claim(NOW, 10, 10):
            if claim.message.id == second:
                said = Outcome.delayed("450 Greylisted, come again", status="4.7.1")
                await queue.settle(claim, [Settlement(claim.message.recipients[0].id, said, LATER)])
            else:
                await queue.release([claim])

        async def found(which: Which) -> list[tuple[str, int]]:
            messages = await queue.messages(which=which)
            counts = {waiting.destination: waiting.rows for waiting in await queue.waiting(which)}
            assert sum(counts.values()) == sum(len(message.recipients) for message in messages)
            return [(message.id, len(message.recipients)) for message in messages]

        everything = [(first, 2), (second, 1), (third, 1), (fourth, 1)]
        for which, expected in (
            (Which(), everything),
            (Which(ids=(third, first, "unknown")), [everything[0], everything[2]]),
            (Which(domain="ZZ.example"), [(first, 1), *everything[1:]]),
            (Which(domain="bücher.example"), [(first, 1)]),
            (Which(domain="xn--bcher-kva.example"), [(first, 1)]),
            (Which(domain="*.EXAMPLE", reply="4.7.1"), [everything[1]]),
            (Which(domain="*.zz.example"), []),
            (Which(domain="*.e_ample"), []),
            (Which(agent="smtp"), everything),
            (Which(sender='"c d"@ww.example'), [(fourth, 1)]),
            (Which(agent="lmtp"), []),
            (Which(sender="<>"), [everything[1]]),
            (Which(sender="A@xx.example"), [everything[0]]),
            (Which(sender="@xx.example"), [everything[0], everything[2]]),
            (Which(sender="@x_.example"), []),
            (Which(recipient="R@zz.example"), [everything[1]]),
            (Which(recipient="list@yy.example"), [(first, 1)]),
            (Which(recipient='"a b"@zz.example'), [(fourth, 1)]),
            (Which(recipient='"A..b"@yy.example'), [(fourth, 1)]),
            (Which(reply="greylisted"), [everything[1]]),
            (Which(reply="4.7.1", sender="<>"), [everything[1]]),
            (Which(reply="%"), []),
            (Which(age_seconds=1), []),
            (Which(destination=smtp("q").destination), [(first, 1), *everything[1:]]),
            (Which(destination=""), []),
        ):
            assert await found(which) == expected, which
        assert [message.id for message in await queue.messages(1, first)] == [second]
        await queue.remove([second])
        assert [message.id for message in await queue.messages(5, second)] == [third, fourth]

    @question
    async def test_the_operator_holds_reroutes_and_gives_up(self) -> None:
        queue, _ = await self._open()
        await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))
        await self._submit(queue, Plan(routes=(smtp("s"),)), not_before=LATER)
        (one, two), (three,) = [[row.id for row in queued.recipients] for queued in await queue.messages()]

        async def rows() -> dict[int, QueuedRecipient]:
            return {row.id: row for queued in await queue.messages() for row in queued.recipients}

        async def change(numbers: Sequence[int], wanted: RowChange) -> int:
            chosen = [
                attrs.evolve(each, recipients=tuple([row for row in each.recipients if row.id in numbers]))
                for each in await queue.messages()
            ]
            return await queue.change({wanted: chosen})

        assert await change([one, three], RowChange(held=True)) == 2
        assert await change([one], RowChange(held=True)) == 0
        assert [row.held for row in (await rows()).values()] == [True, False, True]
        assert [claim.message.recipients[0].id for claim in await queue.claim(LATER, 10, 10, latest=LATER)] == [two]
        (waiting,) = await queue.waiting()
        assert (waiting.messages, waiting.rows, waiting.held, waiting.scheduled) == (2, 3, 2, 0)
        assert (waiting.oldest, waiting.next_due, waiting.last) == (NOW, NOW, None)
        await queue.retry([])
        assert list(await queue.claim(LATER, 10, 10)) == []
        assert await change([one, three], RowChange(held=False)) == 2
        assert {number: row.due for number, row in (await rows()).items()} == {one: 0, two: 0, three: 0}
        # What is at work is held when it comes back.
        (claim,) = [claim for claim in await queue.claim(NOW, 10, 10) if claim.message.recipients[0].id == one]
        assert await change([one], RowChange(held=True)) == 1
        await queue.settle(claim, [Settlement(one, Outcome.delayed("busy"), LATER)])
        assert (await rows())[one].held
        assert await change([one], RowChange(held=False)) == 1
        assert ((await rows())[one].held, (await rows())[one].due) == (False, LATER)
        assert await change([one], RowChange(way=("lmtp", "unix:/s"), priority=3)) == 1
        row = (await rows())[one]
        assert (row.route.agent, row.route.target, row.due, row.priority) == ("lmtp", "unix:/s", AT_ONCE, 3)
        (claim,) = await queue.claim(NOW, 10, 10)
        assert claim.destination == "lmtp unix:/s"
        await queue.release([claim])
        no = Outcome.failed("cancelled", status="5.3.0")
        assert await change([one], RowChange(failed=no)) == 1
        assert await change([one], RowChange(failed=no, held=True, way=("smtp", ""))) == 0
        (claim,) = await queue.claim(NOW, 10, 10)
        assert (claim.destination, claim.message.recipients[0].last) == ("", no)
        assert await change([one], RowChange(removed=True)) == 1
        assert await queue.settle(claim, [Settlement(one, no)])
        assert await change([three], RowChange(removed=True)) == 1
        assert len(await queue.messages()) == 1

    @question
    async def test_what_is_given_up_during_an_attempt_is_given_up_unless_the_attempt_has_ended_it(self) -> None:
        queue, _ = await self._open()
        woken: list[int] = []
        queue.watch(lambda: woken.append(1))
        await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))
        (claim,) = await queue.claim(NOW, 10, 10)
        no = Outcome.failed("cancelled", status="5.3.0")
        one, two = [row.id for row in claim.message.recipients]
        assert await queue.change({RowChange(failed=no): await queue.messages()}) == 2
        woken.clear()
        elsewhere = Route("lmtp", Address.parse("q@zz.example"), "unix:/s")
        delay = Settlement(one, Outcome.delayed("busy"), LATER, route=elsewhere)
        assert await queue.settle(claim, [delay, Settlement(two, Outcome.delivered())])
        assert woken
        (claim,) = await queue.claim(NOW, 10, 10)
        assert (claim.destination, [row.last for row in claim.message.recipients]) == ("", [no])

    @question
    async def test_what_the_operator_does_is_for_the_rows_of_these_messages_alone(self) -> None:
        queue, _ = await self._open()
        await self._submit(queue, Plan(routes=(smtp("q"),)))
        (gone,) = await queue.messages()
        assert await queue.change({RowChange(removed=True): [gone]}) == 1
        await self._submit(queue, Plan(routes=(smtp("r"),)))
        (message,) = await queue.messages()
        # Numbers are never used twice: what was claimed, or looked at, under one of them is nobody else's.
        assert message.recipients[0].id != gone.recipients[0].id
        mistaken = attrs.evolve(gone, recipients=message.recipients)
        for change in (RowChange(removed=True), RowChange(held=True), RowChange(way=("smtp", "other.example"))):
            assert await queue.change({change: [gone, mistaken]}) == 0
        assert list(await queue.messages()) == [message]

    @question
    async def test_mail_whose_time_has_not_come_keeps_it_on_another_way(self) -> None:
        queue, _ = await self._open()
        name = (await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))), not_before=LATER)).id
        way = RowChange(way=("lmtp", "unix:/s"))
        assert await queue.change({way: await queue.messages()}) == 2
        for held in (True, False):
            assert await queue.change({RowChange(held=held): await queue.messages()}) == 2
            if held:
                assert await queue.change({RowChange(way=("smtp", "other.example")): await queue.messages()}) == 2
        (queued,) = await queue.messages()
        assert [(row.route.target, row.due) for row in queued.recipients] == [("other.example", LATER)] * 2
        assert list(await queue.claim(LATER - 1, 10, 10)) == []
        assert await queue.retry([name]) == 1
        assert await queue.change({way: await queue.messages()}) == 2
        (claim,) = await queue.claim(NOW, 10, 10)  # who has it sent early means it wherever it goes
        assert claim.destination == "lmtp unix:/s"
        first, second = claim.message.recipients
        waits = Settlement(second.id, Outcome.delayed("busy"), NOW + 60)
        await queue.settle(claim, [Settlement(first.id, Outcome.delivered()), waits])
        assert not await queue.cancel(name)  # some of it has been sent
        assert await queue.change({way: await queue.messages()}) == 1
        (claim,) = await queue.claim(NOW, 10, 10)
        await queue.settle(claim, [Settlement(second.id, Outcome.delayed("busy"), NOW + 60)])
        assert not await queue.cancel(name)

    @question
    async def test_what_is_to_be_tried_on_release_cannot_be_taken_back(self) -> None:
        queue, _ = await self._open()
        held, tried = [(await self._submit(queue, Plan(routes=(smtp("q"),)), not_before=LATER)).id for _ in range(2)]
        assert await queue.change({RowChange(held=True): await queue.messages()}) == 2
        assert await queue.retry([tried]) == 1
        assert [await queue.cancel(name) for name in (held, tried)] == [True, False]

    @question
    async def test_the_operator_retries_and_removes(self) -> None:
        queue, _ = await self._open()
        ids = [(await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))).id for _ in range(3)]
        for claim in await queue.claim(NOW, 10, 10):
            delays = [Settlement(row.id, Outcome.delayed("busy"), LATER) for row in claim.message.recipients]
            await queue.settle(claim, delays)
        assert list(await self._due(queue, NOW)) == []
        assert await queue.retry([ids[1], "unknown"]) == 1
        assert [queued.id for queued in await self._due(queue, NOW)] == [ids[1]]
        assert await queue.retry([]) == 3
        assert {row.due for queued in await self._due(queue, NOW) for row in queued.recipients} == {AT_ONCE}
        assert len(await self._due(queue, NOW)) == 3
        assert await queue.remove([ids[0], ids[2], "unknown"]) == 2
        assert await queue.remove([]) == 0
        assert [queued.id for queued in await queue.messages()] == [ids[1]]
        await self.refuses(MessageGone, queue.open(ids[0]))
