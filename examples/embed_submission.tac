"""Mail that ann hands in, who may write as herself alone: `twistd -ny embed_submission.tac`, port 2587."""
from twisted.application import internet, service
from twisted.cred import checkers, portal
from mailhub.api import IMailReceiver, submission_factory
class Outbox:
    def requestAvatar(self, user, mind, *interfaces): return IMailReceiver, self, lambda: None
    async def may_send_as(self, address): return str(address) == "ann@example.org"
    def recipient(self, recipient, transaction): print(transaction.origin.user, "writes to", recipient.address)
    async def message(self, message):
        with open("outbox", "ab") as file: file.write(await message.open().read())
        return "outbox"  # what the client is told as the message's id
users = checkers.InMemoryUsernamePasswordDatabaseDontUse(ann=b"secret")
factory = submission_factory(portal.Portal(Outbox(), [users]), cleartext_login=["127.0.0.1"])
application = service.Application("mail")
internet.TCPServer(2587, factory, interface="127.0.0.1").setServiceParent(application)
