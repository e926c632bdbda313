"""Our protocols over a portal of somebody else's."""

from __future__ import annotations

import gc
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import capturedLogs, formatEvent, globalLogPublisher

from mailhub.api import (
    ConfigurationError,
    IMailAccount,
    IMailReceiver,
    NoSuchUser,
    imap_factory,
    lmtp_factory,
    pop3_factory,
    smtp_factory,
    submission_factory,
)
from mailhub.embedding import _commons
from tests.embedding.rig import PASSWORD, USER, Deferring, Embedded, Realm

FACTORIES = [smtp_factory, submission_factory, lmtp_factory, imap_factory, pop3_factory]
LOGIN = b64encode(f"\0{USER}\0{PASSWORD}".encode())
LOGINS: dict[Callable[..., Any], tuple[list[bytes], bytes]] = {
    smtp_factory: ([b"EHLO c.example", b"MAIL FROM:<a@yy.example>"], b"\r\n250 2.1.0 "),
    lmtp_factory: ([b"LHLO c.example", b"MAIL FROM:<a@yy.example>"], b"\r\n250 2.1.0 "),
    submission_factory: ([b"EHLO c.example", b"AUTH PLAIN " + LOGIN], b"\r\n235 2.7.0 "),
    imap_factory: ([b"a LOGIN Bob secret"], b"a OK "),
    pop3_factory: ([b"USER Bob", b"PASS secret"], b"\r\n+OK "),
}
TROUBLE = {
    smtp_factory: b"\r\n451 4.3.0 ",
    lmtp_factory: b"\r\n451 4.3.0 ",
    submission_factory: b"\r\n454 4.3.0 ",
    imap_factory: b"a NO [UNAVAILABLE] ",
    pop3_factory: b"\r\n-ERR [SYS/TEMP] ",
}


def log_in(embedded: Embedded, make: Any) -> bytes:
    return embedded.say(*LOGINS[make][0])


@pytest.mark.parametrize("make", FACTORIES)
def test_a_login_gets_an_avatar_by_the_name_as_it_was_sent_and_lets_go_of_it(make: Any) -> None:
    embedded = Embedded(make)
    assert IProtocolFactory.providedBy(embedded.factory)
    assert LOGINS[make][1] in log_in(embedded, make)
    ((avatar_id, mind, interfaces),) = embedded.realm.asked
    assert interfaces[0] in (IMailAccount, IMailReceiver)
    assert avatar_id in (b"Bob", ())
    assert (mind.peer, mind.service) == ("192.0.2.7", make.__name__.removesuffix("_factory"))
    assert embedded.realm.logouts == 0
    embedded.lose()
    assert embedded.realm.logouts == 1


@pytest.mark.parametrize("make", [submission_factory, imap_factory, pop3_factory])
def test_a_wrong_password_is_refused(make: Any) -> None:
    embedded = Embedded(make)
    embedded.portal.checkers.clear()
    embedded.portal.registerChecker(InMemoryUsernamePasswordDatabaseDontUse(Bob=b"other"))
    said = log_in(embedded, make)
    assert any(refused in said for refused in (b"535 5.7.8 ", b"a NO [AUTHENTICATIONFAILED]", b"-ERR [AUTH]"))
    assert not embedded.realm.asked


def not_an_account() -> Any:
    class Poor:
        user = "Bob"

        async def mailbox(self, name: str) -> None: ...

    return Poor()


def wrong_interface(realm: Realm, *_: Any) -> Any:
    return IProtocolFactory, realm.inbox, realm.logout


def nothing_at_all(realm: Realm, *_: Any) -> Any:
    return None


def poor_avatar(realm: Realm, interface: Any, *_: Any) -> Any:
    return interface, not_an_account(), realm.logout


def no_logout(realm: Realm, interface: Any, *_: Any) -> Any:
    return interface, realm.inbox, None


def no_avatar(realm: Realm, interface: Any, *_: Any) -> Any:
    return interface, None, realm.logout


def raises(realm: Realm, *_: Any) -> Any:
    raise NotImplementedError("no such interface")


def leaves(realm: Realm, *_: Any) -> Any:
    raise SystemExit(1)


@pytest.mark.parametrize("make", FACTORIES)
@pytest.mark.parametrize(
    "gives",
    [wrong_interface, nothing_at_all, poor_avatar, no_logout, no_avatar, raises, leaves],
    ids=lambda it: it.__name__,
)
def test_a_realm_at_fault_is_named_and_the_client_comes_again(make: Any, gives: Any) -> None:
    embedded = Embedded(make, Realm(gives))
    with capturedLogs() as logs:
        assert TROUBLE[make] in b"\r\n" + log_in(embedded, make)
    (line,) = [formatEvent(event) for event in logs if formatEvent(event).startswith("realm failed")]
    assert "realm=Deferring" in line
    assert f"file={Path(__file__).with_name('rig.py')}" in line
    assert embedded.realm.logouts == (gives in (wrong_interface, poor_avatar, no_avatar))
    # The next one is served.
    embedded.realm.gives = None
    embedded.connect()
    assert LOGINS[make][1] in log_in(embedded, make)


