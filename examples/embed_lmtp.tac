"""Mail from a local server, an answer for each recipient: `twistd -ny embed_lmtp.tac`, LMTP on port 2424."""
from uuid import uuid4
from twisted.application import internet, service
from twisted.cred import checkers, portal
from twisted.internet.threads import deferToThread
from mailhub.api import IMailReceiver, Outcome, keep, lmtp_factory
class Realm:  # which is its own avatar
    def requestAvatar(self, avatar_id, mind, *interfaces): return IMailReceiver, self, lambda: None
    def recipient(self, recipient, transaction): pass  # who there is shows at the end
    async def message(self, message):  # one file for all who are there, so that nobody has it twice
        to = [each.address.local if each.address.local in ("ann", "ben") else "" for each in message.recipients]
        if any(to): await deferToThread(keep, f"{'+'.join(filter(None, to))}.{uuid4()}", await message.open().read())
        return [Outcome.delivered() if each else Outcome.failed("No such user", status="5.1.1") for each in to]
factory = lmtp_factory(portal.Portal(Realm(), [checkers.AllowAnonymousAccess()]))
internet.TCPServer(2424, factory, interface="127.0.0.1").setServiceParent(application := service.Application("mail"))
