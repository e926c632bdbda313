"""Mail from a local server, an answer for each recipient: `twistd -ny embed_lmtp.tac`, LMTP on port 2424."""
from twisted.application import internet, service
from twisted.cred import checkers, portal
from mailhub.api import IMailReceiver, Outcome, lmtp_factory
BOXES = {"ann": open("ann.inbox", "ab", buffering=0), "ben": open("ben.inbox", "ab", buffering=0)}
class Realm:  # which is its own avatar
    def requestAvatar(self, avatar_id, mind, *interfaces): return IMailReceiver, self, lambda: None
    def recipient(self, recipient, transaction): pass  # who there is shows at the end
    def deliver(self, box, octets):
        return Outcome.delivered() if box and box.write(octets) else Outcome.failed("No such user", status="5.1.1")
    async def message(self, message):  # an outcome for each recipient
        return [self.deliver(BOXES.get(each.address.local), await message.open().read()) for each in message.recipients]
factory = lmtp_factory(portal.Portal(Realm(), [checkers.AllowAnonymousAccess()]))
application = service.Application("mail")
internet.TCPServer(2424, factory, interface="127.0.0.1").setServiceParent(application)
