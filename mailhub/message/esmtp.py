"""The parameters of MAIL and RCPT, read and written (RFC 5321 4.1.2 esmtp-param): on the wire, and in the queue.

A row is a parameter: how its value becomes a field of `Mail` or `Recipient`, and back. Whoever reads says which rows
are offered; values are bounded here, so that what is read can be kept and sent on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import attrs

from mailhub.message.address import Address
from mailhub.message.envelope import (
    BodyType,
    DeliverBy,
    FutureRelease,
    Mail,
    Notify,
    OriginalRecipient,
    Recipient,
    ValidSince,
)


class ParameterError(ValueError):
    """A parameter is malformed; the text says how it should be."""


class UnknownParameter(ParameterError):
    """A parameter of no row that was asked for (RFC 5321 4.1.1.11: 555)."""


_DEFAULTS = {field.name: field.default for kind in (Mail, Recipient) for field in attrs.fields(kind)}


@attrs.frozen
class Parameter:
    """One parameter. `field` of Mail or Recipient is where its value stands, the field's default where it is not given.

    `parse` takes what follows the `=`, None where there is none, and raises ParameterError. `render` gives it back (""
    for None), or None where what was given is not of this keyword. `octets`: the longest form, its space too.
    """

    keyword: str
    field: str
    octets: int
    parse: Callable[[str | None], Any]
    render: Callable[[Any], str | None]
    default: Any = attrs.field(init=False)

    @default.default
    def _default(self) -> Any:
        return _DEFAULTS[self.field]


# esmtp-param = esmtp-keyword ["=" esmtp-value]; RFC 6531 3.3 adds what is beyond ASCII.
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+|[-=+]{2}))?")


def parse_parameters(text: str, rows: Mapping[str, Parameter]) -> dict[str, Any]:
    """What follows the path in MAIL or RCPT -> fields of Mail or Recipient. Raises ParameterError."""
    fields: dict[str, Any] = {}
    given: dict[str, str] = {}
    # At spaces alone: str.split() would take U+3000 and its kin for one, which RFC 6531 has within a value.
    for word in text.split(" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise ParameterError("Malformed parameter")
        keyword = match[1].upper()
        row = rows.get(keyword)
        if row is None:
            raise UnknownParameter(f"Unsupported parameter {keyword}")
        before = given.setdefault(row.field, keyword)
        if row.field in fields:
            both = f"Parameters {before} and {keyword} exclude each other"
            raise ParameterError(f"Parameter {keyword} given twice" if before == keyword else both)
        fields[row.field] = row.parse(match[2])
    return fields


def render_parameters(value: Mail | Recipient, rows: Iterable[Parameter]) -> str:
    """The parameters among `rows` that were given, each with a space before it; nothing where none was."""
    text = ""
    for row in rows:
        given = getattr(value, row.field)
        # Most mail says nothing: no call for what was not given.
        if given != row.default and (rendered := row.render(given)) is not None:
            text += f" {row.keyword}={rendered}" if rendered else f" {row.keyword}"
    return text


# --- Values --------------------------------------------------------------------------------------------------------

# RFC 3461 4: xtext = *( xchar / hexchar )
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_NO_XCHAR = re.compile(r"[^!-*,-<>-~]")
_LATIN_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def decode_xtext(text: str, says: str) -> str:
    """xtext (RFC 3461 4), each octet a character. Raises ParameterError with `says` for what is none, and for control
    characters within it."""
    if not _XTEXT.fullmatch(text):
        raise ParameterError(says)
    decoded = _HEXCHAR.sub(lambda hexchar: chr(int(hexchar[1], 16)), text)
    if _LATIN_CONTROL.search(decoded):
        raise ParameterError(says)
    return decoded


def _encode_xtext(text: str) -> str:
    return _NO_XCHAR.sub(lambda char: "".join([f"+{octet:02X}" for octet in char[0].encode()]), text)


# RFC 3339 5.6 date-time, without a fraction of a second; and in UTC, with one.
_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}):([0-9]{2})(Z|[+-][0-9]{2}:[0-9]{2})")
_INSTANT_IN_UTC = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?(Z|[+-]00:00)")


def _parse_instant(text: str, form: re.Pattern[str], says: str) -> int:
    """A date and time -> seconds since the epoch; a fraction of a second is dropped."""
    match = form.fullmatch(text.upper())
    if match is None:
        raise ParameterError(says)
    leap = match[2] == "60"
    try:
        instant = datetime.fromisoformat(f"{match[1]}:{'59' if leap else match[2]}{match[3]}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ParameterError(says) from None
    return (instant - _EPOCH) // timedelta(seconds=1) + leap


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def render_instant(seconds: int) -> str:
    """Seconds since the epoch as a date-time of RFC 3339, in UTC."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00") + "Z"


