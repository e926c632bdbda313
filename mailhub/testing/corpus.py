"""Varied messages made by a seeded generator: real forms of mail, and real mistakes.

Every message has CRLF line ends only, no NUL, lines of at most 998 octets, and ends with CRLF, so that each goes
through SMTP, IMAP and POP3 octet for octet.
"""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Callable, Iterator

_MEGABYTE = 1 << 20

_NAMES = (
    "Alice Example", '"Doe, John"', "=?utf-8?q?J=C3=B6rg_M=C3=BCller?=", "=?iso-8859-1?B?SvZyZw==?=",
    "Bob (the builder)", '"Quoted \\"Name\\""', "", "=?utf-8?b?5bGx55Sw5aSq6YOO?=", "O'Brien",
)  # fmt: skip
_SUBJECTS = (
    b"Hello", b"Re: your message of yesterday", b"=?utf-8?q?Gr=C3=BC=C3=9Fe_aus?=\r\n =?utf-8?q?_K=C3=B6ln?=",
    b"=?iso-2022-jp?B?GyRCNEE7ehsoQg==?=", b"",
    b"[list] a subject that is long enough to be folded, and\r\n\tfolded it is", b"=?broken?x?no encoded word?=",
    b"=?utf-8?b?4oKs?= 100", b"caf\xc3\xa9 in raw UTF-8", b"caf\xe9 in raw Latin-1",
)  # fmt: skip
_TEXT = (
    "the message was sent to a mailbox and read there before noon by someone who answered it at once while the relay "
    "kept a copy for its queue until every recipient had been served naïve façade Größe señor 日本語 Ελλάδα €"
)
_WORDS = _TEXT.split()
_HOSTS = ("xx.example", "yy.example", "mail.example.org", "a.very.long.host.name.example.com", "[192.0.2.7]")


def corpus(seed: int, count: int) -> Iterator[bytes]:
    """`count` messages. The same seed gives the same octets, and a longer corpus begins with the shorter one.

    Every form appears once in each run of as many messages as there are forms, in an order of its own.
    """
    for number in range(count):
        turn, place = divmod(number, len(_FORMS))
        order = random.Random(f"{seed}/{turn}").sample(_FORMS, len(_FORMS))
        yield _Maker(random.Random(f"{seed}/{number}"), number).finished(order[place])


