"""The tables of verbs and extensions: order by state, what each extension adds, and what is offered when."""

from __future__ import annotations

import attrs
import pytest

from mailhub.message.envelope import DeliverBy, FutureRelease, Mail, OriginalRecipient, Recipient, ValidSince
from mailhub.message.esmtp import (
    mail_parameters,
    recipient_parameters,
    with_mail_parameters,
    with_recipient_parameters,
)
from mailhub.wire.smtp.events import DataStart, Event, MailFrom, RcptTo, StartTls
from mailhub.wire.smtp.extensions import COMPLETE, EXTENSIONS, SmtpSettings, offer, terms
from mailhub.wire.smtp.grammar import parse_mail, parse_rcpt
from mailhub.wire.smtp.replies import reply
from mailhub.wire.smtp.server import SmtpServer
from mailhub.wire.smtp.verbs import VERBS
from mailhub.wire.stream import BareLines
from tests.wire.smtp.test_server import ANN, BOB, PLAIN, SETTINGS, SUBMISSION, Peer, accept_all, refusing

ALL = frozenset(row.keyword for row in EXTENSIONS)
WITH_ALL = attrs.evolve(
    SETTINGS,
    extensions=ALL,
    submission=True,
    speaks_for=True,
    verp=True,
    turns=frozenset({"yy.example"}),
    secure=True,
    starttls=True,
    mechanisms=("PLAIN",),
)
WITH_ALL = attrs.evolve(WITH_ALL, hold_seconds=999999999, hold_until=253402300799)

# RFC 5321 4.1.4 and the extensions' own documents: the code of an answer to each command in each state.
STATES = {
    "CONNECTED": b"",
    "READY": b"EHLO a\r\n",
    "SENDER": b"EHLO a\r\nMAIL FROM:<ann@xx.example>\r\n",
    "RECIPIENTS": b"EHLO a\r\nMAIL FROM:<ann@xx.example>\r\nRCPT TO:<bob@yy.example>\r\n",
    "CHUNKS": b"EHLO a\r\nMAIL FROM:<ann@xx.example>\r\nRCPT TO:<bob@yy.example>\r\nBDAT 1\r\nx",
}
ORDER = {
    "EHLO a": (250, 250, 250, 250, 250),
    "HELO a": (250, 250, 250, 250, 250),
    "LHLO a": (500, 500, 500, 500, 500),
    "STARTTLS": (503, 220, 220, 220, 220),
    "AUTH PLAIN " + PLAIN.decode(): (503, 235, 503, 503, 503),
    "MAIL FROM:<>": (503, 250, 503, 503, 503),
    "RCPT TO:<bob@yy.example>": (503, 503, 250, 250, 503),
    "DATA": (503, 503, 503, 354, 503),
    "BDAT 0": (503, 503, 503, 250, 250),
    "RSET": (250, 250, 250, 250, 250),
    "NOOP": (250, 250, 250, 250, 250),
    "XCLIENT ADDR=192.0.2.1": (220, 220, 503, 503, 503),
    "XFORWARD ADDR=192.0.2.1": (250, 250, 503, 503, 503),
    "ETRN xx.example": (503, 459, 503, 503, 503),
    "QUIT": (221, 221, 221, 221, 221),
    "HELP": (214, 214, 214, 214, 214),
    "VRFY ann": (252, 252, 252, 252, 252),
    "EXPN list": (502, 502, 502, 502, 502),
}


@pytest.mark.parametrize("command", ORDER)
@pytest.mark.parametrize("state", STATES)
def test_the_order_of_commands(state: str, command: str) -> None:
    smtp = attrs.evolve(SETTINGS, starttls=True, mechanisms=("PLAIN",), plaintext_login=True, speaks_for=True)
    smtp = attrs.evolve(smtp, turns=frozenset({"yy.example"}))
    peer = Peer(smtp)
    peer.send(STATES[state])
    assert int(peer.codes(command.encode() + b"\r\n")[-1][:3]) == ORDER[command][list(STATES).index(state)]


def test_the_order_names_every_verb() -> None:
    assert [command.partition(" ")[0].partition(":")[0] for command in ORDER] == list(VERBS)


def ehlo(settings: SmtpSettings) -> list[str]:
    return [line[4:] for line in Peer(settings).send(b"EHLO a\r\n").decode().splitlines()[1:]]


