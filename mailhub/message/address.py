"""Mail addresses as SMTP writes them (RFC 5321 4.1.2, RFC 6531 3.3)."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache

import attrs
import idna

LOCAL_LIMIT = 256  # octets; RFC 5321 4.5.3.1.1 wants at least 64, and VERP and SRS senders are longer
DOMAIN_LIMIT = 255  # octets, RFC 5321 4.5.3.1.2
POSTMASTER = "postmaster"
ABUSE = "abuse"
ROLES = frozenset({POSTMASTER, ABUSE})
_LABEL_LIMIT = 63  # octets, RFC 1035 2.3.4

# UTF8-non-ascii of RFC 6531, less what no name may hold: C1 controls, line separators, lone surrogates.
_NON_ASCII = "\u00a0-\u2027\u202a-\ud7ff\ue000-\U0010ffff"
# RFC 5322 3.2.3 atext.
_ATEXT = "A-Za-z0-9!#$%&'*+/=?^_`{|}~" + _NON_ASCII + "-"
_DOT_STRING = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
# What is taken without quotes: dots at the ends or in a row, too, as mobile carriers in Japan let users have them. The
# local part is the business of its own host (RFC 5321 2.3.11); we write it in quotes.
_UNQUOTED = re.compile(rf"[{_ATEXT}.]+")
# RFC 5321 4.1.2 Quoted-string: qtextSMTP / quoted-pairSMTP.
_QUOTED = re.compile(rf'"((?:[ !#-\[\]-~{_NON_ASCII}]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
# RFC 5321 4.1.2 sub-domain: Let-dig [Ldh-str]; and the underscore, which names of hosts in DNS have.
_SUB_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")


@attrs.frozen
class Address:
    """A mailbox address.

    `local` is unquoted and keeps its case; `domain` is lower case, or an address literal in brackets.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        """The form that stands between the angle brackets: the local part is quoted where it must be."""
        local = self.local
        if not _DOT_STRING.fullmatch(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `local@domain`, the local part quoted or not (RFC 5321 4.1.2 Mailbox). Raises ValueError."""
        written, at, domain = text.rpartition("@")
        if not at:
            raise ValueError("address has no @")
        return cls(parse_local(written), parse_domain(domain))

    @property
    def key(self) -> str:
        """The same text for every way to write one mailbox: case, normal form, A-/U-label do not matter."""
        return f"{fold_local(self.local)}@{self.ascii_domain}"

    @property
    def ascii_domain(self) -> str:
        """The domain with A-labels (RFC 5890 2.3.2.1), as DNS and SMTP without SMTPUTF8 need it."""
        return self.domain if self.domain.isascii() else to_ascii(self.domain)

    @property
    def is_ascii(self) -> bool:
        """Whether the address can be sent without SMTPUTF8 as it stands (RFC 6531 3.7)."""
        return self.local.isascii() and self.domain.isascii()


def is_address(given: object) -> bool:
    """Whether it is one, and such as can be written and read again: anybody may call the class with any text."""
    try:
        return isinstance(given, Address) and Address.parse(str(given)) == given
    except (ValueError, TypeError, AttributeError):
        return False


def is_postmaster(address: Address) -> bool:
    """The one local part that is the same in any case everywhere (RFC 5321 2.3.11)."""
    return address.local.lower() == POSTMASTER


def is_role(address: Address) -> bool:
    """The two that every domain has to have: postmaster, and abuse (RFC 2142 2)."""
    return address.local.lower() in ROLES


def fold_local(local: str) -> str:
    """The form of a local part that is compared: without case (RFC 5321 2.4 leaves that to the host)."""
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).casefold())


def without_detail(address: Address, separators: str) -> tuple[tuple[Address, str], ...]:
    """`user+detail@domain` -> `user@domain` and `detail` (RFC 5233). Where several characters separate, the first place
    of each is one to look at, the longest user first; empty when there is no detail."""
    local = address.local
    places = [at for mark in separators if (at := local.find(mark)) > 0]
    if not places:
        return ()
    places.sort(reverse=True)
    return tuple([(attrs.evolve(address, local=local[:at]), local[at + 1 :]) for at in dict.fromkeys(places)])


def parse_local(text: str) -> str:
    """Read a Local-part and give it unquoted. Raises ValueError."""
    if len(text) > 2 * LOCAL_LIMIT + 2:  # every octet escaped, two quotes
        raise ValueError("local part is too long")
    if _UNQUOTED.fullmatch(text):
        local = text
    elif quoted := _QUOTED.fullmatch(text):
        local = _QUOTED_PAIR.sub(r"\1", quoted[1])
    else:
        raise ValueError("local part is malformed")
    if len(local if local.isascii() else local.encode()) > LOCAL_LIMIT:
        raise ValueError("local part is too long")
    return local


@lru_cache(maxsize=1024)  # most mail goes between few domains; a text that raises is not kept
def parse_domain(text: str) -> str:
    """Read a Domain or address-literal; lower case, U-labels stay U-labels, the dot of the root goes. Raises
    ValueError."""
    if text.startswith("["):
        return _parse_literal(text)
    if len(text) > DOMAIN_LIMIT:
        raise ValueError("domain is too long")
    domain = text.lower().removesuffix(".")
    written = domain if domain.isascii() else to_ascii(domain)
    if len(written) > DOMAIN_LIMIT:
        raise ValueError("domain is too long")
    for label in written.split("."):
        if len(label) > _LABEL_LIMIT or not _SUB_DOMAIN.fullmatch(label):
            raise ValueError("domain is malformed")
    return domain if written is domain else unicodedata.normalize("NFC", domain)


def to_ascii(domain: str) -> str:
    """Turn U-labels into A-labels by IDNA2008 with UTS 46 mapping, in lower case. Raises ValueError."""
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower().removesuffix(".")
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError("domain is not a valid internationalised name") from error


def to_unicode(domain: str) -> str:
    """A domain with U-labels where it has A-labels that can be read."""
    if "xn--" not in domain:
        return domain
    try:
        return idna.decode(domain)
    except (idna.IDNAError, UnicodeError):
        return domain


@lru_cache(maxsize=1024)  # a peer's messages come in numbers
def literal_of(host: str) -> str:
    """The address literal (RFC 5321 4.1.3) of an IP address, without its scope; "" for what is none."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


def _parse_literal(text: str) -> str:
    """RFC 5321 4.1.3; the only registered tag is IPv6."""
    inner = text[1:-1]
    if not text.endswith("]") or len(text) > DOMAIN_LIMIT:
        raise ValueError("address literal is malformed")
    try:
        if inner[:5].lower() != "ipv6:":
            return f"[{ipaddress.IPv4Address(inner)}]"
        if "%" in inner:
            raise ValueError("scope")
        return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
    except ValueError as error:
        raise ValueError("address literal is malformed") from error
