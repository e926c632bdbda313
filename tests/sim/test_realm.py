"""A hub whose logins become what a plugin's realm says."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.api import Address, Component, ConfigurationError, IMailAccount, ISubmitter
from mailhub.testing.hubs import Host, Internet

ANN, TEAM = "ann@xx.example", "team@xx.example"


@implementer(ISubmitter)
class TeamMember:
    """Writes in the name of the team alone."""

    user = ANN

    async def may_send_as(self, address: Address | None) -> bool:
        return str(address) == TEAM


@implementer(IRealm)
class TeamRealm:
    """Whoever logs in reads the team's mail."""

    def __init__(self, options: Any, hub: Any) -> None:
        self.hub = hub
        self.logouts = 0
        self.wrong = False

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return Deferred.fromCoroutine(self.avatar(interfaces))

    async def avatar(self, interfaces: Any) -> Any:
        if self.wrong:
            return interfaces[0], object(), self.logout
        if ISubmitter in interfaces:
            return ISubmitter, TeamMember(), self.logout
        return IMailAccount, await self.hub.store.account(TEAM), self.logout

    def logout(self) -> None:
        self.logouts += 1


def hub(internet: Internet) -> tuple[Host, TeamRealm]:
    made: list[TeamRealm] = []

    def make(options: Any, hub: Any) -> TeamRealm:
        made.append(TeamRealm(options, hub))
        return made[-1]

    host = internet.hub("xx.example", config={"auth": {"realm": "team"}}, plugins=[Component("realm", "team", make)])
    host.add_account(ANN, "secret")
    host.add_account(TEAM)
    host.submit(ANN, [TEAM], b"Subject: for all\r\n\r\nhello\r\n")
    return host, made[-1]


def test_imap_and_submission_get_its_avatars_and_it_is_told_of_the_end() -> None:
    with Internet(seed=1) as internet:
        server, realm = hub(internet)
        client = internet.call(server, "imaps")
        client.expect(b"* OK")
        client.ask(b"a login ann@xx.example secret\r\n", b"a OK")
        assert b"for all" in client.ask(b"b examine INBOX\r\nc fetch 1 body[]\r\n", b"c OK")
        assert realm.logouts == 0
        client.ask(b"d logout\r\n", b"d OK")
        internet.run(1)
        assert realm.logouts == 1
        sender = internet.call(server, "submissions")
        sender.expect(b"220 ")
        sender.ask(b"EHLO yy.example\r\n", b"250 HELP")
        sender.ask(b"AUTH PLAIN " + b64encode(b"\0ann@xx.example\0secret") + b"\r\n", b"235 ")
        sender.ask(b"MAIL FROM:<ann@xx.example>\r\n", b"550 5.7.1 ")
        sender.ask(b"MAIL FROM:<team@xx.example>\r\n", b"250 ")


def test_one_that_gives_what_is_no_avatar_is_named_and_mail_comes_in_all_the_same() -> None:
    with Internet(seed=1) as internet:
        server, realm = hub(internet)
        realm.wrong = True
        client = internet.call(server, "imaps")
        client.expect(b"* OK")
        with capturedLogs() as logs:
            client.ask(b"a login ann@xx.example secret\r\n", b"a NO [UNAVAILABLE]")
        (line,) = [formatEvent(event) for event in logs if formatEvent(event).startswith("realm failed")]
        assert "realm=team" in line
        assert f"file={__file__}" in line
        assert "object is no IMailAccount" in line
        assert realm.logouts == 1
        server.submit(ANN, [TEAM], b"Subject: more\r\n\r\nhello\r\n")
        assert len(server.inbox(TEAM)) == 2


def test_one_that_is_not_there_is_a_mistake() -> None:
    with Internet(seed=1) as internet, pytest.raises(ConfigurationError, match=r"\[auth\] realm: .*'teem'"):
        internet.hub("xx.example", config={"auth": {"realm": "teem"}})


def test_what_is_no_realm_is_a_mistake() -> None:
    plugin = Component("realm", "team", lambda options, hub: object())
    with (
        Internet(seed=1) as internet,
        pytest.raises(ConfigurationError, match=r"object is no realm: requestAvatar\(\)"),
    ):
        internet.hub("xx.example", config={"auth": {"realm": "team"}}, plugins=[plugin])
