"""A mailing list as it is set up, and what it does to the header of a message (RFC 2369, RFC 2919). Pure.

What is sent to a list goes on to its members in the list's name. A group is a list that leaves the header alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal
from urllib.parse import quote

import attrs

from mailhub.message.address import POSTMASTER, Address
from mailhub.message.header import Header, raw_fields
from mailhub.message.patterns import AddressPatterns

Post = Literal["anyone", "members", "owners", "named"]

MEMBERS_LIMIT = 10_000
OWNERS_LIMIT = 100
SUSPEND_DAYS_LIMIT = 60
# Where failures are told, and who is responsible: the owners.
OWNER, BOUNCES = "-owner", "-bounces"
# Who is asked by mail; what nobody but a person can decide goes on to the owners.
REQUEST, SUBSCRIBE, UNSUBSCRIBE = "-request", "-subscribe", "-unsubscribe"
REQUESTS = (REQUEST, UNSUBSCRIBE, SUBSCRIBE)
ROLES = (OWNER, BOUNCES, *REQUESTS)

_FIELDS = frozenset(
    {
        *(b"list-id", b"list-help", b"list-unsubscribe", b"list-subscribe", b"list-post", b"list-owner"),
        b"list-unsubscribe-post",  # List-Archive stays: we have none (RFC 2369 4)
    }
)
_ATEXT = "!#$&'*+-/=?^_`{|}~"  # what stands in a dot-atom beside letters and digits (RFC 5322 3.2.3), less the %
_SUBJECT = re.compile(rb"^(subject[ \t]*:[ \t]*)", re.IGNORECASE | re.MULTILINE)
_NO_PHRASE = re.compile(r'[^\x20-\x7e]|["\\<>]')


def _address(text: str) -> str:
    return str(Address.parse(text))


def _addresses(texts: Collection[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_address(text) for text in texts))


def _texts(texts: Collection[str]) -> tuple[str, ...]:
    return tuple(texts)


def _up_to(most: int) -> Callable[[object, attrs.Attribute[Any], tuple[object, ...]], None]:
    def check(_: object, field: attrs.Attribute[Any], value: tuple[object, ...]) -> None:
        if len(value) > most:
            raise ValueError(f"must not have more than {most}")

    return check


def _patterns(_: object, field: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    AddressPatterns.parse(value)


def _line(_: object, field: attrs.Attribute[Any], value: str) -> None:
    if len(value) > 100 or _NO_PHRASE.search(value):
        raise ValueError('must be at most 100 printable characters of ASCII, without " \\ < >')


@attrs.frozen
class MailingList:
    """What can be set about a list.

    `owners` get its failures; without, postmaster does. `post` says who may post: anyone, the members, the owners
    alone, or who is named in `posters` (`AddressPatterns`); owners always may. `message_size_bytes`: larger ones are
    refused, 0 for no bound of its own. `hold_others`: posts of others wait for an owner and are not refused.
    `join_by_mail` and `leave_by_mail`: whether who asks by mail, and confirms it, is let in or out. `verp`: the
    reverse-path names the member, and who has mail come back that was sent on `suspend_after_days` different days, none
    of it delivered in between, gets none until it is resumed; 0 for never. The other keys are about the header, which a
    `group` leaves alone.
    """

    owners: tuple[str, ...] = attrs.field(default=(), converter=_addresses, validator=_up_to(OWNERS_LIMIT))
    members: tuple[str, ...] = attrs.field(default=(), converter=_addresses, validator=_up_to(MEMBERS_LIMIT))
    post: Post = "members"
    posters: tuple[str, ...] = attrs.field(default=(), converter=_texts, validator=[_up_to(1000), _patterns])
    group: bool = False
    name: str = attrs.field(default="", validator=_line)
    subject_prefix: str = attrs.field(default="", validator=_line)
    reply_to_list: bool = False
    message_size_bytes: int = 0
    hold_others: bool = False
    join_by_mail: bool = False
    leave_by_mail: bool = True
    verp: bool = False
    suspend_after_days: int = 5

    def takes(self, verb: str) -> bool:
        """Whether who asks for it by mail need not ask an owner: to `subscribe`, to `unsubscribe`."""
        return {"subscribe": self.join_by_mail, "unsubscribe": self.leave_by_mail}.get(verb, False)

    def __attrs_post_init__(self) -> None:
        """Raises ValueError for keys that do not go together."""
        if (self.post == "named") != bool(self.posters):
            raise ValueError('post = "named" and posters go together')
        if self.group and (self.name or self.subject_prefix or self.reply_to_list):
            raise ValueError("a group leaves the header alone: it has no name, subject_prefix or reply_to_list")
        if self.message_size_bytes < 0:
            raise ValueError("message_size_bytes must not be negative")
        if not 0 <= self.suspend_after_days <= SUSPEND_DAYS_LIMIT:
            raise ValueError(f"suspend_after_days must be from 0 to {SUSPEND_DAYS_LIMIT}")


def list_of(text: str) -> MailingList:
    """One as the database keeps it. What a newer version may have said besides is passed over; what is beyond use
    makes a list that takes nothing but from its owners."""
    try:
        values = json.loads(text)
        known = {field.name for field in attrs.fields(MailingList)}
        return MailingList(**{name: value for name, value in values.items() if name in known})
    except (ValueError, TypeError, AttributeError):
        return MailingList(post="owners")


def text_of(settings: MailingList) -> str:
    """The other way; members have a table of their own."""
    usual = MailingList()
    values = attrs.asdict(settings, filter=lambda field, value: value != getattr(usual, field.name))
    values.pop("members", None)
    return json.dumps(values, sort_keys=True)


def role(address: Address, suffix: str) -> Address:
    """The address of a list's owners: `team-owner@example.org`."""
    return attrs.evolve(address, local=address.local + suffix)


