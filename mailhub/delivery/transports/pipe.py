"""The agent "pipe": a program takes the mail, by its standard input, and says by its exit status what became of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
from zope.interface import implementer

from mailhub.delivery.limits import DETAIL_SEPARATOR, RunnerLimits
from mailhub.delivery.loops import Prefixed
from mailhub.delivery.transports.line_ends import UnixLines
from mailhub.delivery.transports.sysexits import outcome_of_status
from mailhub.errors import Busy, StoreUnavailable, TemporaryError
from mailhub.interfaces import Delivery, Environment, IBlobReader, IDeliveryAgent, IHub, QueuedRecipient
from mailhub.log import Logger
from mailhub.message.address import Address, without_detail
from mailhub.message.envelope import Outcome, Reach
from mailhub.message.trace import delivered_to_fields, return_path

_log = Logger(namespace="mailhub.delivery.pipe")

OUTPUT_LIMIT = 1 << 20  # octets
_NAMES = ("sender", "recipient", "local", "extension", "domain", "original_recipient", "id", "delivery", "size")
_OF_RECIPIENT = frozenset({"recipient", "local", "extension", "domain", "original_recipient", "delivery"})
_FIELD = re.compile(r"\$\{([^}]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _command(_: object, field: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    if not value or not value[0]:
        raise ValueError("must name a program, then its arguments, each a string of its own")
    for argument in value:
        if unknown := [name for name in _FIELD.findall(argument) if name not in _NAMES]:
            known = ", ".join(f"${{{name}}}" for name in _NAMES)
            raise ValueError(f'"${{{unknown[0]}}}" stands for nothing; known: {known}')
        if "\0" in argument:
            raise ValueError("an argument has NUL in it")
    if _FIELD.search(value[0]):
        raise ValueError("the program itself cannot be named by the message")


def _between(low: int, high: int) -> Any:
    def check(_: object, field: attrs.Attribute[Any], value: int) -> None:
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}, not {value}")

    return check


@attrs.frozen
class PipeOptions:
    """How the program is run. `user`: who it runs as where the server is root, by default nobody. See
    docs/configuration.rst for the others."""

    command: tuple[str, ...] = attrs.field(validator=_command)
    user: str = ""
    folder: Path = Path("/")
    environment: Mapping[str, str] = attrs.field(factory=dict)
    recipients_per_run: int = attrs.field(default=1, validator=_between(1, 1000))
    run_seconds: int = attrs.field(default=600, validator=_between(1, 86400))
    message_size_bytes: int = attrs.field(default=0, validator=_between(0, (2 << 30) - 1))
    line_ends: Literal["lf", "crlf"] = "lf"
    return_path: bool = True
    delivered_to: bool = True
    from_line: bool = False


class _Refused(Exception):
    """A recipient that cannot be given to the program."""


@implementer(IDeliveryAgent)
class PipeAgent:
    """Runs the program once for each recipient, or for several together."""

    def __init__(
        self, options: PipeOptions, environment: Environment, *, separators: str = "+", attempt_seconds: float = 3600
    ) -> None:
        """`separators`: characters at which the extension of a local part begins. Of an attempt, which is cut off after
        `attempt_seconds`, half is for beginning runs, and each ends in the other half."""
        self._options = options
        self._environment = environment
        self._separators = separators
        self._seconds = min(float(options.run_seconds), attempt_seconds / 2)
        self._patience = attempt_seconds / 2

    @classmethod
    def of(cls, options: PipeOptions, hub: IHub) -> PipeAgent:
        """As a component."""
        separators, limits = hub.settings.value(DETAIL_SEPARATOR), hub.settings.of(RunnerLimits)
        return cls(options, hub.environment, separators=separators, attempt_seconds=limits.attempt_seconds)

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. Whoever's turn does not come in this attempt waits for the next one."""
        limit = self._options.message_size_bytes
        if limit and delivery.body.size > limit:
            outcome = Outcome.failed(f"Message is larger than {limit} octets", status="5.2.3")
            return {row.id: outcome for row in delivery.recipients}
        outcomes: dict[int, Outcome] = {}
        start = self._environment.monotonic()
        for rows in self._runs(delivery, outcomes):
            if self._environment.monotonic() - start >= self._patience:
                outcome = Outcome.delayed("No time is left in this attempt", status="4.4.7", reach=Reach.CROWDED)
            else:
                outcome = await self._run(delivery, rows)
            outcomes.update((row.id, outcome) for row in rows)
        return outcomes

    async def stop(self) -> None:
        """Nothing is kept."""

    def _runs(self, delivery: Delivery, outcomes: dict[int, Outcome]) -> Iterator[Sequence[QueuedRecipient]]:
        """Those who go together. Who cannot be named to the program is told so in `outcomes`, alone."""
        good = []
        for row in delivery.recipients:
            try:
                self._arguments(delivery, [row])
            except _Refused as error:
                outcomes[row.id] = Outcome.failed(str(error), status="5.1.3")
            else:
                good.append(row)
        step = self._options.recipients_per_run
        for first in range(0, len(good), step):
            yield good[first : first + step]

    async def _run(self, delivery: Delivery, rows: Sequence[QueuedRecipient]) -> Outcome:
        body: IBlobReader = Prefixed(self._prefix(delivery, rows), delivery.body)
        if self._options.line_ends == "lf":
            body = UnixLines(body)
        try:
            ended = await self._environment.processes.run(
                self._arguments(delivery, rows),
                body,
                seconds=self._seconds,
                output_limit=OUTPUT_LIMIT,
                environment=self._options.environment,
                folder=self._options.folder,
                user=self._options.user,
            )
        except (StoreUnavailable, Busy):
            raise  # the queue says so
        except TemporaryError as error:
            _log.error("program failed: id={id} ({error:text})", id=delivery.id, error=error)
            return Outcome.delayed("The program that takes this mail cannot be run now", status="4.3.0")
        return outcome_of_status(ended)

    def _prefix(self, delivery: Delivery, rows: Sequence[QueuedRecipient]) -> bytes:
        options, sender, prefix = self._options, delivery.mail.reverse_path, b""
        if options.from_line:
            moment = time.asctime(time.gmtime(self._environment.now()))
            prefix += f"From {sender or 'MAILER-DAEMON'} {moment}\r\n".encode()
        if options.return_path:
            prefix += return_path(sender)
        # One field would tell each of the others.
        if options.delivered_to and len(rows) == 1:
            prefix += delivered_to_fields([_plain(rows[0].route.recipient)])
        return prefix

    def _arguments(self, delivery: Delivery, rows: Sequence[QueuedRecipient]) -> list[str]:
        """The command for these: an argument that names a recipient stands there once for each. Raises _Refused for
        what has a control character, or would be taken for an option."""
        arguments: list[str] = []
        options_end = False
        for template in self._options.command:
            fields = _FIELD.findall(template)
            if not fields:
                options_end = options_end or template == "--"
                arguments.append(template)
                continue
            for row in rows if _OF_RECIPIENT.intersection(fields) else rows[:1]:
                values = self._values(delivery, row)
                argument = _FIELD.sub(lambda field, values=values: values[field[1]], template)  # type: ignore[misc]
                if _CONTROL.search(argument):
                    raise _Refused("Address has a control character in it")
                if argument.startswith("-") and not template.startswith("-") and not options_end:
                    raise _Refused("Address would be an option of the program")
                arguments.append(argument)
        return arguments

    def _values(self, delivery: Delivery, row: QueuedRecipient) -> Mapping[str, str]:
        recipient = row.route.recipient
        # Where several characters separate, the extension begins at the first of them.
        *_, (plain, extension) = ((recipient, ""), *without_detail(recipient, self._separators))
        original = row.route.originals[0].address if row.route.originals else recipient
        return {
            "sender": str(delivery.mail.reverse_path or ""),
            "recipient": str(recipient),
            "local": plain.local,
            "extension": extension,
            "domain": recipient.ascii_domain,
            "original_recipient": str(original),
            "id": delivery.id,
            "delivery": f"{delivery.id}-{row.id}",
            "size": str(delivery.body.size),
        }


def _plain(address: Address) -> str:
    """As a name, whose local part is in no quotes."""
    return f"{address.local}@{address.domain}"