_SIZE_DIGITS = 20


def _parse_size(text: str | None) -> int:
    if not (text and text.isascii() and text.isdigit() and len(text) <= _SIZE_DIGITS):
        raise ParameterError("SIZE is a number of octets")
    return int(text)


def _body(*types: BodyType) -> Callable[[str | None], BodyType]:
    says = f"BODY is {', '.join(types[:-1])} or {types[-1]}"
    named: Mapping[str, BodyType] = {each: each for each in types}

    def parse(text: str | None) -> BodyType:
        found = named.get(text.upper()) if text and text.isascii() else None
        if found is None:
            raise ParameterError(says)
        return found

    return parse


def _flag(keyword: str) -> Callable[[str | None], bool]:
    def parse(text: str | None) -> bool:
        if text is not None:
            raise ParameterError(f"{keyword} takes no value")
        return True

    return parse


def _render_flag(_value: bool) -> str:
    return ""


_AUTH_LIMIT = 500  # characters; RFC 4954 3 lets MAIL be longer by as many for all of the parameter


def _parse_auth(text: str | None) -> str:
    """RFC 4954 8: what is in xtext must be an address, or `<>`."""
    says = "AUTH is <> or an address in xtext"
    if text is None or len(text) > _AUTH_LIMIT:
        raise ParameterError(says)
    decoded = _utf8_of_octets(decode_xtext(text, says), says)
    if decoded == "<>":
        return ""
    try:
        Address.parse(decoded)
    except ValueError:
        raise ParameterError(says) from None
    return decoded


def _render_auth(auth: str) -> str:
    return _encode_xtext(auth) or "<>"


def _parse_ret(text: str | None) -> Literal["FULL", "HDRS"]:
    match text.upper() if text and text.isascii() else None:
        case "FULL":
            return "FULL"
        case "HDRS":
            return "HDRS"
        case _:
            raise ParameterError("RET is FULL or HDRS")


_ENVID_LIMIT = 100  # characters, RFC 3461 4.4


def _parse_envid(text: str | None) -> str:
    says = f"ENVID is printable ASCII in xtext, at most {_ENVID_LIMIT} characters"
    if text is None or len(text) > _ENVID_LIMIT:
        raise ParameterError(says)
    envid = decode_xtext(text, says)
    if not envid.isascii():
        raise ParameterError(says)
    return envid


_NOTIFY: tuple[Notify, ...] = ("NEVER", "SUCCESS", "FAILURE", "DELAY")


def _parse_notify(text: str | None) -> frozenset[Notify]:
    words = frozenset(text.upper().split(",")) if text and text.isascii() else frozenset[str]()
    # RFC 3461 4.1: NEVER stands alone.
    if not words or not words <= set(_NOTIFY) or ("NEVER" in words and len(words) > 1):
        raise ParameterError("NOTIFY is NEVER or a list of SUCCESS, FAILURE, DELAY")
    return cast("frozenset[Notify]", words)


def _render_notify(notify: frozenset[Notify]) -> str:
    return ",".join(word for word in _NOTIFY if word in notify)


