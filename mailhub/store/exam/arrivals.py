"""The exam of what a queue gives out right after it came in."""

from __future__ import annotations

import attrs

from mailhub.interfaces import Plan, ReversePath, Settlement, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Recipient
from mailhub.store.exam.rig import USER, make_body, message, question
from mailhub.store.exam.submissions import LATER, NOW, TRACE, SubmissionExam, smtp, to


class ArrivalExam(SubmissionExam):
    """`IQueue.claim` of mail that has just been committed: the same as when it has waited."""

    @question
    async def test_what_comes_while_nothing_waits_is_claimed_as_it_is_read(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        assert list(await queue.claim(NOW, 100, 10, latest=LATER)) == []
        own = ReversePath(Address("owner", "list.example"), of_sender=True)
        known_as = Recipient(Address("Q", "alias.example"), frozenset({"FAILURE"}))
        far = smtp("r", "two")
        routes = (smtp("q", "one"), far, attrs.evolve(far, via=("a@x", "b@x"), reverse_path=own, originals=(known_as,)))
        mails = [
            Mail(Address("s", "y.example"), "8BITMIME", size=500),
            Mail(None, smtputf8=True, envid="e", ret="HDRS", priority=0),
            Mail(Address("odd name", "y.example"), verp="-="),
        ]
        for mail in mails:
            body = await make_body(queue.new_body, TRACE + message(1))
            await queue.submit(Submission(mail, Plan((to(USER),), routes), body, len(TRACE), 3, submitter="me"))
        claims = list(await queue.claim(NOW, 100, 2, latest=LATER))
        assert [claim.destination for claim in claims] == ["smtp one"] * 2 + ["smtp two"] * 2
        claims += await queue.claim(NOW, 100, 2, latest=LATER)
        assert len(claims) == 6
        assert list(await queue.claim(NOW, 100, 2, latest=LATER)) == []
        stored = {each.id: each for each in await queue.messages()}
        for claim in claims:
            kept = stored[claim.message.id]
            meant = [row for row in kept.recipients if row.route.destination == claim.destination]
            assert attrs.asdict(claim.message) == attrs.asdict(attrs.evolve(kept, recipients=tuple(meant)))
            opened = await queue.open(claim.message.id)
            assert await opened.read() == message(1)
            assert opened.size == claim.message.size

    @question
    async def test_of_what_is_more_than_was_asked_for_a_part_is_claimed_and_nobody_else_waits_for_the_rest(
        self,
    ) -> None:
        queue, _ = await self._open()
        assert list(await queue.claim(NOW, 100, 10, latest=LATER)) == []
        many = await self._submit(queue, Plan(routes=tuple(smtp(f"q{number}", "one") for number in range(7))))
        other = await self._submit(queue, Plan(routes=(smtp("r", "two"),)))
        given = []
        for _ in range(4):
            claims = await queue.claim(NOW, 3, 10, latest=LATER)
            given.append([(each.message.id, len(each.message.recipients)) for each in claims])
            for each in claims:
                opened = await queue.open(each.message.id)
                assert await opened.read() == message(1)
                opened.close()
        assert given == [[(many.id, 3)], [(other.id, 1), (many.id, 2)], [(many.id, 2)], []]

    @question
    async def test_what_waits_is_claimed_before_and_after_what_comes(self) -> None:
        queue, _ = await self._open()
        first = await self._submit(queue, Plan(routes=(smtp("q"),)))
        claim = await self._claim(queue)
        assert list(await queue.claim(NOW, 100, 10, latest=LATER)) == []
        (row,) = claim.message.recipients
        await self._submit(queue, Plan(routes=(smtp("r"),)), not_before=NOW + 5)
        assert await queue.settle(claim, [Settlement(row.id, Outcome.delayed("not now"), NOW + 3)])
        second = await self._submit(queue, Plan(routes=(smtp("s"),)))
        assert await queue.next_due(NOW) == NOW + 3

        async def claimed(now: int) -> list[str]:
            claims = await queue.claim(now, 100, 10, latest=LATER)
            await queue.release(claims[:1])
            return [each.message.id for each in claims]

        assert await claimed(NOW) == [second.id]
        assert await claimed(NOW) == [second.id], "it was given back"
        assert sorted(await claimed(NOW + 3)) == sorted([first.id, second.id])
        assert await queue.next_due(NOW + 3) == NOW + 5
