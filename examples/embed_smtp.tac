"""Mail for example.org, each message a file: `twistd -ny embed_smtp.tac`, then SMTP on port 2525."""
import os, tempfile
from twisted.application import internet, service
from twisted.cred import checkers, portal
from mailhub.api import IMailReceiver, smtp_factory
class Realm:  # which is its own avatar
    def requestAvatar(self, avatar_id, mind, *interfaces): return IMailReceiver, self, lambda: None
    def recipient(self, recipient, transaction): pass  # everybody in example.org
    async def message(self, message):
        with tempfile.NamedTemporaryFile(dir=".", suffix=".eml", delete=False, buffering=0) as file:
            file.write(await message.open().read())
            os.fsync(file.fileno())  # when this method returns, the client forgets the message
factory = smtp_factory(portal.Portal(Realm(), [checkers.AllowAnonymousAccess()]), domains=["example.org"])
application = service.Application("mail")
internet.TCPServer(2525, factory, interface="127.0.0.1").setServiceParent(application)
