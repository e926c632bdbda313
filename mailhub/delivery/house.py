"""What all transactions of a hub share."""

from __future__ import annotations

import attrs

from mailhub.delivery.admission import Admission
from mailhub.delivery.allowance import SendingLimits
from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.doubles import Doubles
from mailhub.delivery.intake import HEADERS_TOGETHER
from mailhub.delivery.limits import HOPS, LONG_LINES, LongLines
from mailhub.delivery.message_ids import message_id
from mailhub.delivery.onward import OnwardSealer
from mailhub.delivery.priorities import Priorities
from mailhub.delivery.rules import Rules
from mailhub.delivery.screening.null_sender import NullSender
from mailhub.delivery.sending import Sending, SendingOptions
from mailhub.interfaces import Environment, IMailStore, IQueue
from mailhub.keys import MESSAGE_SIZE, setting
from mailhub.message.dates import format_date
from mailhub.message.submission import mend_header
from mailhub.wire.budget import Budget


@attrs.frozen(kw_only=True, eq=False)
class House:
    """What all transactions of a hub share.

    A message that has come through more than `hop_limit` hosts goes round in a loop (RFC 5321 6.3). `headers` is what
    those that are not whole yet may hold together. `long_lines`: what happens to those of a submitted message.
    `rules` say what becomes of mail for accounts, None where there are none. `allowances` count what our own users
    send. `doubles` knows what was taken before; None takes all. `priorities` say how urgent mail may be. `signer` signs
    what our users send; None signs nothing. `sealer` seals what others have sent and goes on; None seals nothing. A
    body that a screen gives may have `message_size` octets.
    """

    hostname: str
    environment: Environment
    admission: Admission
    queue: IQueue
    store: IMailStore
    hop_limit: int = setting(HOPS)
    headers: Budget = attrs.field(factory=lambda: Budget(HEADERS_TOGETHER))
    long_lines: LongLines = setting(LONG_LINES)
    rules: Rules | None = None
    null_sender: NullSender = attrs.field(factory=NullSender)
    allowances: SendingLimits | None = None
    doubles: Doubles | None = None
    priorities: Priorities = attrs.field(factory=Priorities)
    signer: Signer | None = None
    message_size: int = setting(MESSAGE_SIZE)
    sealer: OnwardSealer | None = None
    sending: Sending = attrs.field()

    @sending.default
    def _usual_sending(self) -> Sending:
        return Sending(SendingOptions(), self.environment)

    def new_message_id(self) -> str:
        """With its angle brackets."""
        return message_id(self.environment, self.hostname)

    def mend(self, header: bytes) -> bytes:
        """What a submitted message's header lacks, or has too much of."""
        date = format_date(self.environment.now())
        return mend_header(header, date, self.new_message_id())
