"""SEARCH: every key on real messages, what is read for it, and texts that are cut anywhere."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.digest import columns, digest
from mailhub.message.flags import DELETED, FLAGGED, SEEN
from mailhub.message.record import Entry
from mailhub.wire.imap import search_matching
from mailhub.wire.imap.search_grammar import search_program
from mailhub.wire.imap.search_matching import Candidate, Finder, Query, Source, decoder, stretches
from mailhub.wire.imap.tokens import Tokens

NOON = 1_767_268_800  # 2026-01-01 12:00 UTC

MESSAGES = {
    1: (
        b"From: Anne <anne@xx.example>\r\nTo: bob@yy.example\r\nCc: carl@zz.example\r\n"
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus Wien\r\nDate: Wed, 31 Dec 2025 23:30:00 -0500\r\n"
        b"X-Mailer: Pegasus\r\n\r\nHello World\r\n"
    ),
    2: (
        b"From: bob@yy.example\r\nBcc: secret@xx.example\r\nSubject: Report\r\n"
        b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"Der M=FCller fragt nach dem Z=\r\nahlungsziel\r\n"
    ),
    3: (
        b"Subject: Forward\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"
        b"--B\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes("<p>Straßenbahn</p>".encode())
        + b"--B\r\nContent-Type: application/pdf\r\n\r\nhidden words\r\n"
        b"--B\r\nContent-Type: message/rfc822\r\n\r\nSubject: Nested subject\r\n\r\nNested body\r\n--B--\r\n"
    ),
    4: b"X-Empty:\r\nDate: nonsense\r\n\r\n",
}
ENTRIES = {
    1: Entry(10, frozenset({SEEN}), 1, len(MESSAGES[1]), NOON),
    2: Entry(20, frozenset({FLAGGED, "Work"}), 2, len(MESSAGES[2]), NOON + 86400),
    3: Entry(30, frozenset({SEEN, DELETED}), 3, len(MESSAGES[3]), NOON + 2 * 86400),
    4: Entry(40, frozenset(), 4, len(MESSAGES[4]), NOON + 2 * 86400 + 43199),
}
RECENT = {4}


def query(text: str) -> Query:
    return Query(search_program(Tokens(text.encode()), "utf-8"), len(MESSAGES), 40)


def examine(asked: Query, number: int) -> tuple[bool, Source]:
    """The answer, and the dearest source it took."""
    octets = MESSAGES[number]
    found = digest(octets)
    candidate = Candidate(number, ENTRIES[number], number in RECENT)
    for source in Source:
        if source is Source.DIGEST:
            assert candidate.has_digest(columns({candidate.entry.uid: found}, asked.wanted))
        elif source is Source.HEADER:
            candidate.has_header(octets[: found.header_size])
        elif source is Source.BODY:
            candidate.found = find(asked.texts, octets)
        for _ in candidate.survey(asked.sought):
            pass
        answer = asked.check(candidate)
        if answer is not None:
            assert source <= asked.source
            return answer, source
    raise AssertionError("a query must know the answer in the end")


def find(texts: set[str], octets: bytes, block: int = 7) -> set[str]:
    finder = Finder(texts)
    for stretch in stretches(digest(octets).parts):
        decode = decoder(stretch)
        for start in range(stretch.start, stretch.end, block):
            feed(finder, decode.feed(octets[start : min(start + block, stretch.end)]))
        feed(finder, decode.finish())
        finder.end()
    return finder.found


def feed(finder: Finder, text: str) -> int:
    """How often it paused."""
    return len(list(finder.feed(text)))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("ALL", [1, 2, 3, 4]),
        ("SEEN", [1, 3]),
        ("UNSEEN", [2, 4]),
        ("KEYWORD Work", [2]),
        ("UNKEYWORD Work", [1, 3, 4]),
        ("RECENT", [4]),
        ("OLD", [1, 2, 3]),
        ("NEW", [4]),
        ("2:3", [2, 3]),
        ("1,4", [1, 4]),
        ("3:*", [3, 4]),
        ("9:*", [4]),
        ("UID 20:30", [2, 3]),
        ("UID 41:*", [4]),
        ("UID 10,40", [1, 4]),
        ("LARGER 300", [3]),
        ("SMALLER 100", [4]),
        ("ON 1-Jan-2026", [1]),
        ("BEFORE 2-Jan-2026", [1]),
        ("SINCE 2-Jan-2026", [2, 3, 4]),
        ("ON 3-Jan-2026", [3, 4]),
        ("SENTON 31-Dec-2025", [1]),
        ("SENTBEFORE 1-Jan-2026", [1]),
        ("SENTSINCE 1-Jan-2026", []),
        ("NOT SENTON 31-Dec-2025", [2, 3, 4]),
        ("FROM anne@XX", [1]),
        ("TO BOB", [1]),
        ("CC carl", [1]),
        ("BCC secret", [2]),
        ('SUBJECT "GRÜSSE"', [1]),
        ('SUBJECT "aus wien"', [1]),
        ("HEADER X-Mailer pegasus", [1]),
        ('HEADER X-Empty ""', [4]),
        ('HEADER X-Mailer ""', [1]),
        ("BODY world", [1]),
        ('BODY "müller"', [2]),
        ("BODY zahlungsziel", [2]),
        ("BODY STRASSENBAHN", [3]),
        ("BODY hidden", []),
        ('BODY "nested subject"', [3]),
        ('BODY "nested body"', [3]),
        ("BODY pegasus", []),
        ("TEXT pegasus", [1]),
        ("TEXT world", [1]),
        ("TEXT report", [2]),
        ('BODY ""', [1, 2, 3, 4]),
        ("OR SEEN FLAGGED", [1, 2, 3]),
        ("NOT (SEEN DELETED)", [1, 2, 4]),
        ("OR (SEEN BODY world) (UNSEEN SUBJECT report)", [1, 2]),
        ("NOT OR BODY world BODY nested", [2, 4]),
    ],
)
def test_keys(text: str, numbers: list[int]) -> None:
    asked = query(text)
    assert [number for number in MESSAGES if examine(asked, number)[0]] == numbers


# The envelope's address user@xx.example, as it can be written.
_USER = [
    b"user@xx.example",
    b"<user@xx.example>",
    b"Real Name <user@xx.example>",
    b'"Real Name" <user@xx.example>',
    b"=?utf-8?q?Real?=\r\n =?utf-8?q?_Name?= <user@xx.example>",
    b"user@xx.example (Real Name)",
    b"<user (comment)@ (comment) xx.example>",
    b"user (a) @ (b (c)) xx . example",
    b"<@one.example,@two.example:user@xx.example>",
    b"Some group: Real Name <user@xx.example>, other@yy.example;",
    b"other@yy.example,\r\n\t<user@\r\n xx.example>",
    b"<USER@XX.EXAMPLE>",
]


def answers(text: str, header: bytes) -> bool:
    asked = query(text)
    candidate = Candidate(1, ENTRIES[1], False)
    candidate.has_digest(columns({10: digest(header)}, asked.wanted))
    candidate.has_header(header)
    if asked.source is Source.BODY:
        candidate.found = find(asked.texts, header)
    return bool(asked.check(candidate))


@pytest.mark.parametrize("value", _USER)
@pytest.mark.parametrize("name", ["FROM", "TO", "CC", "BCC"])
def test_addresses_are_those_of_the_envelope(name: str, value: bytes) -> None:
    header = name.encode() + b": " + value + b"\r\nSubject: x\r\n\r\n"
    assert answers(f"{name} user@xx.example", header)
    assert answers(f'{name} "<user@xx.example>"', header)
    assert answers(f'{name} "real name"', header) == (b"Real" in value)
    assert answers(f"{name} comment", header) == (b'"comment"' in digest(header).envelope)
    assert not answers(f"{name} utf-8", header)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (b'"Doe, John" <j@xx.example>', ["doe, john", '\\"Doe, John\\" <j@', "Doe, John <j@xx.example>"]),
        (b'"john doe"@xx.example', ['\\"john doe\\"@xx', "john doe@xx.example"]),
        (b"=?utf-8?B?SsO8cmdlbiA=?= =?utf-8?B?R3LDvG4=?= <j@xx.example>", ["jürgen grün <j@xx"]),
        (b"=?utf-8?B?SsM=?=\r\n =?utf-8?B?vHJnZW4=?= <j@xx.example>", ["JÜRGEN"]),
        (b"J\xc3\xbcrgen <j@xx.example>", ["jürgen"]),
        (b"J\xfcrgen <j@xx.example>", ["jürgen"]),
        (b"=?utf-8?q?Team?=: a@xx.example;", ["team", "a@xx.example"]),
        (b"undisclosed-recipients:;", ["undisclosed-recipients"]),
        (b"somebody", ["somebody"]),
        (b"One\r\n\t Two <a@xx.example>", ["one two <a@xx.example>"]),
        (b"<@one.example,@two.example:a@xx.example>", ["@one.example", "<a@xx.example>"]),
        (b"", [""]),
    ],
)
def test_addresses_are_found_as_a_reader_sees_them(value: bytes, texts: list[str]) -> None:
    header = b"To: " + value + b"\r\n\r\n"
    for text in texts:
        assert answers(f'TO "{text}"' if text.isascii() else f"TO {{{len(text.encode())}+}}\r\n{text}", header), text
    assert not answers('TO "MISSING_"', header)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?utf-8?B?5pel5pw=?= =?utf-8?B?rA==?=", "日本"),
        (b"=?utf-8?B?5pel5pw=?=\r\n =?utf-8?B?rA==?=", "日本"),
        (b"one\r\n two", "one two"),
        (b"one \r\n\t  two", "one two"),
        (b"one\r\n =?utf-8?q?tw=C3=B6?=\r\n three", "one twö three"),
        (b"=?utf-8?q?one?=\r\n\t=?iso-8859-1?q?tw=F6?=", "onetwö"),
        (b"Stra\xc3\x9fe", "STRASSE"),
        (b"\xef\xbc\xa1\xef\xbc\xa2", "ab"),
    ],
)
@pytest.mark.parametrize("key", ["SUBJECT", "HEADER SUBJECT", "TEXT"])
def test_fields_are_unfolded_and_decoded(key: str, value: bytes, text: str) -> None:
    header = b"From: a\r\nSubject: " + value + b"\r\n\r\n"
    assert answers(f"{key} {{{len(text.encode())}+}}\r\n{text}", header)


@pytest.mark.parametrize("key", ["SUBJECT", "HEADER SUBJECT", "TEXT", "BODY"])
def test_encoded_words_are_not_searched_as_they_stand(key: str) -> None:
    field = b"Subject: =?utf-8?B?w4nd?=\r\n"
    whole = field + b"Content-Type: message/rfc822\r\n\r\n" + field + b"\r\n"
    for text in ("w4nd", "utf-8", "=?"):
        assert not answers(f'{key} "{text}"', whole)
    assert answers(f"{key} {{2+}}\r\né", whole)


def test_of_a_field_that_comes_twice_subject_is_the_first_and_header_any() -> None:
    header = b"Subject: one\r\nTo: a@xx.example\r\nSubject: two\r\nTo: b@xx.example\r\n\r\n"
    assert answers("SUBJECT one HEADER SUBJECT one HEADER SUBJECT two TO a@xx.example TO b@xx.example", header)
    assert not answers("SUBJECT two", header)
    assert not answers('HEADER SUBJECT "one, two"', header)


def test_header_searches_the_text_of_address_fields_too() -> None:
    header = b"From: =?utf-8?q?J=C3=B6rg?= (a\r\n\tcomment) <a@xx.example>\r\n\r\n"
    assert answers('HEADER FROM "a comment" HEADER FROM {5+}\r\njörg HEADER From: ""', header)
    assert not answers('OR HEADER FROM "=?" HEADER TO ""', header)


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_fields_of_parts_are_unfolded_wherever_they_are_cut(block: int) -> None:
    field = b"X: y\r\nSubject: one\r\n\t =?utf-8?B?5pel5pw=?=\r\n =?utf-8?B?rA==?= two\r\n"
    whole = b"Content-Type: message/rfc822\r\n\r\n" + field + b"\r\nbody\r\n"
    assert find({"one 日本 two", "body"}, whole, block) == {"one 日本 two", "body"}


def test_of_a_field_without_end_not_all_is_held_back() -> None:
    decode = search_matching.HeaderDecoder()
    assert sum(len(decode.feed(b"\r\n " + b"x" * 1000)) for _ in range(1000)) > 900_000


@pytest.mark.parametrize(
    ("text", "number", "source"),
    [
        ("BODY world SEEN", 2, Source.ROW),
        ("OR BODY world UNSEEN", 2, Source.ROW),
        ("HEADER X-Mailer x SUBJECT nothing", 1, Source.DIGEST),
        ("FROM anne", 1, Source.DIGEST),
        ("HEADER X-Mailer pegasus", 1, Source.HEADER),
        ("TEXT pegasus", 1, Source.HEADER),
        ("TEXT world", 1, Source.BODY),
        ("NOT TEXT pegasus", 1, Source.HEADER),
    ],
)
def test_nothing_dearer_is_read_than_it_takes(text: str, number: int, source: Source) -> None:
    assert examine(query(text), number)[1] is source


def test_the_weight_counts_the_tests() -> None:
    assert query("ALL").weight == 1
    assert query("OR SEEN (FLAGGED DRAFT)").weight == 5


@pytest.mark.parametrize(("work", "small"), [(search_matching.WORK, search_matching._SMALL), (0, 0)])
def test_many_texts_in_a_large_header_are_found_with_pauses(
    work: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the texts are sought beforehand or one by one makes no difference to the answer."""
    monkeypatch.setattr(search_matching, "WORK", work)
    monkeypatch.setattr(search_matching, "_SMALL", small)
    monkeypatch.setattr(search_matching, "FIELDS", 2)
    header = b"Subject: abc\r\nX-One: one\r\nX-Two: =?utf-8?q?zw=C3=B6lf?=\r\nX-Two: last\r\nX-Three:\r\n\r\n"
    for text, answer, pauses in [
        ("TEXT abc TEXT {6+}\r\nZWÖLF TEXT one", True, 5),
        ("TEXT abc TEXT nowhere", None, 4),
        ("SUBJECT abc HEADER X-Two zwölf HEADER X-Two last", True, 3),
        ("SUBJECT abc OR HEADER X-Two abc HEADER X-None a", False, 2),
        ('HEADER X-Three ""', True, 0),
    ]:
        asked = query(text)
        candidate = Candidate(1, ENTRIES[1], False)
        candidate.has_digest(columns({10: digest(header)}, asked.wanted))
        candidate.has_header(header)
        assert len(list(candidate.survey(asked.sought))) == (pauses if not work else 0), text
        assert asked.check(candidate) is answer