def test_nothing_is_offered_that_is_not_carried_out_to_the_end() -> None:
    assert ehlo(SETTINGS) == [
        "PIPELINING",
        "SIZE 52428800",
        "8BITMIME",
        "BINARYMIME",
        "CHUNKING",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "DELIVERBY",
        "MT-PRIORITY",
        "RRVS",
        "LIMITS RCPTMAX=1000 MAILMAX=100000",
        "HELP",
    ]
    assert ALL == COMPLETE


def test_all_that_can_be_offered() -> None:
    assert ehlo(WITH_ALL) == [
        "PIPELINING",
        "SIZE 52428800",
        "8BITMIME",
        "BINARYMIME",
        "CHUNKING",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "REQUIRETLS",
        "DELIVERBY",
        "FUTURERELEASE 999999999 9999-12-31T23:59:59Z",
        "MT-PRIORITY",
        "RRVS",
        "AUTH PLAIN",
        "LIMITS RCPTMAX=1000 MAILMAX=100000",
        "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
        "XVERP",
        "HELP",
    ]


def test_future_release_is_for_our_own_users() -> None:
    peer = Peer(attrs.evolve(WITH_ALL, submission=False))
    assert b"FUTURERELEASE" not in peer.send(b"EHLO a\r\n")
    assert peer.codes(b"MAIL FROM:<> HOLDFOR=60\r\n") == ["555 5.5.4"]


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("yy.example", "250 2.0.0"),
        ("YY.example.", "250 2.0.0"),
        ("b\u00fccher.example", "250 2.0.0"),
        ("xn--bcher-kva.example", "250 2.0.0"),
        ("xx.example", "459 4.7.1"),
        ("[192.0.2.1]", "459 4.7.1"),
        ("local", "501 5.5.4"),
        ("@local", "501 5.5.4"),
        ("@YY.example", "250 2.0.0"),
        ("@sub.yy.example", "459 4.7.1"),
        ("#slow", "250 2.0.0"),
        ("#queue", "459 4.7.1"),
        ("#yy.example", "459 4.7.1"),
        ("#", "459 4.7.1"),
        ("@", "501 5.5.4"),
        ("@#slow", "501 5.5.4"),
        ("yy.example zz.example", "501 5.5.4"),
        ("", "501 5.5.4"),
    ],
)
def test_mail_is_asked_for_by_the_domains_that_are_named(argument: str, code: str) -> None:
    peer = Peer(attrs.evolve(SETTINGS, turns=frozenset({"yy.example", "xn--bcher-kva.example", "#slow"})))
    assert b"250-ETRN\r\n" in peer.send(b"EHLO a\r\n")
    assert peer.codes(f"ETRN {argument}\r\n".encode()) == [code]
    assert Peer().codes(b"EHLO a\r\nETRN yy.example\r\n")[-1] == "502 5.5.1"


def test_no_mail_is_asked_for_where_it_is_submitted() -> None:
    """RFC 6409 7."""
    peer = Peer(WITH_ALL)
    assert b"ETRN" not in peer.send(b"EHLO a\r\n")
    assert peer.codes(b"ETRN yy.example\r\n") == ["502 5.5.1"]


@pytest.mark.parametrize("without", ["8BITMIME", "SMTPUTF8"])
def test_utf8_is_offered_with_8bitmime_alone(without: str) -> None:
    """RFC 6531 3.1."""
    peer = Peer(attrs.evolve(SETTINGS, extensions=ALL - {without}))
    assert b"SMTPUTF8" not in peer.send(b"EHLO a\r\n")
    assert peer.codes(b"MAIL FROM:<> SMTPUTF8\r\n") == ["555 5.5.4"]


@pytest.mark.parametrize(
    ("until", "code"), [("2024-01-08T00:00:00Z", "250 2.1.0"), ("2024-01-08T00:00:01Z", "501 5.5.4")]
)
def test_mail_is_not_held_for_longer_than_was_told(until: str, code: str) -> None:
    peer = Peer(attrs.evolve(WITH_ALL, hold_until=1704672000))
    assert b"FUTURERELEASE 999999999 2024-01-08T00:00:00Z\r\n" in peer.send(b"EHLO a\r\n")
    assert peer.codes(f"MAIL FROM:<> HOLDUNTIL={until}\r\n".encode()) == [code]