class _Maker:
    """Makes the pieces of one message."""

    def __init__(self, chance: random.Random, number: int) -> None:
        self.chance = chance
        self.number = number

    def finished(self, form: Callable[[_Maker], bytes]) -> bytes:
        message = form(self)
        return message if message.endswith(b"\r\n") else message + b"\r\n"

    # --- text ------------------------------------------------------------------------------------------------------

    def sentence(self) -> str:
        return " ".join(self.chance.choices(_WORDS, k=self.chance.randint(3, 12)))

    def lines(self, count: int = 0) -> list[str]:
        return [self.sentence() for _ in range(count or self.chance.randint(1, 20))]

    def ascii_text(self, count: int = 0) -> bytes:
        return b"".join([line.encode("ascii", "replace") + b"\r\n" for line in self.lines(count)])

    def text(self, charset: str = "utf-8", count: int = 0) -> bytes:
        return b"".join([line.encode(charset, "replace") + b"\r\n" for line in self.lines(count)])

    def octets(self, size: int) -> bytes:
        return self.chance.randbytes(size)

    def base64(self, octets: bytes) -> bytes:
        return base64.encodebytes(octets).replace(b"\n", b"\r\n")

    def boundary(self) -> str:
        marks = ("=_", "----=_Part_", "b", "Apple-Mail=_", "_000_", "'()+_,-./:=?")
        return self.chance.choice(marks) + f"{self.chance.getrandbits(32):08x}"

    # --- header ----------------------------------------------------------------------------------------------------

    def address(self) -> str:
        name = self.chance.choice(_NAMES)
        mailbox = f"{self.chance.choice(('a', 'b', 'john.doe', 'x+tag', 'list-owner'))}@{self.chance.choice(_HOSTS)}"
        return f"{name} <{mailbox}>" if name else mailbox

    def date(self) -> str:
        day, hour, minute = self.chance.randint(1, 28), self.chance.randint(0, 23), self.chance.randint(0, 59)
        month = self.chance.choice(("Jan", "Feb", "Jun", "Nov"))
        zone = self.chance.choice(("+0000", "-0700", "+0530", "GMT", "EST"))
        return f"{day} {month} 20{self.chance.randint(10, 30)} {hour:02}:{minute:02}:00 {zone}"

    def header(self, *fields: str) -> bytes:
        """The usual fields in the order of chance, then these."""
        usual = [
            f"From: {self.address()}",
            "To: " + ",\r\n\t".join([self.address() for _ in range(self.chance.randint(1, 5))]),
            f"Date: {self.date()}",
            f"Message-ID: <{self.number}.{self.chance.getrandbits(48):x}@{self.chance.choice(_HOSTS[:4])}>",
        ]
        if self.chance.random() < 0.3:
            usual.append(f"Cc: {self.address()}")
        if self.chance.random() < 0.3:
            usual.append("In-Reply-To: <parent@xx.example>\r\nReferences: <root@xx.example>\r\n <parent@xx.example>")
        if self.chance.random() < 0.2:
            usual.append(f"Reply-To: {self.address()}\r\nSender: {self.address()}")
        self.chance.shuffle(usual)
        lines = [*[line.encode() for line in usual], b"Subject: " + self.chance.choice(_SUBJECTS)]
        return b"".join([line + b"\r\n" for line in lines + [field.encode() for field in fields]])

    def mime_header(self, *fields: str) -> bytes:
        return self.header("MIME-Version: 1.0", *fields)

    # --- parts: header, empty line, body -----------------------------------------------------------------------------

    def part(self, *fields: str, body: bytes) -> bytes:
        return b"".join([field.encode() + b"\r\n" for field in fields]) + b"\r\n" + body

    def plain_part(self) -> bytes:
        return self.part("Content-Type: text/plain; charset=us-ascii", body=self.ascii_text())

    def html_part(self) -> bytes:
        page = "<html><body><p>" + "</p>\n<p>".join(self.lines()) + "</p></body></html>\n"
        return self.part(
            "Content-Type: text/html; charset=UTF-8",
            "Content-Transfer-Encoding: quoted-printable",
            body=quopri.encodestring(page.encode()).replace(b"\n", b"\r\n"),
        )

    def attachment(self, size: int = 0) -> bytes:
        names = (
            'filename="report.pdf"',
            "filename*=UTF-8''%e2%82%ac%20rates.pdf",
            'filename*0="a very long na";\r\n\tfilename*1="me.pdf"',
            "filename*0*=iso-8859-1'en'%A3%20;\r\n\tfilename*1=rates.pdf",
            'filename="=?utf-8?q?=C3=BC.pdf?="',
            "filename=with spaces.pdf",
        )
        return self.part(
            'Content-Type: application/pdf; name="report.pdf"',
            "Content-Transfer-Encoding: base64",
            f"Content-Disposition: attachment;\r\n\t{self.chance.choice(names)}",
            body=self.base64(self.octets(size or self.chance.randint(1, 3000))),
        )

    def image_part(self) -> bytes:
        return self.part(
            "Content-Type: image/png",
            "Content-Transfer-Encoding: base64",
            f"Content-ID: <image{self.number}@xx.example>",
            "Content-Disposition: inline",
            body=self.base64(self.octets(200)),
        )

    def joined(self, boundary: str, parts: list[bytes], *, close: bool = True, between: bytes = b"\r\n") -> bytes:
        """A multipart's body. The line end before a delimiter belongs to the delimiter."""
        mark = b"--" + boundary.encode()
        body = b"".join([mark + b"\r\n" + part + between for part in parts])
        return body + (mark + b"--\r\n" if close else b"")

    def multipart(self, subtype: str, parts: list[bytes], *parameters: str) -> bytes:
        boundary = self.boundary()
        more = "".join(f";\r\n\t{parameter}" for parameter in parameters)
        return self.part(
            f'Content-Type: multipart/{subtype};\r\n\tboundary="{boundary}"{more}', body=self.joined(boundary, parts)
        )

    def alternative(self) -> bytes:
        return self.multipart("alternative", [self.plain_part(), self.html_part()])

    def message_part(self, message: bytes) -> bytes:
        return self.part("Content-Type: message/rfc822", "Content-Disposition: attachment", body=message)


# --- the forms: each one kind of message ---------------------------------------------------------------------


def _plain(make: _Maker) -> bytes:
    return make.header() + b"\r\n" + make.ascii_text()


def _eight_bit(make: _Maker) -> bytes:
    fields = "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"
    return make.mime_header(*fields) + b"\r\n" + make.text()


def _other_charset(make: _Maker) -> bytes:
    charset = make.chance.choice(("iso-8859-1", "windows-1252", "koi8-r", "iso-2022-jp", "gb18030", "shift_jis"))
    fields = f"Content-Type: text/plain; charset={charset}", "Content-Transfer-Encoding: base64"
    return make.mime_header(*fields) + b"\r\n" + make.base64(make.text(charset))


def _wrong_charset(make: _Maker) -> bytes:
    charset = make.chance.choice(("utf-8", "no-such-charset", "us-ascii", '"', "zlib"))
    fields = f"Content-Type: text/plain; charset={charset}", "Content-Transfer-Encoding: 8bit"
    return make.mime_header(*fields) + b"\r\n" + make.text("latin-1") + b"\xff\xfe\x80\r\n"


