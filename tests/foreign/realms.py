"""Realms as they are written for `twisted.mail`: an account in memory, a Maildir, and a console that takes messages.

Nothing here knows mailhub.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, succeed
from twisted.mail import imap4, maildir, pop3, smtp
from zope.interface import implementer


@implementer(imap4.IMessage, imap4.IMessageFile)
class MemoryMessage:
    """A message with all its octets."""

    def __init__(self, uid: int, octets: bytes, flags: Any, date: bytes | None) -> None:
        self.uid = uid
        self.octets = octets
        self.flags = set(flags)
        self.date = date

    def getUID(self) -> int:
        return self.uid

    def getFlags(self) -> list[str]:
        return list(self.flags)

    def getInternalDate(self) -> bytes:
        return self.date or smtp.rfc822date()  # type: ignore[no-untyped-call]

    def getSize(self) -> int:
        return len(self.octets) // 2  # nobody has ever looked

    def open(self) -> BytesIO:
        return BytesIO(self.octets)

    def getHeaders(self, negate: bool, *names: str) -> dict[str, str]:
        raise NotImplementedError

    def getBodyFile(self) -> BytesIO:
        raise NotImplementedError

    def isMultipart(self) -> bool:
        raise NotImplementedError

    def getSubPart(self, part: int) -> Any:
        raise NotImplementedError


@implementer(imap4.IMailbox)
class MemoryMailbox:
    """A list of messages."""

    def __init__(self, validity: int) -> None:
        self.validity = validity
        self.messages: list[MemoryMessage] = []
        self.listeners: list[Any] = []
        self.uid_next = 1
        self.writeable = True
        self.flags = ["\\Seen", "\\Deleted", "\\Flagged", "\\Recent"]

    def getFlags(self) -> list[str]:
        return self.flags

    def getHierarchicalDelimiter(self) -> str:
        return "/"

    def getUIDValidity(self) -> int:
        return self.validity

    def getUIDNext(self) -> int:
        return self.uid_next

    def getUID(self, message: int) -> int:
        return self.messages[message - 1].uid

    def getMessageCount(self) -> int:
        return len(self.messages)

    def getRecentCount(self) -> int:
        return 0

    def getUnseenCount(self) -> int:
        return sum("\\Seen" not in message.flags for message in self.messages)

    def isWriteable(self) -> bool:
        return self.writeable

    def destroy(self) -> None:
        self.flags.append("\\Noselect")

    def requestStatus(self, names: Any) -> Any:
        return imap4.statusRequestHelper(self, names)  # type: ignore[no-untyped-call]

    def addListener(self, listener: Any) -> None:
        self.listeners.append(listener)

    def removeListener(self, listener: Any) -> None:
        self.listeners.remove(listener)

    def addMessage(self, message: Any, flags: Any = (), date: bytes | None = None) -> Deferred[int]:
        self.messages.append(MemoryMessage(self.uid_next, message.read(), flags, date))
        self.uid_next += 1
        for listener in self.listeners:
            listener.newMessages(len(self.messages), None)
        return succeed(len(self.messages))

    def expunge(self) -> list[int]:
        gone = [number for number, message in enumerate(self.messages, 1) if "\\Deleted" in message.flags]
        self.messages = [message for message in self.messages if "\\Deleted" not in message.flags]
        return gone

    def _chosen(self, messages: Any, uid: bool) -> Any:
        if not messages.last:
            messages.last = self.uid_next if uid else len(self.messages)
        for number, message in enumerate(self.messages, 1):
            if (message.uid if uid else number) in messages:
                yield number, message

    def fetch(self, messages: Any, uid: bool) -> Any:
        return self._chosen(messages, uid)

    def store(self, messages: Any, flags: Any, mode: int, uid: bool) -> dict[int, Any]:
        stored = {}
        for number, message in self._chosen(messages, uid):
            if mode == 0:
                message.flags = set(flags)
            elif mode > 0:
                message.flags |= set(flags)
            else:
                message.flags -= set(flags)
            stored[number] = message.getFlags()
        return stored


@implementer(imap4.IAccount)
class MemoryAccount(imap4.MemoryAccount):
    """The account of Twisted's own, whose names are all in capitals."""

    def __init__(self, name: str) -> None:
        super().__init__(name)  # type: ignore[no-untyped-call]
        for mailbox in ("INBOX", "Sent"):
            self.create(mailbox)  # type: ignore[no-untyped-call]
            self.subscribe(mailbox)  # type: ignore[no-untyped-call]

    def _emptyMailbox(self, name: str, id: int) -> MemoryMailbox:
        return MemoryMailbox(id)


