"""Loops, bounces, dead hosts and lost replies between hubs."""

from __future__ import annotations

from email import message_from_bytes

import pytest

from mailhub.errors import MailError
from mailhub.interfaces import MailExchanger
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.wires import Weather

MESSAGE = b"From: a@xx.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"
HOUR = 3600


def pair(internet: Internet, **tables: object) -> tuple[Host, Host]:
    """Two servers; the tables are in the configuration of the first."""
    xx = internet.hub("xx.example", users=["a"], config=tables)
    return xx, internet.hub("yy.example", users=["b"])


def reports(hub: Host, user: str) -> list[str]:
    """The DSNs in an INBOX, as text."""
    return [octets.decode() for octets in hub.inbox(user) if b"multipart/report" in octets]


def hop(message: bytes) -> str:
    """The last Received field, unfolded."""
    return " ".join(str(message_from_bytes(message)["Received"]).split())


def test_two_hosts_that_forward_to_each_other_stop_and_the_sender_is_told() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", users=["a"], config={"aliases": {"loop@xx.example": ["loop@yy.example"]}})
        yy = internet.hub("yy.example", config={"aliases": {"loop@yy.example": ["loop@xx.example"]}})
        xx.submit("a@xx.example", ["loop@yy.example"], MESSAGE)
        internet.run(HOUR)
        (dsn,) = reports(xx, "a@xx.example")
        assert "Status: 5.4.6" in dsn
        assert xx.queued() == yy.queued() == []


def test_forwards_that_keep_a_copy_end_after_one_round() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["a"], config={"aliases": {"a@xx.example": ["a@xx.example", "b@yy.example"]}})
        yy = internet.hub("yy.example", ["b"], config={"aliases": {"b@yy.example": ["b@yy.example", "a@xx.example"]}})
        zz = internet.hub("zz.example", ["c"])
        zz.submit("c@zz.example", ["a@xx.example"], MESSAGE)
        internet.run(HOUR)
        assert [len(xx.inbox("a@xx.example")), len(yy.inbox("b@yy.example"))] == [1, 1]
        assert zz.inbox("c@zz.example") == []
        assert xx.queued() == yy.queued() == zz.queued() == []
        assert message_from_bytes(yy.inbox("b@yy.example")[0]).get_all("Delivered-To") == ["a@xx.example"]
        # Another message is another matter, and so is this one, sent again by its receiver.
        zz.submit("c@zz.example", ["a@xx.example"], MESSAGE)
        yy.submit("b@yy.example", ["b@yy.example"], yy.inbox("b@yy.example")[0])
        internet.run(HOUR)
        assert [len(xx.inbox("a@xx.example")), len(yy.inbox("b@yy.example"))] == [2, 3]


def test_a_list_whose_member_leads_back_to_it_tells_everyone_once() -> None:
    with Internet() as internet:
        aliases = {
            "all@xx.example": ["list@xx.example", "c@xx.example"],
            "list@xx.example": ["a@xx.example", "b@yy.example"],
        }
        xx = internet.hub("xx.example", ["a", "c"], config={"aliases": aliases})
        yy = internet.hub("yy.example", config={"aliases": {"b@yy.example": ["list@xx.example", "d@zz.example"]}})
        zz = internet.hub("zz.example", ["d"])
        zz.submit("d@zz.example", ["all@xx.example"], MESSAGE)
        internet.run(HOUR)
        assert [len(xx.inbox(f"{name}@xx.example")) for name in "ac"] == [1, 1]
        (copy,) = zz.inbox("d@zz.example")
        assert message_from_bytes(copy).get_all("Delivered-To") == ["b@yy.example", "list@xx.example", "all@xx.example"]
        assert xx.queued() == yy.queued() == zz.queued() == []


def test_no_recipient_learns_of_another_by_the_alias() -> None:
    with Internet() as internet:
        aliases = {"one@xx.example": ["b@yy.example"], "two@xx.example": ["c@yy.example"]}
        xx = internet.hub("xx.example", ["a"], config={"aliases": aliases})
        yy = internet.hub("yy.example", ["b", "c"])
        xx.submit("a@xx.example", ["one@xx.example", "two@xx.example"], MESSAGE)
        internet.run(HOUR)
        for name, alias in (("b", "one@xx.example"), ("c", "two@xx.example")):
            (copy,) = yy.inbox(f"{name}@yy.example")
            assert message_from_bytes(copy).get_all("Delivered-To") == [alias]