def test_xverp_is_for_our_own_users_by_option() -> None:
    for smtp in (attrs.evolve(WITH_ALL, submission=False), attrs.evolve(WITH_ALL, verp=False)):
        peer = Peer(smtp)
        assert b"XVERP" not in peer.send(b"EHLO a\r\n")
        assert peer.codes(b"MAIL FROM:<ann@xx.example> XVERP\r\n") == ["555 5.5.4"]


def test_xverp_needs_a_sender_whose_address_can_name_a_recipient() -> None:
    peer = Peer(WITH_ALL)
    assert b"250-XVERP\r\n" in peer.send(b"EHLO a\r\n")
    assert peer.codes(b"MAIL FROM:<> XVERP==+\r\n") == ["503 5.5.4"]
    assert peer.codes(b"MAIL FROM:<ann@xx.example> XVERP==+\r\n") == ["250 2.1.0"]


def test_requiretls_exists_under_tls_only() -> None:
    peer = Peer(attrs.evolve(WITH_ALL, secure=False))
    plain = peer.send(b"EHLO a\r\n")
    assert b"REQUIRETLS" not in plain
    assert b"STARTTLS" in plain
    assert peer.codes(b"MAIL FROM:<> REQUIRETLS\r\n") == ["555 5.5.4"]
    assert peer.codes(b"STARTTLS\r\n") == ["220 2.0.0"]
    assert peer.codes(b"EHLO a\r\nMAIL FROM:<> REQUIRETLS\r\n")[-1] == "250 2.1.0"
    assert peer.events[-1] == MailFrom(Mail(None, requiretls=True))


@pytest.mark.parametrize(
    ("keyword", "parameters", "mail"),
    [
        ("SIZE", "SIZE=7", Mail(ANN, size=7)),
        ("8BITMIME", "BODY=8BITMIME", Mail(ANN, "8BITMIME")),
        ("SMTPUTF8", "SMTPUTF8", Mail(ANN, smtputf8=True)),
        ("DSN", "RET=HDRS ENVID=a+2Bb", Mail(ANN, ret="HDRS", envid="a+b")),
        ("REQUIRETLS", "REQUIRETLS", Mail(ANN, requiretls=True)),
        ("DELIVERBY", "BY=120;R", Mail(ANN, by=DeliverBy(120, "R"))),
        ("FUTURERELEASE", "HOLDFOR=60", Mail(ANN, hold=FutureRelease(60, "FOR"))),
        ("FUTURERELEASE", "HOLDUNTIL=1970-01-01T00:01:00Z", Mail(ANN, hold=FutureRelease(60, "UNTIL"))),
        ("MT-PRIORITY", "MT-PRIORITY=-3", Mail(ANN, priority=-3)),
        ("AUTH", "AUTH=<>", Mail(ANN, auth="")),
        ("XVERP", "XVERP", Mail(ANN, verp="+=")),
        ("XVERP", "XVERP=-+", Mail(ANN, verp="-+")),
        ("XVERP", "XVERP==+", Mail(ANN, verp="=+")),
    ],
)
def test_a_parameter_of_mail_exists_where_its_extension_does(keyword: str, parameters: str, mail: Mail) -> None:
    line = f"MAIL FROM:<ann@xx.example> {parameters}\r\n".encode()
    peer = Peer(WITH_ALL)
    assert peer.codes(b"EHLO a\r\n" + line)[-1] == "250 2.1.0"
    assert peer.events[-1] == MailFrom(mail)
    assert Peer(attrs.evolve(WITH_ALL, extensions=ALL - {keyword})).codes(b"EHLO a\r\n" + line)[-1] == "555 5.5.4"


@pytest.mark.parametrize(
    ("keyword", "parameters", "fields"),
    [
        (
            "DSN",
            "NOTIFY=DELAY,FAILURE ORCPT=rfc822;Bob@yy.example",
            {"notify": frozenset({"DELAY", "FAILURE"}), "orcpt": OriginalRecipient("rfc822", "Bob@yy.example")},
        ),
        ("RRVS", "RRVS=1970-01-01T00:01:00Z;C", {"rrvs": ValidSince(60, "C")}),
    ],
)
def test_a_parameter_of_rcpt_exists_where_its_extension_does(
    keyword: str, parameters: str, fields: dict[str, object]
) -> None:
    lines = f"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<bob@yy.example> {parameters}\r\n".encode()
    peer = Peer(WITH_ALL)
    assert peer.codes(lines)[-1] == "250 2.1.5"
    (event,) = [event for event in peer.events if isinstance(event, RcptTo)]
    assert event.recipient.address == BOB
    assert {name: getattr(event.recipient, name) for name in fields} == fields
    assert Peer(attrs.evolve(WITH_ALL, extensions=ALL - {keyword})).codes(lines)[-1] == "555 5.5.4"


