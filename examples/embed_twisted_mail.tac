"""A realm that was written for twisted.mail, behind mailhub's protocols: `twistd -noy embed_twisted_mail.tac`.

The realm is as it was: accounts in memory by IMAP, the INBOX of each by POP3, and a delivery for whatever comes by SMTP.
What serves it stands at the end.
"""

from io import BytesIO

from twisted.cred.checkers import ANONYMOUS, AllowAnonymousAccess, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import succeed
from twisted.mail import imap4, pop3, smtp
from zope.interface import implementer


@implementer(imap4.IMessage, imap4.IMessageFile)
class Message:
    def __init__(self, uid, octets, flags, date):
        self.uid, self.octets, self.flags, self.date = uid, octets, set(flags), date

    def getUID(self):
        return self.uid

    def getFlags(self):
        return list(self.flags)

    def getInternalDate(self):
        return self.date

    def open(self):
        return BytesIO(self.octets)


@implementer(imap4.IMailbox)
class Mailbox:
    def __init__(self, validity):
        self.validity, self.uids, self.messages, self.listeners = validity, 0, [], []

    def getFlags(self):
        return ["\\Seen", "\\Deleted", "\\Flagged"]

    def getHierarchicalDelimiter(self):
        return "/"

    def getUIDValidity(self):
        return self.validity

    def getUIDNext(self):
        return self.uids + 1

    def getMessageCount(self):
        return len(self.messages)

    def isWriteable(self):
        return True

    def destroy(self):
        self.messages = []

    def addListener(self, listener):
        self.listeners.append(listener)

    def removeListener(self, listener):
        self.listeners.remove(listener)

    def addMessage(self, message, flags=(), date=None):
        self.uids += 1
        self.messages.append(Message(self.uids, message.read(), flags, date or smtp.rfc822date()))
        for listener in self.listeners:
            listener.newMessages(len(self.messages), None)
        return succeed(self.uids)

    def _chosen(self, messages, uid):
        messages.last = self.uids if uid else len(self.messages)
        return [(n, m) for n, m in enumerate(self.messages, 1) if (m.uid if uid else n) in messages]

    def fetch(self, messages, uid):
        return self._chosen(messages, uid)

    def store(self, messages, flags, mode, uid):
        chosen = self._chosen(messages, uid)
        for _, message in chosen:
            kept = message.flags if mode else set()
            message.flags = kept - set(flags) if mode < 0 else kept | set(flags)
        return {number: message.getFlags() for number, message in chosen}

    def expunge(self):
        gone = [number for number, message in enumerate(self.messages, 1) if "\\Deleted" in message.flags]
        self.messages = [message for message in self.messages if "\\Deleted" not in message.flags]
        return gone


@implementer(imap4.IAccount)
class Account(imap4.MemoryAccount):
    def _emptyMailbox(self, name, id):
        return Mailbox(id + 1)


@implementer(pop3.IMailbox)
class Maildrop:
    def __init__(self, inbox):
        self.inbox, self.messages, self.marked = inbox, list(inbox.messages), set()

    def listMessages(self, index=None):
        sizes = [0 if n in self.marked else len(m.octets) for n, m in enumerate(self.messages)]
        return sizes if index is None else sizes[index]

    def getMessage(self, index):
        return BytesIO(self.messages[index].octets)

    def getUidl(self, index):
        return b"%d" % self.messages[index].uid

    def deleteMessage(self, index):
        self.marked.add(index)

    def undeleteMessages(self):
        self.marked.clear()

    def sync(self):
        gone = [self.messages[index] for index in self.marked]
        self.inbox.messages = [message for message in self.inbox.messages if message not in gone]


@implementer(smtp.IMessage)
class Incoming:
    def __init__(self, inbox):
        self.inbox, self.lines = inbox, []

    def lineReceived(self, line):
        self.lines.append(line + b"\r\n")

    def eomReceived(self):
        return self.inbox.addMessage(BytesIO(b"".join(self.lines)))

    def connectionLost(self):
        self.lines = []


@implementer(IRealm, smtp.IMessageDelivery)
class Realm:
    def __init__(self, *users):
        self.accounts = {user: Account(user) for user in users}
        for account in self.accounts.values():
            account.create("INBOX")

    def requestAvatar(self, avatarId, mind, *interfaces):
        if smtp.IMessageDelivery in interfaces:
            return smtp.IMessageDelivery, self, lambda: None
        if avatarId is not ANONYMOUS and imap4.IAccount in interfaces:
            return imap4.IAccount, self.accounts[avatarId], lambda: None
        if avatarId is not ANONYMOUS and pop3.IMailbox in interfaces:
            return pop3.IMailbox, Maildrop(self.accounts[avatarId].select("INBOX")), lambda: None
        raise NotImplementedError

    def receivedHeader(self, helo, origin, recipients):
        return b"Received: from %s by this very realm" % helo[0]

    def validateFrom(self, helo, origin):
        return origin

    def validateTo(self, user):
        if user.dest.local not in self.accounts:
            raise smtp.SMTPBadRcpt(user)
        return lambda: Incoming(self.accounts[user.dest.local].select("INBOX"))


checker = InMemoryUsernamePasswordDatabaseDontUse(ann=b"secret")
portal = Portal(Realm(b"ann"), [checker, AllowAnonymousAccess()])

# What serves it: without TLS, so passwords are taken from this machine alone.

from twisted.application import internet, service  # noqa: E402

from mailhub.api import imap_factory, pop3_factory, smtp_factory  # noqa: E402

application = service.Application("realm")
here = ["127.0.0.0/8"]
for port, factory in {
    2525: smtp_factory(portal),
    2110: pop3_factory(portal, cleartext_login=here),
    2143: imap_factory(portal, cleartext_login=here),
}.items():
    internet.TCPServer(port, factory, interface="127.0.0.1").setServiceParent(application)