@pytest.mark.parametrize("make", FACTORIES)
def test_one_user_for_whom_the_realm_fails_keeps_nobody_else_out(make: Any) -> None:
    embedded = Embedded(make, Realm(raises))
    for _ in range(20):
        log_in(embedded, make)
        embedded.connect()
    embedded.realm.gives = None
    assert LOGINS[make][1] in log_in(embedded, make)


@pytest.mark.parametrize("make", FACTORIES)
def test_a_realm_that_answers_never_is_given_up_and_a_late_avatar_let_go(make: Any) -> None:
    late: Deferred[Any] = Deferred()
    embedded = Embedded(make, timeout_seconds=7)

    def requestAvatar(*_: Any) -> Any:
        return late

    embedded.portal.realm.requestAvatar = requestAvatar
    assert TROUBLE[make] not in log_in(embedded, make)
    with capturedLogs() as logs:
        embedded.clock.advance(7)
    assert TROUBLE[make] in b"\r\n" + embedded.peer.taken()
    assert any(formatEvent(event).startswith("realm timed out") for event in logs)
    late.callback((IMailAccount, None, embedded.realm.logout))
    assert embedded.realm.logouts == 1


@pytest.mark.parametrize("make", FACTORIES)
def test_a_portal_without_a_checker_is_a_mistake_that_the_log_names(make: Any) -> None:
    embedded = Embedded(make)
    embedded.portal.checkers.clear()
    with capturedLogs() as logs:
        assert TROUBLE[make] in b"\r\n" + log_in(embedded, make)
    assert any("UnhandledCredentials: No checker for" in formatEvent(event) for event in logs)


def unknown(realm: Realm, *_: Any) -> Any:
    raise NoSuchUser


def test_who_is_unknown_to_the_realm_is_refused_as_with_a_wrong_password() -> None:
    assert b"a NO [AUTHENTICATIONFAILED]" in log_in(Embedded(imap_factory, Realm(unknown)), imap_factory)


# --- Mail ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [smtp_factory, submission_factory, lmtp_factory])
def test_mail_comes_to_the_avatar(make: Any) -> None:
    embedded = Embedded(make)
    log_in(embedded, make)
    embedded.say(b"MAIL FROM:<a@yy.example> BODY=8BITMIME SMTPUTF8 SIZE=100")
    said = embedded.say(b"RCPT TO:<b@zz.example>", b"DATA", b"Subject: x", b"", b"caf\xc3\xa9", b".")
    assert (said.endswith(b"\r\n") and b"\r\n250 2.0.0 " in said) or b"\r\n250 " in said
    ((origin, octets),) = embedded.realm.inbox.messages
    assert octets.endswith(b"Subject: x\r\n\r\ncaf\xc3\xa9\r\n")
    assert origin.user == ("Bob" if make is submission_factory else "")


def test_mail_for_other_domains_is_refused_where_domains_are_named() -> None:
    embedded = Embedded(smtp_factory, domains=["XX.example"])
    log_in(embedded, smtp_factory)
    assert embedded.say(b"RCPT TO:<b@zz.example>").startswith(b"550 5.7.1 ")
    assert embedded.say(b"RCPT TO:<b@xx.example>").startswith(b"250 ")


@pytest.mark.parametrize("given", [False, True, "no", 550])
def test_a_recipient_for_whom_something_is_given_is_not_taken_and_the_log_says_why(given: Any) -> None:
    """Whether it is to be taken cannot be known."""
    embedded = Embedded(smtp_factory)
    embedded.realm.inbox.recipient = lambda *_: given  # type: ignore[method-assign]
    log_in(embedded, smtp_factory)
    with capturedLogs() as logs:
        assert embedded.say(b"RCPT TO:<b@zz.example>").startswith(b"451 ")
    (line,) = [formatEvent(event) for event in logs if formatEvent(event).startswith("realm failed")]
    assert "method=recipient" in line
    assert "it gave " in line


@pytest.mark.parametrize(("domains", "asked"), [(["xx.example", "yy.example"], "xx.example"), (None, "mx.xx.example")])
@pytest.mark.parametrize("make", [smtp_factory, lmtp_factory])
def test_the_receiver_is_asked_for_the_postmaster_without_a_domain(make: Any, domains: Any, asked: str) -> None:
    embedded = Embedded(make, domains=domains)
    recipients: list[str] = []

    def recipient(recipient: Any, transaction: Any) -> None:
        recipients.append(recipient.address.domain)

    embedded.realm.inbox.recipient = recipient  # type: ignore[method-assign]
    log_in(embedded, make)
    assert embedded.say(b"RCPT TO:<postmaster>").startswith(b"250 ")
    assert recipients == [asked]


