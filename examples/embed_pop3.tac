"""Maildirs by a realm that was written for twisted.mail: `twistd -ny embed_pop3.tac`, POP3 on port 2110."""
from twisted.application import internet, service
from twisted.cred import checkers, portal
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.maildir import MaildirMailbox
from mailhub.api import pop3_factory
class Realm:
    def requestAvatar(self, user, mind, *interfaces):
        return IMailboxPOP3, MaildirMailbox(b"maildirs/" + user), lambda: None
users = checkers.InMemoryUsernamePasswordDatabaseDontUse(ann=b"secret")
factory = pop3_factory(portal.Portal(Realm(), [users]), cleartext_login=["127.0.0.1"])
application = service.Application("mail")
internet.TCPServer(2110, factory, interface="127.0.0.1").setServiceParent(application)
