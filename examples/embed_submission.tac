"""Mail that ann hands in, who may write as herself alone: `twistd -ny embed_submission.tac`, port 2587."""
from uuid import uuid4
from twisted.application import internet, service
from twisted.cred import checkers, portal
from twisted.internet.threads import deferToThread
from mailhub.api import IMailReceiver, keep, submission_factory
class Outbox:
    def requestAvatar(self, user, mind, *interfaces): return IMailReceiver, self, lambda: None
    async def may_send_as(self, address): return str(address) == "ann@example.org"
    def recipient(self, recipient, transaction): print(transaction.origin.user, "writes to", recipient.address)
    async def message(self, message): await deferToThread(keep, f"{uuid4()}.eml", await message.open().read())
users = checkers.InMemoryUsernamePasswordDatabaseDontUse(ann=b"secret")
factory = submission_factory(portal.Portal(Outbox(), [users]), cleartext_login=["127.0.0.1"])
application = service.Application("mail")
internet.TCPServer(2587, factory, interface="127.0.0.1").setServiceParent(application)