# What each parameter may not be; a flag may have no value, all others must have one.
MALFORMED = {
    "SIZE": ("SIZE", "SIZE=", "SIZE=x", "SIZE=-1", "SIZE=1.5", f"SIZE={'1' * 21}"),
    "BODY": ("BODY", "BODY=", "BODY=9BIT", "BODY=BINARY"),
    "SMTPUTF8": ("SMTPUTF8=", "SMTPUTF8=YES"),
    "RET": ("RET", "RET=", "RET=BODY", "RET=FULL,HDRS"),
    "ENVID": ("ENVID", "ENVID=", "ENVID=a+0A", "ENVID=a+2b", f"ENVID={'x' * 101}"),
    "REQUIRETLS": ("REQUIRETLS=", "REQUIRETLS=YES"),
    "BY": ("BY", "BY=", "BY=60", "BY=0;R", "BY=-1;R", "BY=60;X", "BY=1234567890;R"),
    "HOLDFOR": ("HOLDFOR", "HOLDFOR=", "HOLDFOR=0", "HOLDFOR=-1", "HOLDFOR=1234567890"),
    "HOLDUNTIL": ("HOLDUNTIL", "HOLDUNTIL=", "HOLDUNTIL=tomorrow", "HOLDUNTIL=2026-13-01T00:00:00Z"),
    "MT-PRIORITY": ("MT-PRIORITY", "MT-PRIORITY=", "MT-PRIORITY=10", "MT-PRIORITY=-10", "MT-PRIORITY=x"),
    "AUTH": ("AUTH", "AUTH=", "AUTH=a+2", "AUTH=a+0A"),
    "NOTIFY": ("NOTIFY", "NOTIFY=", "NOTIFY=NEVER,SUCCESS", "NOTIFY=ALWAYS", "NOTIFY=SUCCESS,"),
    "ORCPT": ("ORCPT", "ORCPT=", "ORCPT=x@y", "ORCPT=rfc822;a+0A", f"ORCPT=rfc822;{'x' * 501}"),
    "XVERP": ("XVERP=", "XVERP=+", "XVERP=+==", "XVERP=ab"),
    "RRVS": ("RRVS", "RRVS=", "RRVS=yesterday", "RRVS=2026-11-29T01:50:00Z;X", "RRVS=2026-11-29"),
}


def said(parameters: str, of: str) -> str:
    """The answer to MAIL, or to RCPT, with these parameters."""
    mail = offer(WITH_ALL, True).mail
    start = "MAIL FROM:<>" if of in mail else "MAIL FROM:<>\r\nRCPT TO:<bob@yy.example>"
    return Peer(WITH_ALL).codes(f"EHLO a\r\n{start} {parameters}\r\n".encode())[-1]


@pytest.mark.parametrize(
    ("keyword", "parameter"), [(name, each) for name, all_of in MALFORMED.items() for each in all_of]
)
def test_a_malformed_parameter_is_501(keyword: str, parameter: str) -> None:
    assert said(parameter, keyword) == "501 5.5.4"


def test_every_parameter_has_malformed_ones_here() -> None:
    everything = offer(WITH_ALL, True)
    assert MALFORMED.keys() == everything.mail.keys() | everything.rcpt.keys()


@pytest.mark.parametrize("keyword", MALFORMED)
def test_a_parameter_is_given_once_and_where_it_belongs(keyword: str) -> None:
    sample = SAMPLES[keyword]
    assert said(f"{sample} {sample.lower()}", keyword) == "501 5.5.4"
    assert said(sample, "NOTIFY" if keyword in offer(WITH_ALL, True).mail else "SIZE") == "555 5.5.4"


