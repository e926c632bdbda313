"""Mail for example.org, each message a file: `twistd -ny embed_smtp.tac`, then SMTP on port 2525."""
from uuid import uuid4
from twisted.application import internet, service
from twisted.cred import checkers, portal
from twisted.internet.threads import deferToThread
from mailhub.api import IMailReceiver, keep, smtp_factory
class Realm:  # which is its own avatar
    def requestAvatar(self, avatar_id, mind, *interfaces): return IMailReceiver, self, lambda: None
    def recipient(self, recipient, transaction): pass  # everybody in example.org
    async def message(self, message):  # when it returns, the client forgets the message
        await deferToThread(keep, f"{uuid4()}.eml", await message.open().read())
factory = smtp_factory(portal.Portal(Realm(), [checkers.AllowAnonymousAccess()]), domains=["example.org"])
application = service.Application("mail")
internet.TCPServer(2525, factory, interface="127.0.0.1").setServiceParent(application)
