"""The .eml files of this folder, fetched and taken away by POP3: `twistd -ny embed_pop3.tac`, port 2110."""
from pathlib import Path
from twisted.application import internet, service
from twisted.cred import checkers, portal
from mailhub.api import SimpleStore, StoreRealm, pop3_factory
class Folder(SimpleStore):
    def users(self): return ["ann@example.org"]
    def messages(self, user, folder): return sorted(path.name for path in Path().glob("*.eml"))
    def read(self, user, folder, key): return Path(key).read_bytes()
    def remove(self, user, folder, key): Path(key).unlink()
users = checkers.InMemoryUsernamePasswordDatabaseDontUse()
users.addUser(b"ann@example.org", b"secret")
factory = pop3_factory(portal.Portal(StoreRealm(Folder, data="uids"), [users]), cleartext_login=["127.0.0.1"])
application = service.Application("mail")
internet.TCPServer(2110, factory, interface="127.0.0.1").setServiceParent(application)
