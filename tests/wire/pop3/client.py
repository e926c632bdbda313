"""A mailbox to answer the machine's events, and a way to talk to the machine as the driver does."""

from __future__ import annotations

from mailhub.message.header import header_end
from mailhub.wire.pop3.events import Event, Login, Retrieve, StartTls, Top, Update
from mailhub.wire.pop3.maildrop import Maildrop
from mailhub.wire.pop3.server import Pop3Server, Pop3Settings
from mailhub.wire.pop3.top import Topmost

MESSAGES = {
    3: b"Subject: one\r\n\r\n.dot\r\nsecond\r\nthird\r\n",
    7: b"Subject: two\r\n\r\n" + b"x" * 100 + b"\r\n",
    8: b"Subject: three\r\n\r\n",
}
OPEN = Pop3Settings(host="mx.example", plaintext_login=True)


class Talk:
    """One session. `events` is what the machine gave out; `removed` what QUIT took away."""

    def __init__(self, settings: Pop3Settings = OPEN, messages: dict[int, bytes] | None = None) -> None:
        self.machine = Pop3Server(settings)
        self.messages = dict(MESSAGES if messages is None else messages)
        self.events: list[Event] = []
        self.removed: tuple[int, ...] = ()

    def send(self, data: bytes) -> bytes:
        """Feed octets and give back all replies."""
        self.machine.receive_data(data)
        return self.run()

    def run(self) -> bytes:
        replies = b""
        while True:
            event = self.machine.next_event()
            if event is not None:
                self.events.append(event)
                self.answer(event)
            out = self.machine.data_to_send()
            replies += out
            if event is None and not out:
                return replies

    def login(self) -> Talk:
        """Enter the TRANSACTION state."""
        assert self.send(b"USER b\r\nPASS secret\r\n").endswith(b"octets)\r\n")
        return self

    def answer(self, event: Event) -> None:
        machine = self.machine
        match event:
            case Login(credentials) if credentials.password == "secret":
                machine.login_accepted(Maildrop(99, [(uid, len(text)) for uid, text in self.messages.items()]))
            case Login():
                machine.login_refused("Authentication failed")
            case StartTls():
                machine.starttls_accepted()
            case Retrieve(uid) | Top(uid) if uid not in self.messages:
                machine.refused("Message is gone", "SYS/TEMP")
            case Retrieve(uid, octets):
                machine.content_started(f"{octets} octets")
                machine.content(self.messages[uid])
                machine.content_ended()
            case Top(uid, lines):
                machine.content_started("Top follows")
                message = self.messages[uid]
                machine.content(Topmost(lines, header_end(message, 0, len(message))).feed(message))
                machine.content_ended()
            case Update(uids):
                self.removed = uids
                machine.updated()
