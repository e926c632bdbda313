"""Mail that a program makes up, read by IMAP: `twistd -ny embed_imap.tac`, port 2143."""
from twisted.application import internet, service
from twisted.cred import checkers, portal
from mailhub.api import SimpleStore, StoreRealm, imap_factory
class Notes(SimpleStore):
    def users(self): return ["ann@example.org"]
    def messages(self, user, folder): return ["first"]
    def read(self, user, folder, key): return b"From: ben@example.org\r\nSubject: first\r\n\r\nHow are you?\r\n"
users = checkers.InMemoryUsernamePasswordDatabaseDontUse()
users.addUser(b"ann@example.org", b"secret")
factory = imap_factory(portal.Portal(StoreRealm(Notes, data="notes"), [users]), cleartext_login=["127.0.0.1"])
application = service.Application("mail")
internet.TCPServer(2143, factory, interface="127.0.0.1").setServiceParent(application)