def test_limits_are_those_of_the_configuration() -> None:
    embedded = Embedded(smtp_factory, limits={"message_size_bytes": 2000})
    assert b"250-SIZE 2000\r\n" in embedded.say(b"EHLO c.example")


FOR_RECEIVERS = (b"DSN", b"REQUIRETLS", b"DELIVERBY", b"FUTURERELEASE", b"MT-PRIORITY", b"RRVS", b"XVERP", b"ETRN")


def offered(embedded: Embedded) -> list[bytes]:
    embedded.connect()
    said = embedded.say(b"LHLO c.example" if embedded.factory_of is lmtp_factory else b"EHLO c.example")
    return [line[4:].partition(b" ")[0] for line in said.splitlines()[1:]]


@pytest.mark.parametrize("make", [smtp_factory, lmtp_factory, submission_factory])
def test_nothing_is_offered_that_a_receiver_would_have_to_carry_out(make: Any) -> None:
    embedded = Embedded(make, smtp={"etrn": ["xx.example"], "xverp": True})
    keywords = offered(embedded)
    assert {b"PIPELINING", b"SIZE", b"8BITMIME", b"CHUNKING", b"SMTPUTF8", b"LIMITS"} <= set(keywords)
    assert not set(keywords).intersection(FOR_RECEIVERS)
    log_in(embedded, make)
    embedded.say(b"RSET")
    assert embedded.say(b"MAIL FROM:<a@yy.example> RET=HDRS").startswith(b"555 ")


@pytest.mark.parametrize("make", [smtp_factory, lmtp_factory, submission_factory])
def test_a_receiver_gets_what_its_factory_says_that_it_carries_out(make: Any) -> None:
    embedded = Embedded(make, extensions=["DSN", "mt-priority"])
    assert set(offered(embedded)).intersection(FOR_RECEIVERS) == {b"DSN", b"MT-PRIORITY"}
    said: list[Any] = []
    embedded.realm.inbox.recipient = lambda *those: said.extend(those)  # type: ignore[method-assign]
    log_in(embedded, make)
    embedded.say(b"RSET", b"MAIL FROM:<a@yy.example> RET=HDRS MT-PRIORITY=3")
    assert embedded.say(b"RCPT TO:<b@zz.example> NOTIFY=NEVER").startswith(b"250 ")
    recipient, transaction = said
    assert recipient.notify == {"NEVER"}
    assert (transaction.mail.ret, transaction.mail.priority) == ("HDRS", 3)


def test_submission_can_hold_mail_where_its_receiver_does() -> None:
    assert b"FUTURERELEASE" in offered(Embedded(submission_factory, extensions=["FUTURERELEASE"]))


def test_imap_and_pop3_of_one_portal_share_the_mailbox_and_the_maildrop() -> None:
    embedded = Embedded(imap_factory)
    log_in(embedded, imap_factory)
    embedded.say(b"a APPEND INBOX {19+}", b"Subject: x\r\n\r\nhello")
    pop3 = pop3_factory(embedded.portal, cleartext_login=["192.0.2.0/24"])
    embedded.factory = pop3
    embedded.connect()
    log_in(embedded, pop3_factory)
    assert embedded.say(b"STAT").startswith(b"+OK 1 ")
    first = embedded.channel
    embedded.factory = pop3_factory(embedded.portal, cleartext_login=["192.0.2.0/24"], name="pop3-inside")
    embedded.connect()
    assert b"[IN-USE]" in log_in(embedded, pop3_factory)
    assert first is not embedded.channel


# --- Mistakes ------------------------------------------------------------------------------------------------------


def portal() -> Portal:
    return Portal(Deferring(Realm()))


MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    (imap_factory, {}, "imap_factory: tls: nobody could log in: give (certificate, key), or cleartext_login"),
    (smtp_factory, {"implicit_tls": True}, "smtp_factory: implicit_tls: goes with tls=(certificate, key)"),
    (smtp_factory, {"tls": "cert.pem"}, "smtp_factory: tls: must be (certificate, key) or a CertificateOptions, not"),
    (smtp_factory, {"tls": ("/nowhere.pem", "/nowhere.key")}, '[tls] certificate "/nowhere.pem": No such file'),
    (smtp_factory, {"hostname": "a b"}, "smtp_factory: hostname:"),
    (smtp_factory, {"limits": {"message_size": 1}}, "smtp_factory: [limits] message_size: unknown key; did you mean"),
    (smtp_factory, {"limits": {"message_size_bytes": 1}}, "smtp_factory: [limits] message_size_bytes: must be from"),
    (smtp_factory, {"domains": ["a b"]}, "smtp_factory: domains:"),
    (imap_factory, {"cleartext_login": ["home"]}, "imap_factory: [trust] cleartext_login:"),
    (imap_factory, {"cleartext_login": "127.0.0.1"}, "imap_factory: cleartext_login: must be a list of texts, not"),
    (
        smtp_factory,
        {"hostnam": "mx.example"},
        "smtp_factory: hostnam: is none of its options: cleartext_login, domains",
    ),
    (imap_factory, {"domains": ["xx.example"]}, "imap_factory: domains: is none of its options: cleartext_login, env"),
    (submission_factory, {"domains": ["xx.example"]}, "submission_factory: domains: is none of its options:"),
    (lmtp_factory, {"domains": "xx.example"}, "lmtp_factory: domains: must be a list of texts, not 'xx.example'"),
    (smtp_factory, {"extensions": "DSN"}, "smtp_factory: extensions: must be a list of texts, not 'DSN'"),
    (smtp_factory, {"extensions": ["FUTURERELEASE"]}, "smtp_factory: extensions: must be of DELIVERBY, DSN, MT-PRIO"),
    (submission_factory, {"extensions": ["SIZE"]}, "submission_factory: extensions: must be of DELIVERBY, DSN, FUTURE"),
    (imap_factory, {"extensions": ["DSN"]}, "imap_factory: extensions: is none of its options: cleartext_login, env"),
    (smtp_factory, {"domains": 5}, "smtp_factory: domains: must be a list of texts, not 5"),
    (smtp_factory, {"limits": ["x"]}, "smtp_factory: limits: must be a dict, not ['x']"),
    (smtp_factory, {"timeout_seconds": "x"}, "smtp_factory: timeout_seconds: must be a number of seconds, from above"),
    (smtp_factory, {"timeout_seconds": -1}, "smtp_factory: timeout_seconds: must be a number of seconds, from above 0"),
    (smtp_factory, {"timeout_seconds": float("nan")}, "smtp_factory: timeout_seconds: must be a number of seconds"),
    (smtp_factory, {"timeout_seconds": True}, "smtp_factory: timeout_seconds: must be a number of seconds, from"),
    (smtp_factory, {"name": "a\nb"}, "smtp_factory: name: must be a text of one line, 255 characters at most, not 'a"),
    (smtp_factory, {"name": None}, "smtp_factory: name: must be a text of one line, 255 characters at most, not None"),
    (smtp_factory, {"hostname": 5}, "smtp_factory: hostname: must be a text of one line"),
    (smtp_factory, {"implicit_tls": "no"}, "smtp_factory: implicit_tls: must be True or False, not 'no'"),
]


@pytest.mark.parametrize(("make", "options", "line"), MISTAKES, ids=[line for *_, line in MISTAKES])
def test_mistakes_are_told_when_the_factory_is_made(make: Any, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(portal(), **options)
    assert str(caught.value).startswith(line)
    assert str(caught.value).isprintable()


def test_what_is_no_portal_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"smtp_factory: None is no twisted.cred.portal.Portal"):
        smtp_factory(None)  # type: ignore[arg-type]


class Peculiar(Portal):
    """Can be no key, and counts its logins."""

    logins = 0

    def __eq__(self, other: object) -> bool:
        return self is other

    def login(self, *arguments: Any) -> Any:
        self.logins += 1
        return super().login(*arguments)


class Slots:
    """Does what a portal does, and can be no key and have no weak reference."""

    __slots__ = ("login",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, portal: Portal) -> None:
        self.login = portal.login


@pytest.mark.parametrize("make", FACTORIES)
@pytest.mark.parametrize("peculiar", [True, False])
def test_any_portal_will_do(make: Any, peculiar: bool) -> None:
    embedded = Embedded(make)
    portal: Any = Peculiar(embedded.portal.realm, embedded.portal.checkers.values()) if peculiar else None
    embedded.factory = make(portal or Slots(embedded.portal), **embedded.options)
    embedded.connect()
    assert LOGINS[make][1] in log_in(embedded, make)
    assert not peculiar or portal.logins == 1


def test_neither_reactor_nor_log_are_changed_and_nothing_is_kept_of_a_portal() -> None:
    any_reactor: Any = reactor
    before = (vars(any_reactor).get("seconds"), list(globalLogPublisher._observers))
    factory = imap_factory(portal(), cleartext_login=["127.0.0.1"])
    assert (vars(any_reactor).get("seconds"), list(globalLogPublisher._observers)) == before
    count = len(_commons)
    del factory
    gc.collect()
    assert len(_commons) < count
