"""Postfix's policy delegation protocol (SMTPD_POLICY_README): what is asked, and what the actions mean, as text."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from mailhub.delivery.filters.milter_words import ClientName
from mailhub.interfaces import AddField, AddRecipient, Edit, ITransactionView, Verdict
from mailhub.message.address import Address
from mailhub.message.edits import check
from mailhub.message.envelope import Recipient

END = b"\n\n"
ANSWER_LIMIT = 8192  # octets
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")
_CODE = re.compile(r"[45][0-9][0-9]")


@attrs.frozen
class Said:
    """What an answer means. `note`: words for the log alone."""

    verdict: Verdict
    note: str = ""


def attributes(
    transaction: ITransactionView,
    recipient: Recipient | None,
    *,
    client: ClientName,
    instance: str,
    size: int,
) -> dict[str, str]:
    """What is asked: about one recipient, or at the end of a message where there is none. An attribute of which nothing
    is known is empty."""
    origin, mail = transaction.origin, transaction.mail
    recipients = transaction.recipients
    asked = recipient or (recipients[0] if len(recipients) == 1 else None)
    version, _, cipher = origin.tls.partition("/")
    known = client.found == "OK"
    return {
        "request": "smtpd_access_policy",
        "protocol_state": "END-OF-MESSAGE" if recipient is None else "RCPT",
        "protocol_name": "LMTP" if origin.each_recipient else "ESMTP" if origin.extended else "SMTP",
        "client_address": origin.peer.partition("%")[0],
        "client_name": client.name if known else "unknown",
        "client_port": "",
        "reverse_client_name": client.pointer,
        "server_address": origin.local.partition("%")[0],
        "server_port": "",
        "helo_name": origin.helo,
        "sender": str(mail.reverse_path) if mail.reverse_path is not None else "",
        "recipient": str(asked.address) if asked is not None else "",
        "recipient_count": str(len(recipients)) if recipient is None else "0",
        "queue_id": "",
        "instance": instance,
        "size": str(size),
        "etrn_domain": "",
        "stress": "",
        "sasl_method": "",
        "sasl_username": origin.user,
        "sasl_sender": mail.auth or "",
        "ccert_subject": "",
        "ccert_issuer": "",
        "ccert_fingerprint": "",
        "ccert_pubkey_fingerprint": "",
        "encryption_protocol": version,
        "encryption_cipher": cipher,
        "encryption_keysize": "",
        "policy_context": "",
    }


def question(told: Mapping[str, str]) -> bytes:
    """As it is sent: no value can have a line end in it."""
    lines = [f"{name}={''.join(each if each.isprintable() else '?' for each in text)}\n" for name, text in told.items()]
    return "".join([*lines, "\n"]).encode("utf-8", "replace")


def parse(octets: bytes) -> Said:
    """An answer without the empty line at its end. Raises ValueError for what is none, and for actions that mean
    something in Postfix alone."""
    actions = [line[len("action=") :] for line in octets.decode("utf-8", "replace").split("\n") if _is_action(line)]
    if len(actions) != 1:
        raise ValueError(f"an answer with {len(actions)} actions")
    text = "".join(each if each.isprintable() else " " for each in actions[0]).strip()
    word, _, rest = text.partition(" ")
    word, rest = word.upper(), rest.strip()
    if _CODE.fullmatch(word):
        return Said(_refusal("defer" if word.startswith("4") else "reject", rest, int(word)))
    known = _ACTIONS.get(word)
    if known is None:
        raise ValueError(f"the action {text!r:.80} is none that mailhub knows")
    return known(rest)


def _is_action(line: str) -> bool:
    return line.lower().startswith("action=")


def _refusal(action: str, text: str, code: int = 0) -> Verdict:
    match = _STATUS.match(text)
    status = match[1] if match is not None else ""
    text = text[len(status) :].strip()
    if code // 10 not in (45, 55):
        code = 0  # such as 421 or 521, after which Postfix closes the connection
    if action == "defer":
        return Verdict("defer", status or "4.7.1", text or "Try again later", code=code)
    return Verdict("reject", status or "5.7.1", text or "Not permitted", code=code)


def _accepts(_text: str) -> Said:
    return Said(Verdict())


def _notes(text: str) -> Said:
    return Said(Verdict(), text)


def _edits(edit: Edit) -> Said:
    return Said(Verdict(edits=[edit]))


def _prepends(text: str) -> Said:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"PREPEND of {text!r:.80}, which is no header field")
    field = AddField(name.strip(), value.strip())
    check(field)
    return _edits(field)


_ACTIONS = {
    "": _accepts,
    "OK": _accepts,
    "PERMIT": _accepts,
    "DUNNO": _accepts,
    "DEFER_IF_REJECT": _accepts,
    "REJECT": lambda text: Said(_refusal("reject", text)),
    "DEFER": lambda text: Said(_refusal("defer", text)),
    "DEFER_IF_PERMIT": lambda text: Said(_refusal("defer", text)),
    "DISCARD": lambda text: Said(Verdict("discard"), text),
    "HOLD": lambda text: Said(Verdict("quarantine"), text),
    "PREPEND": _prepends,
    "BCC": lambda text: _edits(AddRecipient(Recipient(Address.parse(text)))),
    "WARN": _notes,
    "INFO": _notes,
}
