"""What `mailhub check` says of the programs that policies ask: whether they can be reached now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mailhub.cli.finding import Finding
from mailhub.cli.world import world
from mailhub.delivery.filters.clamav import ping
from mailhub.delivery.filters.rspamd import RSPAMD_URL
from mailhub.delivery.limits import CA_FILE
from mailhub.errors import MailError
from mailhub.interfaces import Environment
from mailhub.net.https import WebAddress, WebService
from mailhub.net.place import Place
from mailhub.net.stream import Stream, Streams
from mailhub.net.tls import ClientTls

if TYPE_CHECKING:
    from mailhub.config.settings import Config

_SECONDS = 30.0  # for one program
_CONNECT_SECONDS = 5.0
_BY_ADDRESS = ("clamav", "milter", "policy-service")
_BY_URL = ("http", "rspamd")


def filters(config: Config) -> Iterator[Finding]:
    """A line for each. That one is not there is a warning: it may be started later."""
    parts = [(name, part) for (kind, name), part in config.parts.items() if kind == "policy"]
    asked = [(name, part.type, part.options) for name, part in parts if part.type in _BY_ADDRESS + _BY_URL]
    if not asked:
        return
    with world(config) as found:
        tls = ClientTls(config.value(CA_FILE))
        for name, kind, options in asked:
            try:
                where, streams = _streams(kind, options, found.environment, tls)
            except ValueError:
                continue  # what is wrong with its table is told with the components
            what = f"policy {name}: what listens at {where}"
            try:
                found.wait(streams.ask(ping if kind == "clamav" else _leave), _SECONDS)
            except MailError as error:
                yield None, f"{what} does not answer: {error.text}"
            else:
                yield True, f"{what} {'answers' if kind == 'clamav' else 'takes connections'}"


def _streams(kind: str, options: Mapping[str, Any], environment: Environment, tls: ClientTls) -> tuple[str, Streams]:
    """Raises ValueError."""
    if kind in _BY_ADDRESS:
        where = str(options.get("address", ""))
        return where, Streams(Place.parse(where), environment, _CONNECT_SECONDS)
    where = str(options.get("url", RSPAMD_URL if kind == "rspamd" else ""))
    return where, WebService.of(WebAddress.parse(where), environment, tls, _CONNECT_SECONDS).streams


async def _leave(stream: Stream) -> None:
    """To be there is enough: what else may be said costs the program a judgement."""
    stream.leave()