@pytest.mark.parametrize("parameter", ["FOO", "FOO=bar", "XFOO=1", "SIZES=1", "BODY-TYPE=7BIT"])
def test_an_unknown_parameter_is_555(parameter: str) -> None:
    assert said(parameter, "SIZE") == said(parameter, "NOTIFY") == "555 5.5.4"


@pytest.mark.parametrize("parameter", ["=1", "-A=1", "SIZE==1", "SIZE=1=2", "A_B=1", "SIZE =1", "\xe4=1"])
def test_what_is_no_parameter_is_501(parameter: str) -> None:
    assert said(parameter, "SIZE") == "501 5.5.4"


def test_one_way_to_hold_a_message_alone() -> None:
    assert said("HOLDFOR=60 HOLDUNTIL=2026-11-29T01:50:00Z", "HOLDFOR") == "501 5.5.4"


@pytest.mark.parametrize("keyword", sorted(ALL))
def test_an_extension_adds_its_octets_to_the_line_limits(keyword: str) -> None:
    whole, less = (offer(attrs.evolve(WITH_ALL, extensions=each), True) for each in (ALL, ALL - {keyword}))
    # With 8BITMIME and CHUNKING go those that are offered with them alone.
    gone = [row for row in EXTENSIONS if row.keyword in whole.lines.keys() - less.lines.keys()]
    assert keyword in whole.lines.keys() - less.lines.keys() or keyword in ("STARTTLS", "ETRN")
    mail = {each.keyword: each for row in gone for each in row.mail if each.keyword not in less.mail}
    assert whole.octets["MAIL"] - less.octets["MAIL"] == sum(each.octets for each in mail.values())
    assert whole.octets["RCPT"] - less.octets["RCPT"] == sum(each.octets for row in gone for each in row.rcpt)
    more = whole.octets.get("VRFY", 0) - less.octets.get("VRFY", 0)
    assert more == sum(row.octets.get("VRFY", 0) for row in gone)


def test_the_limits_of_standards() -> None:
    # RFC 1870 3, RFC 6152 2, RFC 6531 3.1, RFC 8689 2, RFC 2852 3, RFC 6710 3; RFC 4954 3 and RFC 4865 3 want less.
    octets = {row.keyword: sum(each.octets for each in row.mail) for row in EXTENSIONS}
    exactly = {"SIZE": 26, "8BITMIME": 17, "SMTPUTF8": 10, "REQUIRETLS": 11, "DELIVERBY": 17, "MT-PRIORITY": 15}
    assert exactly.items() <= octets.items()
    assert octets["AUTH"] >= 500
    assert octets["FUTURERELEASE"] >= 34


def padded(start: bytes, size: int) -> bytes:
    return start + b" " * (size - len(start) - 2) + b"\r\n"


@pytest.mark.parametrize("settings", [SETTINGS, WITH_ALL])
def test_lines_at_the_limit_and_one_over_it(settings: SmtpSettings) -> None:
    for before, verb, start, status in (
        (b"EHLO a\r\n", "MAIL", b"MAIL FROM:<ann@xx.example>", "250 2.1.0"),
        (STATES["SENDER"], "RCPT", b"RCPT TO:<bob@yy.example>", "250 2.1.5"),
        (b"EHLO a\r\n", "VRFY", b"VRFY ann", "252 2.1.5"),
        (b"EHLO a\r\n", "NOOP", b"NOOP", "250 2.0.0"),
    ):
        limit = VERBS[verb].limit + offer(settings, settings.secure).octets.get(verb, 0)
        assert Peer(settings).codes(before + padded(start, limit))[-1] == status
        assert Peer(settings).codes(before + padded(start, limit + 1))[-1] == "500 5.5.2"


def test_all_parameters_at_their_longest_are_taken() -> None:
    auth = f"{'+62' * 120}{'b' * 18}@{'d' * 60}.{'d' * 60}"
    assert len(auth) == 500
    line = (
        f"MAIL FROM:<ann@xx.example> SIZE={'1' * 7:0>20} BODY=8BITMIME SMTPUTF8 RET=FULL ENVID={'a' * 100} REQUIRETLS "
        f"BY=+999999999;NT HOLDUNTIL=9998-12-31T23:59:59.123456789+00:00 MT-PRIORITY=-9 AUTH={auth}\r\n"
    )
    assert Peer(WITH_ALL).codes(b"EHLO a\r\n" + line.encode())[-1] == "250 2.1.0"