def test_many_addresses_are_read_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_matching, "_SMALL", 0)
    monkeypatch.setattr(search_matching, "WORK", 0)
    monkeypatch.setattr(search_matching, "FIELDS", 2)
    header = b"To: " + b", ".join(b"user%d@xx.example" % number for number in range(5)) + b"\r\n\r\n"
    asked = query("TO user0@xx TO user4@xx NOT TO user5@xx")
    candidate = Candidate(1, ENTRIES[1], False)
    candidate.has_digest(columns({10: digest(header)}, asked.wanted))
    assert len(list(candidate.survey(asked.sought))) == 2 + 3
    assert asked.check(candidate)


def test_a_finder_pauses_for_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_matching, "WORK", 20)
    finder = Finder({f"{number:03}" for number in range(9)})
    assert feed(finder, "000 001 00") == 3
    assert feed(finder, "2") == 1
    assert finder.found == {"000", "001", "002"}


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet="ab", max_size=40), st.sets(st.text(alphabet="ab", max_size=4), max_size=4), st.integers(1, 9))
def test_texts_are_found_across_pieces(text: str, texts: set[str], size: int) -> None:
    finder = Finder(texts)
    for start in range(0, len(text), size):
        feed(finder, text[start : start + size])
    assert finder.found == {wanted for wanted in texts if wanted in text}


def test_texts_are_not_found_across_parts() -> None:
    finder = Finder({"ab"})
    feed(finder, "a")
    finder.end()
    feed(finder, "b")
    assert finder.found == set()
    assert not finder.done