@implementer(IRealm)
class MemoryRealm:
    """Accounts by name."""

    def __init__(self) -> None:
        self.accounts: dict[Any, Any] = {}
        self.logouts = 0

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        if imap4.IAccount not in interfaces:
            raise NotImplementedError
        account = self.accounts.setdefault(avatarId, MemoryAccount(avatarId))
        return imap4.IAccount, account, self._logged_out

    def _logged_out(self) -> None:
        self.logouts += 1


@implementer(IRealm)
class MaildropRealm:
    """Twisted's own mailbox of a list of messages."""

    def __init__(self, messages: list[bytes]) -> None:
        self.messages = messages

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        mailbox = maildir.StringListMailbox(self.messages)  # type: ignore[no-untyped-call]
        return pop3.IMailbox, mailbox, lambda: None


def maildir_domain(folder: Path, user: bytes, password: bytes) -> maildir.MaildirDirdbmDomain:
    """Twisted's own domain of Maildirs with one user, which is a realm."""
    domain = maildir.MaildirDirdbmDomain(None, bytes(folder))  # type: ignore[arg-type]
    domain.addUser(user, password)
    return domain


@implementer(smtp.IMessage)
class ConsoleMessage:
    """A message whose lines are printed."""

    def __init__(self, user: Any, printed: list[str]) -> None:
        self.user = user
        self.printed = printed
        self.lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        self.printed.append(f"New message for {self.user}:")
        self.printed.extend(line.decode() for line in self.lines)
        self.lines = []
        return succeed(None)

    def connectionLost(self) -> None:
        self.lines = []
        self.printed.append(f"Lost the message for {self.user}")


@implementer(smtp.IMessageDelivery)
class ConsoleMessageDelivery:
    """Only the local user console has mail."""

    def __init__(self) -> None:
        self.printed: list[str] = []
        self.asked: list[Any] = []

    def receivedHeader(self, helo: tuple[bytes, bytes], origin: Any, recipients: Any) -> bytes:
        return b"Received: ConsoleMessageDelivery " + helo[0]

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        self.asked.append((helo, str(origin)))
        if origin.domain == b"spam.example":
            raise smtp.SMTPBadSender(origin, 553, "Not from there")  # type: ignore[no-untyped-call]
        return origin

    def validateTo(self, user: Any) -> Any:
        if user.dest.local == b"console":
            return lambda: ConsoleMessage(user, self.printed)
        raise smtp.SMTPBadRcpt(user)  # type: ignore[no-untyped-call]


@implementer(smtp.IMessageDeliveryFactory)
class ConsoleMessageDeliveryFactory:
    """One delivery for each message."""

    def __init__(self) -> None:
        self.made: list[ConsoleMessageDelivery] = []

    def getMessageDelivery(self) -> ConsoleMessageDelivery:
        self.made.append(ConsoleMessageDelivery())
        return self.made[-1]


@implementer(IRealm)
class ConsoleRealm:
    """A delivery for whoever comes."""

    def __init__(self) -> None:
        self.delivery = ConsoleMessageDelivery()

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        if smtp.IMessageDelivery not in interfaces:
            raise NotImplementedError
        return smtp.IMessageDelivery, self.delivery, lambda: None
