"""What a list does to a header, and how it is kept."""

from __future__ import annotations

import pytest

from mailhub.message.address import Address
from mailhub.message.lists import MailingList, for_members, is_ours, list_of, text_of

TEAM = Address("Team", "xx.example")
HEADER = b"Received: x\r\n\tby y\r\nlist-id: Old <old.example>\r\nSubject: Re: hello\r\nReply-To: a@b.example\r\n"


def edited(settings: MailingList, header: bytes = HEADER, address: Address = TEAM) -> str:
    return for_members(header, settings, address).decode()


def test_the_fields_of_a_list_stand_in_the_place_of_those_before() -> None:
    assert edited(MailingList(name="The team")) == (
        'List-Id: "The team" <team.xx.example>\r\n'
        "List-Help: <mailto:Team-request@xx.example?subject=help>\r\n"
        "List-Subscribe: <mailto:Team-request@xx.example?subject=subscribe>\r\n"
        "List-Unsubscribe: <mailto:Team-request@xx.example?subject=unsubscribe>\r\n"
        "List-Owner: <mailto:Team-owner@xx.example>\r\n"
        "List-Post: <mailto:Team@xx.example>\r\n"
        "Received: x\r\n\tby y\r\nSubject: Re: hello\r\nReply-To: a@b.example\r\n"
    )
    assert "List-Post: NO\r\n" in edited(MailingList(post="owners"))
    assert edited(MailingList(group=True)) == HEADER.decode()


def test_an_archive_of_a_list_before_us_stays_where_it_is() -> None:
    """RFC 2369 4: we have none."""
    there = b"List-Archive: <https://old.example/>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    text = edited(MailingList(), there + HEADER)
    assert text.count("List-Archive: <https://old.example/>\r\n") == 1
    assert "Post: List-Unsubscribe" not in text


def test_names_that_are_no_words_are_written_so_that_they_are() -> None:
    odd = Address('b n<>"é', "bücher.example")
    text = edited(MailingList(), address=odd)
    assert "List-Id: <b%20n%3C%3E%22%C3%A9.xn--bcher-kva.example>\r\n" in text
    assert "<mailto:b%20n%3C%3E%22%C3%A9@xn--bcher-kva.example>" in text


def test_a_prefix_stands_once() -> None:
    settings = MailingList(subject_prefix="[T]")
    once = edited(settings)
    assert "Subject: [T] Re: hello\r\n" in once
    assert edited(settings, once.encode()).count("[T]") == 1
    assert "Subject: [T]\r\n" in edited(settings, b"From: a@b.example\r\n")
    assert "SUBJECT:\r\n\tx" not in edited(settings, b"SUBJECT:\r\n\tx\r\n")


def test_replies_can_go_to_the_list() -> None:
    text = edited(MailingList(reply_to_list=True))
    assert (text.count("Reply-To"), "Reply-To: Team@xx.example\r\n" in text) == (1, True)


def test_what_has_been_through_a_list_is_known() -> None:
    assert is_ours(edited(MailingList()).encode(), Address("team", "XX.example".lower()))
    assert not is_ours(HEADER, TEAM)


def test_it_is_kept_as_text_and_what_cannot_be_read_opens_nothing() -> None:
    settings = MailingList(owners=("a@xx.example",), post="named", posters=("*.xx.example",), name="T")
    assert list_of(text_of(settings)) == settings
    assert list_of('{"newer": 1}') == MailingList()
    for text in ("", "[]", '{"post": "named"}', '{"owners": ["no"]}'):
        assert list_of(text) == MailingList(post="owners")


@pytest.mark.parametrize(
    "values",
    [
        {"post": "named"},
        {"posters": ("a@b.example",)},
        {"group": True, "subject_prefix": "x"},
        {"name": 'a"b'},
        {"name": "a\r\nb"},
        {"subject_prefix": "é"},
        {"owners": ("nobody",)},
        {"members": tuple(f"m{number}@b.example" for number in range(10_001))},
        {"message_size_bytes": -1},
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        MailingList(**values)  # type: ignore[arg-type]
