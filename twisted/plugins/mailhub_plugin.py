"""`twistd mailhub`. Apart from the components, so that twistd need not import a mail server to show its help."""

from twisted.application.service import ServiceMaker

mailhub_service = ServiceMaker(  # type: ignore[no-untyped-call]
    "mailhub", "mailhub.tap", "A mail server: SMTP, submission, POP3 and IMAP4.", "mailhub"
)
