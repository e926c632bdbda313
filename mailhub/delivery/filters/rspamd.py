"""The policy "rspamd": rspamd judges each message over HTTP before it is taken (its `/checkv2`)."""

from __future__ import annotations

from typing import Literal

import attrs
from zope.interface import implementer

from mailhub.delivery.filters import rspamd_words
from mailhub.delivery.filters.looks import ServiceName, check_url, concerns, message_pieces, message_size
from mailhub.delivery.filters.milter_words import client_name
from mailhub.delivery.filters.rspamd_words import Judged
from mailhub.delivery.screening.rule import number
from mailhub.interfaces import ACCEPT, AddField, IHub, IMessageView, IPolicy, Origin, Screen, Verdict
from mailhub.log import Logger
from mailhub.net.https import WebAddress, WebService
from mailhub.net.stream import StreamBroken

RSPAMD_URL = "http://127.0.0.1:11333"  # where its normal worker listens unless it is told otherwise

_log = Logger(namespace="mailhub.delivery")


@attrs.frozen
class RspamdOptions:
    """`url` of a normal worker, or a proxy with `self_scan`. What `spam` is goes into Junk, or is marked alone.
    `greylist` is for that action, beside which rspamd's own greylisting says "soft reject". With `spam_fields` X-Spam,
    X-Spam-Action, X-Spam-Score and X-Spam-Symbols are put on top."""

    url: str = attrs.field(default=RSPAMD_URL, validator=check_url)
    spam: Literal["quarantine", "accept"] = "quarantine"
    greylist: Literal["accept", "defer"] = "accept"
    spam_fields: bool = True
    scan_octets: int = number(25_000_000, 1024, 4_000_000_000)
    connect_seconds: int = number(10, 1, 600)
    services: tuple[ServiceName, ...] = ()


@implementer(IPolicy)
@attrs.frozen(eq=False)
class Rspamd:
    """The policy of one hub. What rspamd does not say is a failure, and the guard says what that means."""

    options: RspamdOptions
    hub: IHub
    name: str
    service: WebService

    @classmethod
    def of(cls, options: RspamdOptions, hub: IHub) -> Rspamd:
        """The policy of a hub."""
        address = WebAddress.parse(options.url.rstrip("/") + "/checkv2")
        service = WebService.of(address, hub.environment, hub.client_tls, options.connect_seconds)
        return cls(options, hub, hub.part.name, service)

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return _OfConnection(self) if concerns(self.options.services, origin) else Screen()

    async def judge(self, message: IMessageView, queue_id: str) -> Verdict:
        """What becomes of a message. Raises TemporaryError."""
        session, size = message.origin.session_id, message_size(message)
        if size > self.options.scan_octets:
            _log.event("not scanned as a whole", {"session": session, "policy": self.name, "octets": size})
            return ACCEPT
        environment = self.hub.environment
        client = await client_name(message.origin, environment.resolver, environment.clock)
        name = client.name if client.found == "OK" else ""
        fields = rspamd_words.told(message, self.hub.hostname, name, queue_id)
        answer = await self.service.post(fields, size, lambda: message_pieces(message, size), rspamd_words.ANSWER_LIMIT)
        if answer.status != 200:
            raise StreamBroken(f"rspamd answers with the status {answer.status}")
        try:
            judged = rspamd_words.parse(answer.body)
        except ValueError as error:
            raise StreamBroken(str(error)) from None
        symbols = ",".join(name for name, _ in judged.symbols)
        known = {"session": session, "policy": self.name, "action": judged.action, "score": f"{judged.score:.2f}"}
        _log.event("judged", {**known, "required": f"{judged.required:.2f}", "symbols": symbols})
        return self._verdict(judged, message)

    def _verdict(self, judged: Judged, message: IMessageView) -> Verdict:
        action, name = judged.action, self.name
        if action == "reject":
            return Verdict("reject", "5.7.1", judged.text or "Message looks like spam", rule=name)
        if action == "soft reject" or (action == "greylist" and self.options.greylist == "defer"):
            return Verdict("defer", "4.7.1", judged.text or "Try again later", rule=name)
        if action == "discard":
            return Verdict("discard", rule=name)
        edits = list(judged.edits)
        if self.options.spam_fields:
            edits += rspamd_words.spam_fields(judged)
        if action == "rewrite subject" and judged.subject:
            edits += rspamd_words.subject_edits(message.header, judged.subject)
        if not message.header:
            # It is too large to be held: fields can be put on top alone.
            edits = [each for each in edits if isinstance(each, AddField)]
        if judged.dropped:
            known = {"session": message.origin.session_id, "policy": name, "edits": judged.dropped}
            _log.event("edits dropped", known)
        junk = action == "quarantine" or (
            action in ("add header", "rewrite subject") and self.options.spam == "quarantine"
        )
        return Verdict("quarantine" if junk else "accept", edits=edits, rule=name if junk else "")


@attrs.define(eq=False)
class _OfConnection(Screen):
    _policy: Rspamd
    _messages: int = 0

    async def message(self, message: IMessageView) -> Verdict:
        """See `IScreen`."""
        self._messages += 1
        return await self._policy.judge(message, f"{message.origin.session_id or 'message'}-{self._messages}")