_ORCPT_LIMIT = 500  # characters, RFC 3461 4.2
# addr-type = atom
_ADDR_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/?^_`{|}~-]{1,40}")
# RFC 6533 3: EmbeddedUnicodeChar, and QCHAR: what stands for itself beside it
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_NO_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _parse_orcpt(text: str | None) -> OriginalRecipient:
    says = f"ORCPT is a type and an address in xtext, at most {_ORCPT_LIMIT} characters"
    kind, _, written = (text or "").partition(";")
    if not _ADDR_TYPE.fullmatch(kind) or len(written) > _ORCPT_LIMIT:
        raise ParameterError(says)
    if kind.lower() == "utf-8":
        address = _decode_utf8_address(written, says)
    else:
        address = decode_xtext(written, says)
        if not address.isascii():
            # Postfix has UTF-8 there under the type of addresses in ASCII.
            kind, address = "utf-8", _utf8_of_octets(address, says)
    orcpt = OriginalRecipient(kind, address)
    # The form in which it is kept and sent on may be the longer one.
    if len(_render_orcpt(orcpt)) > _ORCPT_LIMIT:
        raise ParameterError(says)
    return orcpt


def _decode_utf8_address(text: str, says: str) -> str:
    """RFC 6533 3: as it stands, or within ASCII as utf-8-addr-xtext."""
    decoded = decode_xtext(text, says) if text.isascii() else text
    try:
        address = _EMBEDDED.sub(lambda embedded: chr(int(embedded[1], 16)), decoded)
    except ValueError:
        raise ParameterError(says) from None
    if not address or _CONTROL.search(address):
        raise ParameterError(says)
    return address


def _render_orcpt(orcpt: OriginalRecipient) -> str:
    if orcpt.type.lower() != "utf-8":
        return f"{orcpt.type};{_encode_xtext(orcpt.address)}"
    # In ASCII, so that any hop may have it.
    return f"{orcpt.type};" + _NO_QCHAR.sub(lambda char: f"\\x{{{ord(char[0]):02X}}}", orcpt.address)


def _utf8_of_octets(address: str, says: str) -> str:
    """What was written with a hexchar for each octet."""
    try:
        found = address.encode("latin-1").decode()
    except UnicodeError:
        raise ParameterError(says) from None
    if _CONTROL.search(found):
        raise ParameterError(says)
    return found


# RFC 2852 4: by-value = by-time ";" by-mode [by-trace]; by-time = ["-" / "+"] 1*9digit
_BY = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)")


def _parse_by(text: str | None) -> DeliverBy:
    match = _BY.fullmatch(text.upper()) if text and text.isascii() else None
    # What must have been returned before it came is no request (RFC 2852 4).
    if match is None or (match[2] == "R" and int(match[1]) <= 0):
        raise ParameterError("BY is seconds;N or seconds;R, and a T behind it for a trace")
    return DeliverBy(int(match[1]), "R" if match[2] == "R" else "N", bool(match[3]))


def _render_by(by: DeliverBy) -> str:
    return f"{by.seconds};{by.mode}{'T' if by.trace else ''}"


# RFC 4865 4: future-release-integer
_HOLDFOR = re.compile(r"[1-9][0-9]{0,8}")


def _parse_holdfor(text: str | None) -> FutureRelease:
    if text is None or not _HOLDFOR.fullmatch(text):
        raise ParameterError("HOLDFOR is a number of seconds")
    return FutureRelease(int(text), "FOR")


def _parse_holduntil(text: str | None) -> FutureRelease:
    # RFC 4865 3: normalised to UTC.
    says = "HOLDUNTIL is a date and time of RFC 3339, in UTC"
    return FutureRelease(_parse_instant(text or "", _INSTANT_IN_UTC, says), "UNTIL")


def _render_holdfor(hold: FutureRelease) -> str | None:
    return str(hold.seconds) if hold.kind == "FOR" else None


def _render_holduntil(hold: FutureRelease) -> str | None:
    return render_instant(hold.seconds) if hold.kind == "UNTIL" else None


def future_release_request(hold: FutureRelease) -> str:
    """What a DSN says of it (RFC 4865 5): `for;3600`, `until;2026-11-29T12:00:00Z`."""
    return f"for;{hold.seconds}" if hold.kind == "FOR" else f"until;{render_instant(hold.seconds)}"


# Postfix's VERP_README: the characters of verp_delimiter_filter.
_DELIMITERS = re.compile(r"[-=+]{2}")
USUAL_DELIMITERS = "+="


def _parse_verp(text: str | None) -> str:
    if text is not None and not _DELIMITERS.fullmatch(text):
        raise ParameterError("XVERP takes two characters of -, = and +, or no value")
    return text or USUAL_DELIMITERS


# RFC 6710 3: priority-value = (["-"] NZDIGIT) / "0"
_PRIORITY = re.compile(r"-?[1-9]|0")


def _parse_priority(text: str | None) -> int:
    if text is None or not _PRIORITY.fullmatch(text):
        raise ParameterError("MT-PRIORITY is a number from -9 to 9")
    return int(text)


def _parse_rrvs(text: str | None) -> ValidSince:
    instant, semicolon, action = (text or "").partition(";")
    # RFC 7293 3.1: no fraction of a second.
    says = "RRVS is a date and time of RFC 3339 in whole seconds, and ;C or ;R behind it"
    if semicolon and action not in ("C", "c", "R", "r"):
        raise ParameterError(says)
    return ValidSince(_parse_instant(instant, _INSTANT, says), "C" if action in ("C", "c") else "R")


def _render_rrvs(since: ValidSince) -> str:
    return f"{render_instant(since.timestamp)};{since.action}"


# --- The rows ------------------------------------------------------------------------------------------------------

SIZE = Parameter("SIZE", "size", 26, _parse_size, str)
BODY = Parameter("BODY", "body_type", 17, _body("7BIT", "8BITMIME"), str)
# RFC 3030 3: with another value more, for who takes chunks.
BINARY_BODY = Parameter("BODY", "body_type", 17, _body("7BIT", "8BITMIME", "BINARYMIME"), str)
SMTPUTF8 = Parameter("SMTPUTF8", "smtputf8", 10, _flag("SMTPUTF8"), _render_flag)
AUTH = Parameter("AUTH", "auth", 6 + _AUTH_LIMIT, _parse_auth, _render_auth)
RET = Parameter("RET", "ret", 9, _parse_ret, str)
ENVID = Parameter("ENVID", "envid", 7 + _ENVID_LIMIT, _parse_envid, _encode_xtext)
NOTIFY = Parameter("NOTIFY", "notify", 29, _parse_notify, _render_notify)
ORCPT = Parameter("ORCPT", "orcpt", 7 + _ORCPT_LIMIT, _parse_orcpt, _render_orcpt)
REQUIRETLS = Parameter("REQUIRETLS", "requiretls", 11, _flag("REQUIRETLS"), _render_flag)
BY = Parameter("BY", "by", 17, _parse_by, _render_by)
HOLDFOR = Parameter("HOLDFOR", "hold", 18, _parse_holdfor, _render_holdfor)
HOLDUNTIL = Parameter("HOLDUNTIL", "hold", 46, _parse_holduntil, _render_holduntil)
MT_PRIORITY = Parameter("MT-PRIORITY", "priority", 15, _parse_priority, str)
XVERP = Parameter("XVERP", "verp", 9, _parse_verp, str)
RRVS = Parameter("RRVS", "rrvs", 33, _parse_rrvs, _render_rrvs)

# --- In the queue --------------------------------------------------------------------------------------------------

# BODY and SMTPUTF8 have columns of their own, as the reverse-path and the address have.
_KEPT_OF_MAIL = {row.keyword: row for row in (SIZE, RET, ENVID, REQUIRETLS, BY, HOLDFOR, HOLDUNTIL, MT_PRIORITY, AUTH)}
_KEPT_OF_RECIPIENT = {row.keyword: row for row in (NOTIFY, ORCPT, RRVS)}


def mail_parameters(mail: Mail) -> str:
    """All that MAIL said besides reverse-path, BODY and SMTPUTF8, in printable ASCII; "" for nothing."""
    return render_parameters(mail, _KEPT_OF_MAIL.values()).lstrip(" ")


def with_mail_parameters(mail: Mail, text: str) -> Mail:
    """`mail` with what `mail_parameters` gave. Raises ParameterError."""
    return attrs.evolve(mail, **parse_parameters(text, _KEPT_OF_MAIL)) if text else mail


_NOTIFYING = {row.keyword: row for row in (RET, ENVID)}


def notifying(text: str) -> dict[str, Any]:
    """RET and ENVID (RFC 3461) as fields of Mail; other parameters raise ParameterError."""
    return parse_parameters(text, _NOTIFYING)


def check_mail_parameters(text: str) -> None:
    """Raises ParameterError for what `with_mail_parameters` could not read."""
    parse_parameters(text, _KEPT_OF_MAIL)


def recipient_parameters(recipient: Recipient) -> str:
    """All that RCPT said besides the address, in printable ASCII; "" for nothing."""
    return render_parameters(recipient, _KEPT_OF_RECIPIENT.values()).lstrip(" ")


def with_recipient_parameters(recipient: Recipient, text: str) -> Recipient:
    """`recipient` with what `recipient_parameters` gave. Raises ParameterError."""
    return attrs.evolve(recipient, **parse_parameters(text, _KEPT_OF_RECIPIENT)) if text else recipient
