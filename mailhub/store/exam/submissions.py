"""The exam of a database, and of what its queue takes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from mailhub.interfaces import (
    STORE,
    Claim,
    Deposit,
    IAccounts,
    IDatabase,
    IMailAccount,
    IMailbox,
    IQueue,
    Plan,
    QueuedMessage,
    Receipt,
    Refusals,
    ReversePath,
    Route,
    Settlement,
    Submission,
)
from mailhub.message.address import Address
from mailhub.message.digest import digest
from mailhub.message.envelope import (
    DeliverBy,
    FutureRelease,
    Mail,
    OriginalRecipient,
    Outcome,
    Reach,
    Recipient,
    State,
    ValidSince,
)
from mailhub.message.record import Change
from mailhub.store.exam.rig import OTHER, SEEN_ONLY, USER, Exam, make_body, message, question, read_message, uids

NOW = 1_700_000_000  # seconds since the epoch
LATER = NOW + 300
TRACE = b"Return-Path: <a@xx.example>\r\n"
FROM = Address("a", "xx.example")


def smtp(local: str, target: str = "") -> Route:
    """A route to another host."""
    return Route("smtp", Address(local, "zz.example"), target, ("list@xx.example", f"{local}@xx.example"))


def to(user: str, mailbox: str = "INBOX", **more: Any) -> Deposit:
    """A deposit for an account."""
    return Deposit(Address.parse(user), user, mailbox, **more)


class DatabaseExam(Exam):
    """What the exams of an `IDatabase` begin with."""

    database: IDatabase

    async def open_database(self) -> IDatabase:
        """A new, empty database that is started."""
        raise AssertionError("an exam needs open_database()")

    async def _open(self) -> tuple[IQueue, IAccounts]:
        self.database = await self.open_database()
        return self.database.queue, self.database.accounts


class SubmissionExam(DatabaseExam):
    """What is committed, and what of it waits. The clock stands at NOW."""

    @question
    async def test_it_deposits_into_its_own_store_and_no_other(self) -> None:
        queue, _ = await self._open()
        assert queue.deposits_into(self.database.store)
        assert not queue.deposits_into(None)
        assert not queue.deposits_into(object())

    async def _submit(
        self,
        queue: IQueue,
        plan: Plan,
        octets: bytes = TRACE + message(1),
        mail: Mail | None = None,
        refusals: Refusals = "bounce",
        **more: Any,
    ) -> Receipt:
        body = await make_body(queue.new_body, octets)
        return await queue.submit(Submission(mail or Mail(FROM), plan, body, len(TRACE), **more), refusals)

    async def _due(
        self, queue: IQueue, now: int, limit: int = 1000, latest: int | None = None
    ) -> Sequence[QueuedMessage]:
        """The messages that are due, with the rows that are; free again."""
        claims = await queue.claim(now, limit, limit, latest=latest)
        await queue.release(claims)
        messages: dict[str, QueuedMessage] = {}
        for claim in claims:
            before = messages.get(claim.message.id)
            rows = (*before.recipients, *claim.message.recipients) if before else claim.message.recipients
            rows = tuple(sorted(rows, key=lambda row: row.id))
            messages[claim.message.id] = attrs.evolve(claim.message, recipients=rows)
        return list(messages.values())

    async def _claim(self, queue: IQueue, now: int = NOW) -> Claim:
        """The only one there is to be had."""
        (claim,) = await queue.claim(now, 1000, 1000)
        return claim

    async def _inbox_of(self, queue: IQueue, user: str) -> IMailbox:
        account: IMailAccount = await self.database.store.account(user)
        return await account.mailbox("INBOX")

    @question
    async def test_a_submission_that_comes_again_adds_nothing(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        plan = Plan((to(USER), to(OTHER)), (smtp("q"),))
        name = queue.new_delivery_id()
        assert name != queue.new_delivery_id()
        first = await self._submit(queue, plan, delivery_id=name)
        assert (first.id, sorted(first.refused)) == (name, [1])
        waiting = list(await queue.messages())
        await accounts.add(OTHER, "")  # whatever has changed since then
        assert await self._submit(queue, plan, delivery_id=name) == first
        assert (list(await queue.messages()), len(await uids(await self._inbox_of(queue, USER)))) == (waiting, 1)
        assert await uids(await self._inbox_of(queue, OTHER)) == []
        assert (await self._submit(queue, plan)).id != name
        assert len(await uids(await self._inbox_of(queue, USER))) == 2

    @question
    async def test_a_submission_comes_again_after_all_of_it_is_gone(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        inbox = await self._inbox_of(queue, USER)
        for plan in (Plan((to(USER),)), Plan(routes=(smtp("q"),))):
            name = queue.new_delivery_id()
            first = await self._submit(queue, plan, delivery_id=name)
            await inbox.expunge(deleted_only=False)
            for claim in await queue.claim(NOW, 10, 10):
                rows = claim.message.recipients
                await queue.settle(claim, [Settlement(row.id, Outcome(State.DELIVERED, "2.0.0")) for row in rows])
            assert await self._submit(queue, plan, delivery_id=name) == first
            assert (list(await queue.messages()), await uids(inbox)) == ([], [])

    @question
    async def test_a_submission_of_which_nothing_was_kept_is_decided_anew(self) -> None:
        queue, accounts = await self._open()
        name = queue.new_delivery_id()
        assert sorted((await self._submit(queue, Plan((to(USER),)), delivery_id=name)).refused) == [0]
        await accounts.add(USER, "")
        assert (await self._submit(queue, Plan((to(USER),)), delivery_id=name)).refused == {}
        assert len(await uids(await self._inbox_of(queue, USER))) == 1

    @question
    async def test_only_delivery_ids_are_delivery_ids(self) -> None:
        queue, _ = await self._open()
        try:
            await self._submit(queue, Plan(routes=(smtp("q"),)), delivery_id="mine")
        except ValueError:
            assert list(await queue.messages()) == []
            return
        raise AssertionError("ValueError was not raised")

    @question
    async def test_a_turn_without_an_attempt_counts_as_a_turn_alone(self) -> None:
        queue, _ = await self._open()
        await self._submit(queue, Plan(routes=(smtp("q"),)))
        away = Outcome.delayed("away", reach=Reach.UNREACHED)
        alone = attrs.evolve(away, reach=Reach.LEFT_ALONE)
        seen = []
        for number, outcome in enumerate((alone, away, alone)):
            claim = await self._claim(queue, NOW + number)
            (row,) = claim.message.recipients
            await queue.settle(claim, [Settlement(row.id, outcome, NOW + number + 1)])
            (queued,) = await queue.messages()
            (row,) = queued.recipients
            seen.append((row.turns, row.attempts, row.tried, row.due, row.last is not None))
        now = seen[1][2]
        assert now > 0
        assert seen == [(1, 0, 0, NOW + 1, True), (2, 1, now, NOW + 2, True), (3, 1, now, NOW + 3, True)]
        claim = await self._claim(queue, NOW + 3)
        assert await queue.settle(
            claim, [Settlement(row.id, attrs.evolve(alone, state=State.FAILED), NOW + 9, untold=True)]
        )
        (queued,) = await queue.messages()
        assert (queued.recipients[0].tried, queued.recipients[0].attempts) == (now, 1)

    @question
    async def test_a_route_waits_until_it_is_settled(self) -> None:
        queue, _ = await self._open()
        assert (await queue.next_due(), list(await self._due(queue, LATER))) == (None, [])
        receipt = await self._submit(queue, Plan(routes=(smtp("q", "relay.example:587"), smtp("r"))))
        assert receipt.refused == {}
        assert await queue.next_due() == NOW
        assert list(await self._due(queue, NOW - 1)) == []
        (queued,) = await self._due(queue, NOW)
        assert (queued.id, queued.queued_at, queued.size) == (receipt.id, NOW, len(message(1)))
        assert [row.route for row in queued.recipients] == [smtp("q", "relay.example:587"), smtp("r")]
        assert [(row.attempts, row.due, row.last) for row in queued.recipients] == [(0, NOW, None)] * 2
        assert list(await queue.messages()) == [queued]
        reader = await queue.open(receipt.id)
        assert (reader.size, await reader.read()) == (len(message(1)), message(1))
        assert await reader.read(3, 4) == message(1)[3:7]
        reader.close()

    @question
    async def test_the_envelope_is_kept(self) -> None:
        queue, _ = await self._open()
        mails = (
            Mail(None),
            Mail(Address("two words", "xx.example"), "8BITMIME", smtputf8=True),
            Mail(Address("jürgen", "bücher.example"), smtputf8=True),
        )
        for mail in mails:
            receipt = await self._submit(queue, Plan(routes=(smtp("o'q\u00fc"),)), mail=mail)
            (queued,) = [queued for queued in await queue.messages() if queued.id == receipt.id]
            assert queued.mail == mail
            assert queued.recipients[0].route == smtp("o'q\u00fc")

    @question
    async def test_what_mail_and_rcpt_said_is_kept(self) -> None:
        queue, _ = await self._open()
        mail = Mail(
            FROM,
            ret="HDRS",
            envid="a b",
            requiretls=True,
            by=DeliverBy(-5, "N"),
            hold=FutureRelease(9, "FOR"),
            priority=-3,
            auth="",
        )
        originals = (
            Recipient(Address("a list", "xx.example"), frozenset({"NEVER"}), OriginalRecipient("rfc822", "x y@zz")),
            Recipient(Address("jürgen", "xx.example"), frozenset({"SUCCESS", "DELAY"}), None, ValidSince(1, "C")),
        )
        plain = Route("smtp", Address("q", "zz.example"), originals=(Recipient(Address("q", "zz.example")),))
        routes = (attrs.evolve(smtp("r"), originals=originals), plain, smtp("s"))
        await self._submit(queue, Plan(routes=routes), mail=mail, needs=5)
        (queued,) = await queue.messages()
        assert (queued.mail, queued.needs) == (mail, 5)
        assert [row.route.originals for row in queued.recipients] == [route.originals for route in routes]

    @question
    async def test_a_route_keeps_what_is_its_own(self) -> None:
        queue, _ = await self._open()
        route = Route(STORE, Address("u", "xx.example"), "u@xx.example")
        routes = (
            route,
            attrs.evolve(route, reverse_path=ReversePath(None)),
            attrs.evolve(route, reverse_path=ReversePath(FROM, of_sender=True)),
            attrs.evolve(route, reverse_path=ReversePath(Address("two words", "bücher.example"))),
            attrs.evolve(route, mailbox="Größe/x", flags=SEEN_ONLY),
        )
        await self._submit(queue, Plan(routes=routes))
        (queued,) = await queue.messages()
        assert tuple(row.route for row in queued.recipients) == routes

    @question
    async def test_what_could_not_be_read_again_is_refused_and_nobody_else_suffers(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        no_address = Address("a\r\nRCPT TO:<evil", "xx.example")
        own = attrs.evolve(smtp("q"), reverse_path=ReversePath(no_address))
        plan = Plan((to(USER),), (smtp("q"),))
        for mail, wrong in (
            (Mail(no_address), plan),
            (Mail(FROM, envid="\n"), plan),
            (Mail(FROM), Plan(routes=(own,))),
            (Mail(FROM, envid="\n"), Plan((to(USER), to("nobody@yy.example")))),  # the second becomes a row
        ):
            try:
                await self._submit(queue, wrong, mail=mail)
            except ValueError:
                continue
            raise AssertionError("it was taken")
        await self._submit(queue, plan)
        assert len(await queue.messages()) == 1
        assert await uids(await self._inbox_of(queue, USER)) == [1]

    @question
    async def test_nothing_is_tried_before_its_time(self) -> None:
        queue, _ = await self._open()
        await self._submit(queue, Plan(routes=(smtp("q"),)), not_before=LATER)
        await self._submit(queue, Plan(routes=(smtp("r"),)), not_before=NOW - 1)
        assert [queued.recipients[0].due for queued in await queue.messages()] == [LATER, NOW]
        # Nor is it taken for what a clock that was set back has left in the future.
        (now,) = await self._due(queue, NOW, latest=NOW + 1)
        assert str(now.recipients[0].route.recipient).startswith("r@")
        assert len(await self._due(queue, LATER)) == 2

    @question
    async def test_a_mailbox_that_is_gone_leaves_its_mail_to_the_inbox_unless_it_is_a_usual_one(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        account: IMailAccount = await self.database.store.account(USER)
        await account.delete("Junk")
        receipt = await self._submit(queue, Plan((to(USER, "Junk"), to(USER, "Lists/gone"))))
        assert receipt.refused == {}
        for name in ("INBOX", "Junk"):
            assert await uids(await account.mailbox(name)) == [1]
        assert [info.special_use for info in await account.mailboxes() if info.name == "Junk"] == ["\\Junk"]

    @question
    async def test_mailboxes_that_are_gone_leave_one_copy_to_the_inbox(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        await accounts.add(OTHER, "")
        lists = [to(USER, f"Lists/{number}") for number in range(2)]
        for number, deposits in enumerate(((to(USER), *lists), (*lists, to(USER), to(OTHER))), 1):
            receipt = await self._submit(queue, Plan(deposits))
            assert (receipt.refused, receipt.kept) == ({}, True)
            assert len(await uids(await self._inbox_of(queue, USER))) == number
        assert len(await uids(await self._inbox_of(queue, OTHER))) == 1

    @question
    async def test_messages_that_belong_together_are_committed_together(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        await accounts.add(OTHER, "", quota=1)
        bodies = [await make_body(queue.new_body, TRACE + message(number)) for number in (1, 2, 3)]
        plans = (Plan((to(USER),)), Plan((to(OTHER), to(USER, "Junk"))), Plan(routes=(smtp("reply"),)))
        first, *also = [
            Submission(Mail(FROM), plan, body, len(TRACE)) for plan, body in zip(plans, bodies, strict=True)
        ]
        receipt = await queue.submit(first, "reply", also)
        assert [sorted(each.refused) for each in (receipt, *receipt.also)] == [[], [0], []]
        assert await read_message(await self._inbox_of(queue, USER), 1) == TRACE + message(1)
        junk = await (await self.database.store.account(USER)).mailbox("Junk")
        assert await read_message(junk, 1) == TRACE + message(2)
        assert [queued.id for queued in await queue.messages()] == [receipt.also[1].id]

    async def _submit_together(
        self, queue: IQueue, plans: Sequence[Plan], refusals: Refusals = "bounce", replies: int = 0
    ) -> Sequence[Receipt]:
        """The last `replies` of them are such. They come twice, as after a lost answer."""
        names = [queue.new_delivery_id() for _ in plans]
        told: list[tuple[Receipt, Sequence[QueuedMessage]]] = []
        while len(told) < 2:
            group = []
            for number, plan in enumerate(plans):
                body = await make_body(queue.new_body, TRACE + message(number))
                known: dict[str, Any] = {"delivery_id": names[number], "reply": number >= len(plans) - replies}
                group.append(Submission(Mail(FROM), plan, body, len(TRACE), **known))
            told.append((await queue.submit(group[0], refusals, group[1:]), await queue.messages()))
            for each in group:
                each.body.discard()
        (first, waiting), again = told
        assert again == (first, waiting)
        return (first, *first.also)

    @question
    async def test_a_copy_that_everybody_refuses_becomes_a_dsn_where_another_is_taken(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        for taken in (Plan((to(USER),)), Plan(routes=(smtp("q"),))):
            for position in (0, 1):
                plans = [taken, Plan(routes=(smtp("answer"),))]
                plans.insert(position, Plan((to(OTHER), to(OTHER, "Junk"))))
                receipts = await self._submit_together(queue, plans, replies=1)
                refused = receipts[position]
                assert (sorted(refused.refused), refused.kept) == ([0, 1], True)
                queued = {each.id: each for each in await queue.messages()}
                assert [row.last for row in queued[refused.id].recipients] == list(refused.refused.values())
                assert [row.route.mailbox for row in queued[refused.id].recipients] == ["INBOX", "Junk"]
                assert receipts[2].id in queued
                assert await queue.next_due() == NOW
                claims = await queue.claim(NOW, 1000, 1000)
                assert [claim.message.id for claim in claims if not claim.destination] == [refused.id]
                await queue.release(claims)
                await queue.remove(list(queued))
        inbox = await self._inbox_of(queue, USER)
        assert [await read_message(inbox, uid) for uid in await uids(inbox)] == [
            TRACE + message(1),
            TRACE + message(0),
        ]

    @question
    async def test_a_copy_that_everybody_refuses_is_not_kept_where_the_client_hears_it(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        plans = (Plan((to(OTHER),)), Plan((to(USER),)), Plan(routes=(smtp("answer"),)))
        body = [await make_body(queue.new_body, TRACE + message(number)) for number in range(3)]
        group = [Submission(Mail(FROM), plan, each, len(TRACE)) for plan, each in zip(plans, body, strict=True)]
        group[2] = attrs.evolve(group[2], reply=True)
        receipt = await queue.submit(group[0], "reply", group[1:])
        assert [(sorted(each.refused), each.kept) for each in (receipt, *receipt.also)] == [
            ([0], False),
            ([], True),
            ([], True),
        ]
        assert [queued.id for queued in await queue.messages()] == [receipt.also[1].id]

    @question
    async def test_nothing_is_kept_where_all_copies_are_refused_nor_any_reply(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        refused = Plan((to(OTHER),))
        answers = (Plan((to(USER),)), Plan(routes=(smtp("answer"),)))
        refusals: Refusals
        for refusals in ("bounce", "reply"):
            receipts = await self._submit_together(queue, (refused, refused, *answers), refusals, replies=2)
            assert [(len(each.refused), each.kept) for each in receipts] == [(1, False)] * 2 + [(0, False)] * 2
            assert (list(await queue.messages()), await uids(await self._inbox_of(queue, USER))) == ([], [])

    @question
    async def test_replies_alone_are_kept(self) -> None:
        """Those to a message that is discarded."""
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        plans = (Plan((to(OTHER),)), Plan((to(USER),)), Plan(routes=(smtp("answer"),)))
        receipts = await self._submit_together(queue, plans, replies=3)
        assert [each.kept for each in receipts] == [True] * 3
        assert {queued.id for queued in await queue.messages()} == {receipts[0].id, receipts[2].id}
        assert len(await uids(await self._inbox_of(queue, USER))) == 1

    @question
    async def test_ids_are_words_for_a_log(self) -> None:
        queue, _ = await self._open()
        ids = {(await self._submit(queue, Plan(routes=(smtp("q"),)))).id for _ in range(20)}
        assert len(ids) == 20
        assert all(name.isascii() and name.isalnum() and 8 <= len(name) <= 32 for name in ids)

    @question
    async def test_a_large_body_is_shared_by_mailboxes_and_queue(self) -> None:
        queue, accounts = await self._open()
        octets = TRACE + message(1, 200_000)
        for user in (USER, OTHER):
            await accounts.add(user, "")
        receipt = await self._submit(queue, Plan((to(USER), to(OTHER)), (smtp("q"),)), octets)
        inbox = await self._inbox_of(queue, USER)
        await accounts.remove(OTHER)
        assert await read_message(inbox, 1) == octets
        await inbox.expunge(deleted_only=False)
        reader = await queue.open(receipt.id)
        assert await reader.read() == octets[len(TRACE) :]
        reader.close()

    @question
    async def test_a_head_that_is_given_last_comes_first(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        bodies = (message(1)[20:], message(2, 200_000)[20:], message(3, 200_000)[20:])
        heads = (b"X-Late: 1\r\n" + message(1)[:20], b"X-Late: 2\r\n" + message(2, 200_000)[:20], b"")
        for head, octets in zip(heads, bodies, strict=True):
            writer = queue.new_body(len(octets), 5000)
            for start in range(0, len(octets), 50_000):
                await writer.write(octets[start : start + 50_000])
                reader = await writer.written()
                assert await reader.read() == octets[: start + 50_000]
                assert await reader.read(7, 9) == octets[7:16]
                reader.close()
            body = await writer.finish(head)
            assert body.size == len(head + octets)
            reader = body.open()
            assert await reader.read() == head + octets
            reader.close()
            await queue.submit(Submission(Mail(FROM), Plan((to(USER),), (smtp("q"),)), body, 3))
        inbox = await self._inbox_of(queue, USER)
        found = await inbox.digests([1, 2, 3], ("header_size", "subject", "parts"))
        for uid, head, octets in zip((1, 2, 3), heads, bodies, strict=True):
            assert await read_message(inbox, uid) == head + octets
            expected = digest(head + octets)
            assert found["header_size"][uid] == expected.header_size
            assert (found["subject"][uid], found["parts"][uid]) == (expected.subject, expected.parts)
        for queued, head, octets in zip(await queue.messages(), heads, bodies, strict=True):
            reader = await queue.open(queued.id)
            assert (reader.size, await reader.read()) == (queued.size, (head + octets)[3:])
            assert await reader.read(5, 9) == (head + octets)[8:17]
            reader.close()

    @question
    async def test_deposits_are_in_their_mailboxes_at_once(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        inbox = await self._inbox_of(queue, USER)
        heard: list[Change] = []
        inbox.watch(heard.append)
        await self._submit(queue, Plan((to(USER), to(USER, "Junk", flags=SEEN_ONLY))))
        (entry,) = await inbox.entries()
        assert (entry.internal_date, len(heard)) == (NOW, 1)
        assert await read_message(inbox, entry.uid) == TRACE + message(1)
        junk = await (await self.database.store.account(USER)).mailbox("Junk")
        assert [entry.flags for entry in await junk.entries()] == [SEEN_ONLY]
        assert (list(await queue.messages()), await queue.next_due()) == ([], None)

    @question
    async def test_a_deposit_may_make_its_account(self) -> None:
        queue, accounts = await self._open()
        twice = Plan((attrs.evolve(to(USER), create=True), attrs.evolve(to(USER, "Junk"), create=True), to(OTHER)))
        receipt = await self._submit(queue, twice)
        assert set(receipt.refused) == {2}
        made = await accounts.find(USER)
        assert made is not None
        assert (made.password_hash, made.quota, made.enabled) == ("", 0, True)
        junk = await (await self.database.store.account(USER)).mailbox("Junk")
        assert (len(await uids(await self._inbox_of(queue, USER))), len(await uids(junk))) == (1, 1)
        await self._submit(queue, twice)
        assert len(await uids(await self._inbox_of(queue, USER))) == 2

    @question
    async def test_nothing_is_kept_when_everybody_is_refused(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "", quota=10)
        receipt = await self._submit(queue, Plan((to(USER), to(OTHER))))
        assert not receipt.kept
        assert {index: outcome.status for index, outcome in receipt.refused.items()} == {0: "5.2.2", 1: "5.1.1"}
        assert all(outcome.state is State.FAILED and outcome.reply for outcome in receipt.refused.values())
        assert (list(await queue.messages()), await uids(await self._inbox_of(queue, USER))) == ([], [])

    @question
    async def test_a_refused_deposit_among_others_becomes_a_dsn_that_is_due(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        receipt = await self._submit(queue, Plan((to(USER), to(OTHER), to(OTHER, "Junk"))))
        assert (set(receipt.refused), receipt.kept) == ({1, 2}, True)
        (queued,) = await self._due(queue, NOW)
        route = Route("store", Address.parse(OTHER), OTHER, mailbox="INBOX")
        assert [row.route for row in queued.recipients] == [route, attrs.evolve(route, mailbox="Junk")]
        assert [row.last for row in queued.recipients] == [receipt.refused[1], receipt.refused[2]]
        assert len(await uids(await self._inbox_of(queue, USER))) == 1

    @question
    async def test_a_refused_deposit_is_only_told_when_the_client_hears_it(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        receipt = await self._submit(queue, Plan((to(USER), to(OTHER))), refusals="reply")
        assert list(receipt.refused) == [1]
        assert list(await queue.messages()) == []