def owners_of(settings: MailingList, address: Address) -> list[Address]:
    """Who answers for a list: its owners, or the postmaster of its domain."""
    return [Address.parse(text) for text in settings.owners] or [Address(POSTMASTER, address.domain)]


def list_of_role(lists: Mapping[str, MailingList], address: Address) -> str:
    """The list that a service address belongs to, such as `team-owner@example.org`; "" for any other."""
    local = address.local.lower()
    names = [attrs.evolve(address, local=local[: -len(end)]).key for end in ROLES if local.endswith(end)]
    return next((name for name in names if name in lists), "")


def unfit(lists: Mapping[str, MailingList], name: str, address: Address, what: Literal["owner", "member"]) -> str:
    """Why an address can be no owner, or no member, of the list `name`; "" where it can."""
    if address.key == name:
        return "it is the list itself"
    if list_of_role({**lists, name: lists.get(name, MailingList())}, address) == name:
        return "it is an address of the list itself"
    other = lists.get(address.key)
    if what == "owner" and other is not None and not (other.group and other.post == "anyone"):
        return "it is a list that takes no reports"
    return ""


def is_ours(header: bytes, address: Address) -> bool:
    """Whether a message has been through this list."""
    wanted = f"<{_list_id(address)}>".lower().encode()
    return any(wanted in value.lower() for value in Header(header).all(b"list-id"))


def for_members(header: bytes, settings: MailingList, address: Address) -> bytes:
    """The header that members get. Fields of a list before us are replaced (RFC 2369 4, RFC 2919 7)."""
    if settings.group:
        return header
    names = _FIELDS | {b"reply-to"} if settings.reply_to_list else _FIELDS
    kept = b"".join([octets for name, octets in raw_fields(header) if name not in names])
    reply_to = f"Reply-To: {address}\r\n".encode() if settings.reply_to_list else b""
    return list_fields(settings, address) + reply_to + _with_prefix(kept, settings.subject_prefix)


def editing_of(settings: MailingList) -> dict[str, Any]:
    """What `for_members` goes by: a list that is made of it edits a header in the same way."""
    if settings.group:
        return {"group": True}
    return {
        "name": settings.name,
        "subject_prefix": settings.subject_prefix,
        "reply_to_list": settings.reply_to_list,
        "post": "owners" if settings.post == "owners" else "anyone",
    }


def list_fields(settings: MailingList, address: Address) -> bytes:
    """What stands in all mail of a list, its answers, too (RFC 2369 3, RFC 2919 3); a group has none."""
    if settings.group:
        return b""
    mailto = f"mailto:{_quoted(address)}"
    request = f"mailto:{_quoted(role(address, REQUEST))}"
    phrase = f'"{settings.name}" ' if settings.name else ""
    lines = [
        f"List-Id: {phrase}<{_list_id(address)}>",
        f"List-Help: <{request}?subject=help>",
        f"List-Subscribe: <{request}?subject=subscribe>",
        f"List-Unsubscribe: <{request}?subject=unsubscribe>",
        f"List-Owner: <mailto:{_quoted(role(address, OWNER))}>",
        "List-Post: NO" if settings.post == "owners" else f"List-Post: <{mailto}>",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _quoted(address: Address) -> str:
    return f"{quote(address.local, safe='')}@{address.ascii_domain}"


def _list_id(address: Address) -> str:
    """RFC 2919 2: a dot-atom, whatever the local part is."""
    local = ".".join(filter(None, (quote(part, safe=_ATEXT) for part in address.local.lower().split("."))))
    return f"{local}.{address.ascii_domain}"


def _with_prefix(header: bytes, prefix: str) -> bytes:
    octets = prefix.encode()
    if not octets:
        return header
    subject = Header(header).first(b"subject")
    if subject is None:
        return b"Subject: " + octets + b"\r\n" + header
    if octets.lower() in subject.lower():
        return header
    return _SUBJECT.sub(rb"\g<1>" + octets.replace(b"\\", b"\\\\") + b" ", header, count=1)