def test_what_says_falsely_that_it_was_here_before_is_kept_here_and_not_sent_on() -> None:
    """A member of an alias sends old mail to it again, as it came to him: each mailbox here has it in the end."""
    with Internet() as internet:
        aliases = {"both@xx.example": ["a@xx.example", "c@xx.example", "b@yy.example"]}
        xx = internet.hub("xx.example", ["a", "c"], config={"aliases": aliases})
        yy = internet.hub("yy.example", ["b"])
        stranger = b"Delivered-To: both@xx.example\r\nMessage-ID: <1@zz.example>\r\n" + MESSAGE

        def inboxes() -> list[int]:
            return [len(xx.inbox("a@xx.example")), len(xx.inbox("c@xx.example")), len(yy.inbox("b@yy.example"))]

        def send(recipient: str, message: bytes) -> None:
            caller = internet.call(xx, "smtp")
            caller.expect(b"220")
            caller.ask(b"EHLO zz.example\r\n", b"250 ")
            caller.ask(b"MAIL FROM:<s@zz.example>\r\n", b"250")
            caller.ask(b"RCPT TO:<%s>\r\n" % recipient.encode(), b"250")
            caller.ask(b"DATA\r\n", b"354")
            caller.ask(message + b".\r\n", b"250")
            caller.ask(b"QUIT\r\n", b"221")
            internet.run(HOUR)

        send("a@xx.example", stranger.replace(b"Delivered-To: both@xx.example\r\n", b""))
        send("both@xx.example", stranger)
        assert inboxes() == [1, 1, 0]
        send("both@xx.example", stranger)  # now it is the same message
        assert inboxes() == [1, 1, 0]
        send("both@xx.example", stranger.replace(b"Message-ID", b"X-Nothing"))  # and of this nobody knows
        assert inboxes() == [2, 2, 0]
        assert not reports(yy, "b@yy.example")
        assert not xx.queued()


def test_a_loop_beside_good_recipients_is_returned_alone() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["a"], config={"aliases": {"loop@xx.example": ["loop@yy.example"]}})
        yy = internet.hub("yy.example", ["b"])
        looping = b"Delivered-To: <LOOP@xx.example>\r\n" + MESSAGE
        yy.submit("b@yy.example", ["a@xx.example", "loop@xx.example"], looping)
        internet.run(HOUR)
        assert len(xx.inbox("a@xx.example")) == 1
        (dsn,) = reports(yy, "b@yy.example")
        assert "Final-Recipient: rfc822; loop@xx.example" in dsn
        assert "Status: 5.4.6" in dsn


def test_a_bounce_for_a_bounce_is_never_sent() -> None:
    with Internet() as internet:
        xx, yy = pair(internet)
        # The sender's address was forged: its own host does not know it.
        yy.submit("ghost@xx.example", ["nobody@xx.example"], MESSAGE)
        internet.run(HOUR)
        assert xx.queued() == yy.queued() == []
        assert xx.inbox("a@xx.example") == yy.inbox("b@yy.example") == []


def test_a_remote_sender_is_told_by_the_host_that_gave_up() -> None:
    with Internet() as internet:
        xx, yy = pair(internet)
        zz = internet.hub("zz.example", config={"aliases": {"out@zz.example": ["gone@yy.example"]}})
        xx.submit("a@xx.example", ["out@zz.example"], MESSAGE)
        internet.run(HOUR)
        (dsn,) = reports(xx, "a@xx.example")
        assert "Reporting-MTA: dns; mx.zz.example" in dsn
        assert "Final-Recipient: rfc822; out@zz.example" in dsn
        assert "Remote-MTA: dns; mx.yy.example" in dsn
        assert message_from_bytes(dsn.encode())["Return-Path"] == "<>"
        assert zz.queued() == yy.queued() == []


def test_a_host_that_never_answers_is_tried_until_the_time_is_up() -> None:
    with Internet() as internet:
        xx, _ = pair(internet, queue={"retry_seconds": [60, 600], "expire_hours": 2})
        internet.network.weather_at["10.0.0.3"] = Weather(lost=1.0)
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(2 * HOUR - 60)
        assert len(xx.queued()) == 1
        internet.run(180)
        assert xx.queued() == []
        (dsn,) = reports(xx, "a@xx.example")
        assert "Status: 5.4.7" in dsn
        tries = sum(line.startswith("lost") for _, line in internet.network.events)
        assert 10 <= tries <= 14


