"""`mailhub tls-reports`: what other servers report of TLS to ours (RFC 8460), from the mail of the account that gets
it."""

from __future__ import annotations

import argparse
import binascii
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from mailhub.cli.alias_faults import Everybody
from mailhub.cli.names import everybody_of, user_of
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import Config, load
from mailhub.errors import ConfigurationError, MailError, NoSuchMailbox, NoSuchUser
from mailhub.interfaces import IMailbox
from mailhub.log import clean
from mailhub.message import mime
from mailhub.message.address import Address
from mailhub.message.mailbox_names import normalise
from mailhub.message.tls_report import REPORT_OCTETS, parse

_TYPES = ("application/tlsrpt+gzip", "application/tlsrpt+json", "application/gzip", "application/json")
_REPORT = re.compile(rb"multipart/report\b.*\btlsrpt\b", re.DOTALL | re.IGNORECASE)
_BATCH = 200


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser(
        "tls-reports",
        help="what other servers report of TLS to ours",
        description="Reports come by mail to whom the TXT record _smtp._tls of your domain names; they are looked for "
        "in the mailbox of that account.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)
    for name, run, about in (("list", _list, "one line a report"), ("show", _show, "one report, with its failures")):
        action = actions.add_parser(name, help=about)
        action.add_argument("account", metavar="ADDRESS", help="the account that gets them, or an alias of it")
        action.add_argument("--mailbox", metavar="NAME", default="INBOX", help="where they are, by default INBOX")
        action.add_argument("--json", action="store_true", help="as the other server wrote it")
        if run is _show:
            action.add_argument("uid", metavar="UID", type=int, help="as shown by `mailhub tls-reports list`")
        action.set_defaults(run=run)


def _list(arguments: argparse.Namespace) -> None:
    found = 0
    config = load(arguments.config)
    with opened(config, "read") as hub:
        box = _mailbox(config, hub, arguments)
        for uid in _reports(hub, box):
            found += 1
            try:
                report = _report(hub, box, uid)
            except (MailError, ValueError) as error:
                print(f"mailhub: {uid}: no report that can be read: {clean(str(error))}", file=sys.stderr)
                continue
            print(json.dumps({"uid": uid, **report}) if arguments.json else f"{uid:>6}  {_line(report)}")
    if not found and not arguments.json:
        print("no reports")


def _show(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    with opened(config, "read") as hub:
        box = _mailbox(config, hub, arguments)
        try:
            report = _report(hub, box, arguments.uid)
        except (MailError, ValueError) as error:
            raise ConfigurationError(f"message {arguments.uid} is no report that can be read: {error}") from None
    if arguments.json:
        print(json.dumps(report, indent=1))
        return
    print(_line(report))
    for name in ("organization-name", "contact-info", "report-id"):
        print(f"  {name}: {_text(report.get(name))}")
    for each in _dicts(report["policies"]):
        policy = _dict(each.get("policy"))
        print(f"  policy {_text(policy.get('policy-type'))} of {_text(policy.get('policy-domain'))}: {_counts(each)}")
        for failure in _dicts(each.get("failure-details")):
            words = [f"{name}={_text(value)}" for name, value in failure.items() if name != "result-type"]
            print(f"    {_text(failure.get('result-type'))}  " + "  ".join(words))


def _mailbox(config: Config, hub: Offline, arguments: argparse.Namespace) -> IMailbox:
    user = _account(everybody_of(config, hub), user_of(arguments.account))
    try:
        account = hub.wait(hub.database.store.account(user))
        return hub.wait(account.mailbox(normalise(arguments.mailbox)))
    except NoSuchUser:
        raise ConfigurationError(f"there is no account {user}; `mailhub account list` shows all") from None
    except NoSuchMailbox:
        raise ConfigurationError(f"{user} has no mailbox {arguments.mailbox!r}") from None


def _account(everybody: Everybody, user: str) -> str:
    """Whose mailbox it is that mail for an address comes to. Raises ConfigurationError where that is not one."""
    left, seen, found = [Address.parse(user)], set[str](), set[str]()
    while left:
        address = left.pop()
        plain = [address.key, *(each.key for each, _ in everybody.names.without_detail(address))]
        if own := [key for key in plain if key in everybody.users]:
            found.add(own[0])
        elif address.key not in seen:
            seen.add(address.key)
            left += everybody.targets(address)
    if len(found) > 1:
        raise ConfigurationError(f"{user} leads to {', '.join(sorted(found))}; name one of these")
    return found.pop() if found else user


def _reports(hub: Offline, box: IMailbox) -> Iterator[int]:
    """The messages that say that they are one (RFC 8460 5.3)."""
    uids = [entry.uid for entry in hub.wait(box.entries())]
    for start in range(0, len(uids), _BATCH):
        batch = uids[start : start + _BATCH]
        fields = hub.wait(box.digests(batch, ["fields"]))["fields"]
        yield from (uid for uid in batch if _REPORT.search(fields.get(uid, b"")))


def _report(hub: Offline, box: IMailbox, uid: int) -> dict[str, Any]:
    """Raises MailError, ValueError."""
    body = hub.wait(box.open(uid))
    try:
        if body.size > 2 * REPORT_OCTETS:
            raise ValueError("too large")
        octets = hub.wait(body.read())
    finally:
        body.close()
    for part in mime.scan(octets).tree:
        if part.type in _TYPES:
            return parse(_content(part, octets[part.body : part.end]))
    raise ValueError("no part of it is a report")


def _content(part: mime.Part, octets: bytes) -> bytes:
    """Raises ValueError."""
    if part.encoding == "base64":
        return binascii.a2b_base64(octets)
    return binascii.a2b_qp(octets) if part.encoding == "quoted-printable" else octets


# --- What others have written: of any type, and of any text ----------------------------------------------------------


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return clean(str(value))[:200].replace("\n", "\\x0a") if isinstance(value, str | int) else "?"


def _counts(policy: dict[str, Any]) -> str:
    told = _dict(policy.get("summary"))
    went, failed = told.get("total-successful-session-count"), told.get("total-failure-session-count")
    return f"{_text(went)} went well, {_text(failed)} failed"


def _line(report: dict[str, Any]) -> str:
    day = _text(_dict(report.get("date-range")).get("start-datetime"))[:10]
    told = [
        f"{_text(_dict(each.get('policy')).get('policy-domain'))}: {_counts(each)}"
        for each in _dicts(report["policies"])
    ]
    return f"{day}  {_text(report.get('organization-name'))}  " + "; ".join(told[:5])