def _quoted_printable(make: _Maker) -> bytes:
    body = quopri.encodestring(make.text().replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    fields = "Content-Type: text/plain; charset=utf-8; format=flowed", "Content-Transfer-Encoding: quoted-printable"
    return make.mime_header(*fields) + b"\r\n" + body + b"broken =ZZ and = end=\r\n"


def _alternative(make: _Maker) -> bytes:
    return make.mime_header() + make.alternative()


def _mixed(make: _Maker) -> bytes:
    attachments = [make.attachment() for _ in range(make.chance.randint(1, 4))]
    return make.mime_header() + make.multipart("mixed", [make.alternative(), *attachments])


def _related(make: _Maker) -> bytes:
    return make.mime_header() + make.multipart("related", [make.html_part(), make.image_part()], 'type="text/html"')


def _signed(make: _Maker) -> bytes:
    signature = make.part(
        'Content-Type: application/pgp-signature; name="signature.asc"',
        body=b"-----BEGIN PGP SIGNATURE-----\r\n\r\n"
        + make.base64(make.octets(90))
        + b"-----END PGP SIGNATURE-----\r\n",
    )
    parameters = "micalg=pgp-sha512", 'protocol="application/pgp-signature"'
    return make.mime_header() + make.multipart("signed", [make.plain_part(), signature], *parameters)


def _forwarded(make: _Maker) -> bytes:
    inner = make.chance.choice((_plain, _mixed, _alternative, _header_only))(make)
    return make.mime_header() + make.multipart("mixed", [make.plain_part(), make.message_part(inner)])


def _message_in_message(make: _Maker) -> bytes:
    message = _mixed(make)
    for _ in range(make.chance.randint(2, 8)):
        message = make.mime_header("Content-Type: message/rfc822") + b"\r\n" + message
    return message


def _digest(make: _Maker) -> bytes:
    parts = [b"\r\n" + _plain(make) for _ in range(make.chance.randint(1, 5))]
    return make.mime_header() + make.multipart("digest", parts)


def _deep(make: _Maker) -> bytes:
    part = make.plain_part()
    for _ in range(make.chance.randint(10, 40)):
        part = make.multipart("mixed", [part])
    return make.mime_header() + part


def _report(make: _Maker) -> bytes:
    recipient = b"Final-Recipient: rfc822; b@yy.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    status = b"Reporting-MTA: dns; xx.example\r\n\r\n" + recipient
    parts = [
        make.plain_part(),
        make.part("Content-Type: message/delivery-status", body=status),
        make.part("Content-Type: text/rfc822-headers", body=make.header()),
    ]
    return make.mime_header("Auto-Submitted: auto-replied") + make.multipart(
        "report", parts, "report-type=delivery-status"
    )


def _calendar(make: _Maker) -> bytes:
    event = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Meeting\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    part = make.part(
        "Content-Type: text/calendar; charset=utf-8; method=REQUEST", "Content-Language: en, de", body=event
    )
    return make.mime_header("Content-Location: http://xx.example/") + make.multipart(
        "alternative", [make.plain_part(), part]
    )


def _not_closed(make: _Maker) -> bytes:
    boundary = make.boundary()
    body = make.joined(boundary, [make.plain_part(), make.attachment()], close=False)
    return make.mime_header(f'Content-Type: multipart/mixed; boundary="{boundary}"') + b"\r\npreamble\r\n" + body


def _never_opened(make: _Maker) -> bytes:
    return make.mime_header('Content-Type: multipart/mixed; boundary="nowhere"') + b"\r\n" + make.ascii_text()


def _no_boundary(make: _Maker) -> bytes:
    return make.mime_header("Content-Type: multipart/mixed") + b"\r\n--x\r\n\r\n" + make.ascii_text() + b"--x--\r\n"


def _same_boundary_twice(make: _Maker) -> bytes:
    inner = make.part('Content-Type: multipart/mixed; boundary="same"', body=make.joined("same", [make.plain_part()]))
    return make.mime_header('Content-Type: multipart/mixed; boundary="same"') + b"\r\n" + make.joined("same", [inner])


def _boundary_prefix(make: _Maker) -> bytes:
    inner = make.part("Content-Type: multipart/mixed; boundary=ab", body=make.joined("ab", [make.plain_part()] * 2))
    body = make.joined("a", [inner, make.plain_part()])
    return make.mime_header("Content-Type: multipart/mixed; boundary=a") + b"\r\n" + body + b"--ac\r\nepilogue\r\n"


def _odd_mime(make: _Maker) -> bytes:
    kinds = (
        "text",
        "multipart",
        "text/",
        "/plain",
        ";",
        "text/plain; charset",
        "image/gif; a=b; a=c; =; ;;",
        "text / html",
    )
    encoding = make.chance.choice(("BASE64", "x-unknown", "8-bit", "", "quoted-printable (comment)"))
    kind = make.chance.choice(kinds)
    fields = f"Content-Type: {kind}", f"Content-Transfer-Encoding: {encoding}", "Content-Disposition: ; x"
    return make.mime_header(*fields) + b"\r\n" + make.ascii_text()


def _header_only(make: _Maker) -> bytes:
    return make.header()


def _empty_body(make: _Maker) -> bytes:
    return make.header() + b"\r\n"


def _no_header(make: _Maker) -> bytes:
    return b"\r\n" + make.ascii_text()


def _no_fields(make: _Maker) -> bytes:
    return make.ascii_text() + b"\r\n" + make.ascii_text()


def _empty(make: _Maker) -> bytes:
    return b"\r\n"


def _leading_dots(make: _Maker) -> bytes:
    dots = b".\r\n..\r\n...\r\n.\tx\r\n\r\n.\r\n"
    return make.header() + b"\r\n" + dots + make.ascii_text() + b".QUIT\r\n.\r\n"


def _long_lines(make: _Maker) -> bytes:
    lines = [b"%b\r\n" % (b"x" * size) for size in (998, 997, 512, 78, 0, 1, 998)]
    return make.header("X-Long: " + "y" * 990) + b"\r\n" + b"".join(lines)


def _odd_header(make: _Maker) -> bytes:
    odd = (
        b"From mbox@xx.example Mon Jan  1 00:00:00 2024\r\nno colon here\r\nTo: undisclosed-recipients:;\r\n"
        b"Cc: Group: a@xx.example, B <b@yy.example>;, <@r1,@r2:c@zz.example>\r\nBcc: (only (a nested) comment)\r\n"
        b"Date: yesterday\r\nFrom: a@xx.example, b@yy.example\r\nTo: second@xx.example\r\nX-Empty:\r\nX-Blank:    \r\n"
        b"X-Folded: a\r\n  b\r\n\tc\r\n \r\n\td\r\nSpace Before : x\r\nTab\t: y\r\n"
        b"X-8bit: \xe4\xf6\xfc\r\n: no name\r\n"
    )
    return odd + b"\r\n" + make.ascii_text()


def _many_fields(make: _Maker) -> bytes:
    fields = [f"X-Field-{number}: {make.chance.getrandbits(32):x}" for number in range(make.chance.randint(100, 600))]
    return make.header(*fields) + b"\r\n" + make.ascii_text()


def _many_recipients(make: _Maker) -> bytes:
    people = ",\r\n ".join(
        [f"Person {number} <p{number}@xx.example>" for number in range(make.chance.randint(50, 400))]
    )
    return make.header(f"Cc: {people}") + b"\r\n" + make.ascii_text()


def _list_mail(make: _Maker) -> bytes:
    fields = (
        "Received: from relay.example ([192.0.2.1])\r\n\tby xx.example with ESMTPS id abc\r\n\tfor <b@yy.example>; "
        + make.date(),
        "List-Id: A list <list.xx.example>",
        "List-Unsubscribe: <mailto:leave@xx.example>",
        "Precedence: list",
        "X-Priority: 1 (Highest)",
        "DKIM-Signature: v=1; a=rsa-sha256; d=xx.example; s=s1;\r\n\tb="
        + make.base64(make.octets(40)).decode().strip(),
    )
    return make.header(*fields) + b"\r\n" + make.ascii_text()


def _large_text(make: _Maker) -> bytes:
    line = make.ascii_text(1)
    return make.header() + b"\r\n" + line * (_MEGABYTE // len(line))


def _large_attachment(make: _Maker) -> bytes:
    return make.mime_header() + make.multipart("mixed", [make.plain_part(), make.attachment(_MEGABYTE * 3 // 4)])


_FORMS: tuple[Callable[[_Maker], bytes], ...] = (
    _plain, _eight_bit, _other_charset, _wrong_charset, _quoted_printable, _alternative, _mixed, _related, _signed,
    _forwarded, _message_in_message, _digest, _deep, _report, _calendar, _not_closed, _never_opened, _no_boundary,
    _same_boundary_twice, _boundary_prefix, _odd_mime, _header_only, _empty_body, _no_header, _no_fields, _empty,
    _leading_dots, _long_lines, _odd_header, _many_fields, _many_recipients, _list_mail, _plain, _mixed, _alternative,
    _eight_bit, _forwarded, _odd_mime, _many_fields, _large_text, _large_attachment,
)  # fmt: skip