def test_an_exchanger_by_dns_alone_does_not_relay() -> None:
    with Internet() as internet:
        xx, yy = pair(internet)
        other = internet.hub("zz.example")
        internet.resolver.exchangers["yy.example"].append(MailExchanger(20, other.hostname))
        internet.network.weather_at[yy.address] = Weather(refused=1.0)
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(5)
        (dsn,) = reports(xx, "a@xx.example")
        assert "Relaying denied" in dsn


def test_mail_for_a_domain_whose_best_exchanger_we_are_without_knowing_it_comes_back() -> None:
    with Internet() as internet:
        xx, _ = pair(internet)
        internet.resolver.add("lost.example", xx.hostname, xx.address)
        xx.submit("a@xx.example", ["b@lost.example"], MESSAGE)
        internet.run(60)
        (dsn,) = reports(xx, "a@xx.example")
        assert "Status: 5.4.6" in dsn


@pytest.mark.parametrize("failing", ["yy.example", "mx.yy.example"])
def test_without_dns_mail_waits(failing: str) -> None:
    with Internet() as internet:
        xx, yy = pair(internet)
        internet.resolver.failing.add(failing)
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(30)
        (row,) = xx.queued()[0].recipients
        assert row.last is not None
        assert row.last.status == "4.4.3"
        internet.resolver.failing.clear()
        internet.run(HOUR)
        assert len(yy.inbox("b@yy.example")) == 1


@pytest.mark.parametrize("seconds", [1, 7 * HOUR])
def test_a_hub_that_was_away_gets_its_mail_when_it_is_back(seconds: int) -> None:
    with Internet() as internet:
        xx, yy = pair(internet)
        yy.unlisten()
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(seconds)
        yy.listen()
        internet.run(2 * HOUR)
        assert len(yy.inbox("b@yy.example")) == 1


def test_a_static_next_hop_and_a_local_alias_in_one_message() -> None:
    with Internet() as internet:
        hops = {"yy.example": {"host": "10.0.0.3"}, "*": {"agent": "refuse"}}
        xx, yy = pair(internet, route=hops, aliases={"all@xx.example": ["a@xx.example", "b@yy.example"]})
        internet.resolver.failing.add("yy.example")
        xx.submit("a@xx.example", ["all@xx.example"], MESSAGE)
        internet.run(30)
        assert len(xx.inbox("a@xx.example")) == len(yy.inbox("b@yy.example")) == 1
        with pytest.raises(MailError, match="sends no mail"):
            xx.submit("a@xx.example", ["x@zz.example"], MESSAGE)


def test_a_connection_is_used_for_several_messages_and_closed_in_the_end() -> None:
    with Internet() as internet:
        xx, yy = pair(internet)
        for _ in range(3):
            xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
            internet.run(1)
        internet.run(60)
        lines = [line for _, line in internet.network.events]
        assert len(yy.inbox("b@yy.example")) == 3
        assert sum(line.startswith("connected") for line in lines) == 1
        assert sum(line.startswith("closed") for line in lines) == 2


def test_when_tls_breaks_opportunistic_mail_goes_without() -> None:
    with Internet(weather=Weather(tls_broken=1.0)) as internet:
        xx, yy = pair(internet)
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(60)
        (arrived,) = yy.inbox("b@yy.example")
        assert "with ESMTP id" in hop(arrived)


def test_mail_with_required_tls_waits_rather_than_going_in_the_clear() -> None:
    with Internet(weather=Weather(tls_broken=1.0)) as internet:
        xx, yy = pair(internet, route={"yy.example": {"host": "10.0.0.3", "tls": "required"}})
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(HOUR)
        assert yy.inbox("b@yy.example") == []
        internet.network.weather = Weather()
        internet.run(2 * HOUR)
        (arrived,) = yy.inbox("b@yy.example")
        assert "with ESMTPS id" in hop(arrived)


def test_a_full_mailbox_at_the_end_of_the_data_comes_back_as_a_report() -> None:
    with Internet() as internet:
        xx, yy = pair(internet)
        yy.add_account("small@yy.example", quota=100)
        xx.submit("a@xx.example", ["small@yy.example"], MESSAGE)
        internet.run(60)
        (dsn,) = reports(xx, "a@xx.example")
        assert "Status: 5.2.2" in dsn
        assert yy.inbox("small@yy.example") == []