def test_a_verb_of_an_extension_that_is_not_named() -> None:
    peer = Peer(attrs.evolve(SUBMISSION, extensions=COMPLETE - {"STARTTLS", "AUTH"}, require_tls=False))
    replies = peer.codes(b"EHLO a\r\nSTARTTLS\r\nAUTH PLAIN\r\nHELP\r\n")
    assert replies == ["250", "502 5.5.1", "538 5.7.11", "214 2.0.0"]
    assert b"STARTTLS" not in peer.send(b"HELP\r\n")


def test_what_was_offered_before_tls_is_offered_anew_after_it() -> None:
    def answer(server: SmtpServer, event: Event) -> None:
        accept_all(server, event)
        if isinstance(event, StartTls):
            assert "AUTH" in server.offer.lines

    peer = Peer(SUBMISSION, answer)
    assert "AUTH" not in peer.server.offer.lines
    assert peer.codes(b"EHLO a\r\nSTARTTLS\r\n")[-1] == "220 2.0.0"


def test_what_is_repaired_away_counts_on_the_wire() -> None:
    peer = Peer(attrs.evolve(SETTINGS, bare_lines=BareLines.NORMALISE, message_size_limit=1000))
    peer.send(STATES["RECIPIENTS"] + b"DATA\r\n")
    replies = b"".join(peer.send(b"\0" * 10000) for _ in range(10))
    assert replies == b"552 5.3.4 Message is too large\r\n"
    assert peer.server.closing


def test_parameters_for_a_hop() -> None:
    hop = terms(["DSN", "SIZE", "XFOO", "REQUIRETLS"], False)
    assert [each.keyword for each in (*hop.mail, *hop.rcpt)] == ["RET", "ENVID", "NOTIFY", "ORCPT"]
    assert [each.parameter.keyword for each in (*hop.mail_demands, *hop.rcpt_demands)] == ["REQUIRETLS", "BY", "RRVS"]
    assert [each.keyword for each in terms(["REQUIRETLS"], True).mail] == ["REQUIRETLS"]


SAMPLES = {
    "SIZE": "SIZE=7",
    "BODY": "BODY=8BITMIME",
    "SMTPUTF8": "SMTPUTF8",
    "RET": "RET=FULL",
    "ENVID": "ENVID=x",
    "REQUIRETLS": "REQUIRETLS",
    "BY": "BY=60;R",
    "HOLDFOR": "HOLDFOR=60",
    "HOLDUNTIL": "HOLDUNTIL=2026-11-29T01:50:00Z",
    "MT-PRIORITY": "MT-PRIORITY=1",
    "AUTH": "AUTH=<>",
    "XVERP": "XVERP=-=",
    "NOTIFY": "NOTIFY=DELAY",
    "ORCPT": "ORCPT=rfc822;b@yy.example",
    "RRVS": "RRVS=2026-11-29T01:50:00Z;C",
}


def test_every_parameter_of_an_extension_is_kept_in_the_queue() -> None:
    everything = offer(WITH_ALL, True)
    assert SAMPLES.keys() == everything.mail.keys() | everything.rcpt.keys()
    for keyword in everything.mail.keys() - {"BODY", "SMTPUTF8", "XVERP"}:
        mail = parse_mail(f"FROM:<ann@xx.example> {SAMPLES[keyword]}", everything.mail)
        assert mail != Mail(ANN)
        assert with_mail_parameters(Mail(ANN), mail_parameters(mail)) == mail
    for keyword in everything.rcpt:
        argument = f"TO:<bob@yy.example> {SAMPLES[keyword]}"
        recipient = parse_rcpt(argument, everything.rcpt, smtputf8=False, postmaster_domain="")
        assert recipient != Recipient(BOB)
        assert with_recipient_parameters(Recipient(BOB), recipient_parameters(recipient)) == recipient


def test_a_refused_data_is_followed_by_commands() -> None:
    peer = Peer(answer=refusing(DataStart, reply(451, "4.3.1", "No room")))
    assert peer.codes(STATES["RECIPIENTS"] + b"DATA\r\nNOOP\r\n")[-2:] == ["451 4.3.1", "250 2.0.0"]
    assert peer.server.data_octets == 0
    with pytest.raises(RuntimeError):
        peer.server.refuse_body(reply(451, "4.3.1", "No room"))
