"""Twenty hubs in bad weather: every message arrives once, or its sender is told; the same seed gives the same run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from email import message_from_bytes
from functools import partial
from pathlib import Path
from random import Random

import attrs
import pytest
from zope.interface import implementer

from mailhub.delivery.limits import RunnerLimits
from mailhub.delivery.schedule import Schedule
from mailhub.errors import TemporaryError
from mailhub.interfaces import ACCEPT, IMessageView, IPolicy, ITransactionView, Origin, Screen, Verdict
from mailhub.message.envelope import Recipient
from mailhub.plugins import Component
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.wires import Weather

DAY = 86400
HUBS = 20
MESSAGES = 60
# The calling side is cut off within 3000 octets, and a message is longer: never after its last octet, when nobody can
# know whether it was taken and SMTP sends it again (RFC 5321 4.5.3.2.6).
STORM = Weather(refused=0.2, lost=0.05, cut=0.15, cut_octets=3000, tls_broken=0.1, split=True)
FILLER = b"x" * 70 + b"\r\n"


@implementer(IPolicy)
class Moody(Screen):
    """Sends a share of everything away for a while."""

    def __init__(self, random: Random, share: float) -> None:
        self._random = random
        self._share = share

    def _say(self, origin: Origin) -> Verdict:
        if origin.service == "smtp" and self._random.random() < self._share:
            return Verdict("defer", "4.3.2", "Not in the mood")
        return ACCEPT

    def begin(self, origin: Origin) -> Moody:
        if self._say(origin) is not ACCEPT:
            raise TemporaryError("Not in the mood")
        return self

    def mail(self, transaction: ITransactionView) -> Verdict:
        return self._say(transaction.origin)

    def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        return self._say(transaction.origin)

    async def message(self, message: IMessageView) -> Verdict:
        return self._say(message.origin)


def _given(policy: Moody, options: object, hub: object) -> Moody:
    return policy


def domain(number: int) -> str:
    return f"h{number}.example"


@attrs.frozen
class Run:
    """What a run was to do and what came of it."""

    wanted: Counter[tuple[str, str]]
    delivered: Counter[tuple[str, str]]
    bounces_wanted: Counter[tuple[str, str]]
    bounced: Counter[tuple[str, str]]
    left: int
    trace: list[tuple[float, str]]
    octets: list[bytes]


def storm(seed: int, folder: Path) -> Run:
    """On SQLite, whose units of work all servers share with production."""
    random = Random(f"{seed} script")
    with Internet(seed, STORM, folder) as internet:
        for number in range(HUBS):
            moods = Moody(Random(f"{seed} mood {number}"), 0.1)
            aliases = {f"all@{domain(number)}": [f"a@{domain(number)}", f"b@{domain((number + 1) % HUBS)}"]}
            host = internet.hub(
                domain(number),
                users=["a", "b"],
                config={
                    "aliases": aliases,
                    "database": {"type": "inline"},
                    "delivery": {"policies": ["moody"]},
                    "queue": {"retry_seconds": [60, 300], "expire_hours": 5 * 24},
                },
                plugins=[Component("policy", "moody", partial(_given, moods))],
            )
            hub = host.hub
            # The runner must wake at the right time by itself.
            hub.runner.reform(
                agents=hub.agents,
                bouncer=hub.bouncer,
                schedule=Schedule((60, 300), 5 * DAY),
                limits=RunnerLimits(poll_seconds=DAY),
            )
        wanted: Counter[tuple[str, str]] = Counter()
        bounces: Counter[tuple[str, str]] = Counter()
        for token in range(MESSAGES):
            _send(internet, random, f"token-{token:04}", wanted, bounces)
            internet.run(random.choice((0, 1, 30)))
        internet.run_until(lambda: not any(hub.queued() for hub in internet.hubs), 5 * DAY, step=600)
        left = sum(len(hub.queued()) for hub in internet.hubs)
        delivered, bounced, octets = _collect(internet.hubs)
        return Run(wanted, delivered, bounces, bounced, left, internet.network.events, octets)


def _send(
    internet: Internet,
    random: Random,
    token: str,
    wanted: Counter[tuple[str, str]],
    bounces: Counter[tuple[str, str]],
) -> None:
    home = random.randrange(HUBS)
    sender = f"{random.choice('ab')}@{domain(home)}"
    recipients = []
    for number in random.sample(range(HUBS), random.randint(1, 5)):
        name = random.choice(["a", "b", "a+detail", "all", "nobody"])
        if number == home and name in ("nobody", "all"):
            continue  # one's own hub says at once that there is no such user, and sends no two copies to one mailbox
        recipients.append(f"{name}@{domain(number)}")
        if name == "nobody":
            bounces[token, f"nobody@{domain(number)}"] += 1
        elif name == "all":
            wanted[token, f"a@{domain(number)}"] += 1
            wanted[token, f"b@{domain((number + 1) % HUBS)}"] += 1
        else:
            wanted[token, f"{name[0]}@{domain(number)}"] += 1
    if recipients:
        header = f"From: {sender}\r\nSubject: {token}\r\n\r\n".encode()
        internet.hubs[home].submit(sender, recipients, header + FILLER * random.randint(60, 300))


def _collect(hubs: Sequence[Host]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]], list[bytes]]:
    delivered: Counter[tuple[str, str]] = Counter()
    bounced: Counter[tuple[str, str]] = Counter()
    everything = []
    for hub in hubs:
        for user in (f"a@{hub.domain}", f"b@{hub.domain}"):
            for octets in hub.inbox(user):
                everything.append(octets)
                message = message_from_bytes(octets)
                if message.get_content_type() != "multipart/report":
                    delivered[str(message["Subject"]), user] += 1
                    continue
                parts = list(message.walk())
                original = next(part for part in parts if part.get_content_type() == "text/rfc822-headers")
                token = str(message_from_bytes(original.get_payload(decode=True))["Subject"])  # type: ignore[arg-type]
                for part in parts:
                    if part["Final-Recipient"]:
                        bounced[token, part["Final-Recipient"].removeprefix("rfc822; ")] += 1
    return delivered, bounced, everything


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return storm(1, tmp_path_factory.mktemp("first"))


def test_every_message_arrives_once_or_its_sender_is_told(run: Run) -> None:
    assert run.left == 0
    assert run.wanted
    assert run.delivered == run.wanted
    assert run.bounces_wanted
    assert run.bounced == run.bounces_wanted
    kinds = Counter(line.split(" ")[0] for _, line in run.trace)
    assert min(kinds["cut"], kinds["refused"], kinds["lost"]) > 5, "the storm was none"


def test_the_same_seed_gives_the_same_run_to_the_octet(run: Run, tmp_path: Path) -> None:
    again = storm(1, tmp_path)
    assert again.trace == run.trace
    assert again.octets == run.octets
