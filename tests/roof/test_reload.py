"""Reading the configuration again: all of it is taken over, or none; nothing that is under way is touched."""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.cli.offline import environment, opened, wait
from mailhub.components import Hub, build_hub
from mailhub.config.settings import load
from mailhub.errors import NotPermitted
from mailhub.interfaces import ACCEPT, STORE, IThreads, Origin, Verdict
from mailhub.message.address import Address
from mailhub.net.certificates import write_self_signed
from mailhub.plugins import Component, load_catalogue
from mailhub.reload import ANSWER, Reading, Reloader, read_answer, write_answer
from mailhub.signals import Signals
from tests.net.tls_peer import handshake

TOP = 'hostname = "mx.xx.example"\ndata = "data"\ndomains = ["xx.example"]\n'
TLS = '[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n'
LISTEN = '[listen]\nsmtp = ["tcp:0"]\nimaps = ["tcp:0"]\n'
CATALOGUE = load_catalogue()


@attrs.define(eq=False)
class Stage:
    """A hub whose file can be written anew."""

    folder: Path
    hub: Hub
    outcomes: list[Reading]
    reloader: Reloader
    catalogue: Any

    def reload(self, text: str) -> Reading:
        (self.folder / "m.toml").write_text(text)
        self.reloader.ask()
        return self.outcomes[-1]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return staged(tmp_path, TOP + TLS + LISTEN)


def staged(folder: Path, text: str, **more: Any) -> Stage:
    write_self_signed(folder / "c.pem", folder / "k.pem", ["mx.xx.example"], 30, time.time())
    (folder / "m.toml").write_text(text)
    config = load(folder / "m.toml")
    catalogue = attrs.evolve(CATALOGUE, **more)
    hub = build_hub(config, environment(config), catalogue)
    outcomes: list[Reading] = []
    reloader = Reloader(hub, lambda *_: catalogue, lambda: None, outcomes.append)
    reloader.ready()
    return Stage(folder, hub, outcomes, reloader, catalogue)


def route(hub: Hub, address: str) -> Any:
    return wait(hub.routing.route(Address.parse(address)))


def test_names_and_ways_count_for_what_comes(stage: Stage) -> None:
    outcome = stage.reload(
        (TOP + TLS + LISTEN).replace('["xx.example"]', '["xx.example", "zz.example"]').replace("mx.xx", "mail.xx")
        + '[aliases]\n"@zz.example" = ["a@far.example"]\n[route."far.example"]\nagent = "lmtp"\nhost = "unix:/x"\n'
    )
    assert not outcome.fault
    assert outcome.changed == ("hostname", "domains", "[aliases]", '[route."far.example"]')
    assert stage.hub.hostname == "mail.xx.example"
    assert sorted(stage.hub.domains) == ["xx.example", "zz.example"]
    with opened(stage.hub.settings, "create"):
        pass
    wait(stage.hub.start())
    (way,) = route(stage.hub, "any@zz.example")
    assert (way.agent, way.target, str(way.recipient)) == ("lmtp", "unix:/x", "a@far.example")
    assert "lmtp" in stage.hub.agents
    wait(stage.hub.stop())


def session_parts(stage: Stage, service: str = "smtp") -> Any:
    made: Any = stage.hub.factories[service].make_session
    return made.__self__


def test_sessions_under_way_keep_the_parts_they_began_with(stage: Stage) -> None:
    before = session_parts(stage)
    limits = stage.hub.factories["smtp"].limits
    outcome = stage.reload(TOP + TLS + LISTEN + "[limits]\nsmtp_idle_seconds = 77\nconnections_per_address = 7\n")
    assert outcome.changed == ("[limits] connections_per_address", "[limits] smtp_idle_seconds")
    after = session_parts(stage)
    assert (before.options.idle_seconds, after.options.idle_seconds) == (300, 77)
    assert (limits.connections_per_address, stage.hub.factories["smtp"].limits.connections_per_address) == (100, 7)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hostname = ", "is not TOML"),
        (TOP.replace("domains", "domain"), "domain: unknown key"),
        (TOP + '[delivery]\npolicies = ["grey"]\n', "[delivery] policies: there is no policy plugin called 'grey'"),
        (TOP + '[aliases]\n"x@other.example" = ["a@xx.example"]\n', "add it to domains, or make the alias by"),
        (TOP + '[route."*"]\nhost = "h"\nuser = "u"\npassword_file = "gone"\n', '[route."*"] password_file'),
        (TOP + '[route."*"]\nagent = "lmtp"\n', '[route."*"] host: is missing'),
        (TOP + '[store]\ntype = "gone"\n', "[store]: there is no store plugin called 'gone'"),
        (TOP + "[store]\nguests = 1\n", "[store] guests: unknown key"),
        (TOP + '[tls]\ncertificate = "gone.pem"\nkey = "k.pem"\n', "gone.pem"),
    ],
)
def test_a_faulty_file_changes_nothing_and_is_one_line(stage: Stage, text: str, fault: str) -> None:
    hub = stage.hub
    held = [hub.settings, hub.names, hub.routing, hub.agents, session_parts(stage)]
    shown = hub.tls and hub.tls.certificate
    with capturedLogs() as events:
        # What comes before the mistake would change something.
        outcome = stage.reload(text.replace("mx.xx.example", "new.xx.example"))
    assert outcome.fault.startswith(f"{stage.folder}/m.toml: ")
    assert fault in outcome.fault
    assert "\n" not in outcome.fault
    assert [hub.settings, hub.names, hub.routing, hub.agents, session_parts(stage)] == held
    assert (hub.tls and hub.tls.certificate) == shown
    (line,) = events
    assert line["log_level"] is LogLevel.error
    assert (
        formatEvent(line).replace("\\x27", "'") == f"configuration not read again, nothing has changed: {outcome.fault}"
    )


def test_what_cannot_change_is_named_in_one_line_and_the_rest_is_taken_over(stage: Stage) -> None:
    with capturedLogs() as events:
        outcome = stage.reload(
            TOP.replace('"data"', '"elsewhere"') + TLS + '[listen]\npop3s = ["tcp:0"]\n[queue]\nexpire_hours = 9\n'
        )
    assert outcome.changed == ("[queue] expire_hours",)
    assert outcome.lasting == ("data", "[listen] smtp", "[listen] imaps", "[listen] pop3s")
    (warning,) = [event for event in events if event["log_level"] is LogLevel.warn]
    assert formatEvent(warning).endswith(": data, [listen] smtp, [listen] imaps, [listen] pop3s")
    # The services that listen are served still.
    assert set(stage.hub.factories) == {"smtp", "imaps"}
    assert stage.hub.settings.queue.expire_hours == 9


class TestCertificates:
    def test_one_that_was_replaced_is_shown_at_once_by_the_ports_there_are(self, stage: Stage) -> None:
        held = stage.hub.factories["imaps"].tls.tls
        before = held.certificate
        write_self_signed(stage.folder / "c.pem", stage.folder / "k.pem", ["mx.xx.example"], 30, time.time())
        assert stage.reload(TOP + TLS + LISTEN).changed == ("the certificate",)
        assert held.certificate != before

    def test_other_files(self, stage: Stage) -> None:
        held = stage.hub.factories["imaps"].tls.tls
        write_self_signed(stage.folder / "new.pem", stage.folder / "new.key", ["mail.xx.example"], 30, time.time())
        text = (TOP + TLS + LISTEN).replace("c.pem", "new.pem").replace("k.pem", "new.key")
        assert stage.reload(text).changed == ("[tls] certificate", "[tls] key", "the certificate")
        assert held.follows(stage.folder / "new.pem", stage.folder / "new.key")
        assert stage.hub.factories["imaps"].tls.tls is held

    def test_the_first_one_lets_smtp_offer_tls(self, tmp_path: Path) -> None:
        stage = staged(tmp_path, TOP + '[listen]\nsmtp = ["tcp:0"]\n')
        assert stage.hub.factories["smtp"].tls is None
        assert stage.reload(TOP + TLS + '[listen]\nsmtp = ["tcp:0"]\n').changed == ("[tls]",)
        offered = stage.hub.factories["smtp"].tls
        assert offered is not None
        assert offered.tls is stage.hub.tls

    def test_one_that_only_root_may_read_stays_and_the_rest_is_taken_over(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = stage.hub.tls and stage.hub.tls.certificate

        def refused(path: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "read_bytes", refused)
        text = TOP + TLS + LISTEN + "[queue]\nexpire_hours = 9\n"
        with capturedLogs() as events:
            outcome = stage.reload(text)
            assert stage.reload(text).warnings == outcome.warnings
        assert (outcome.fault, outcome.changed) == ("", ("[queue] expire_hours",))
        (warning,) = outcome.warnings
        assert "cannot read" in warning
        assert (stage.hub.tls and stage.hub.tls.certificate) == before
        said = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
        assert len(said) == 1
        assert f'[tls] certificate "{stage.folder}/c.pem": Permission denied' in said[0]
        monkeypatch.undo()
        assert stage.reload(text).warnings == ()


def test_who_vouches_for_other_servers_is_read_again_though_the_name_stays(stage: Stage) -> None:
    authorities = stage.folder / "ca.pem"
    text = f'{TOP}{TLS}{LISTEN}[relay]\nca_file = "ca.pem"\n'
    assert "ca.pem" in stage.reload(text).fault
    for name in ("other.pem", "c.pem"):
        if name != "c.pem":
            write_self_signed(stage.folder / name, stage.folder / "key.pem", ["mx.xx.example"], 30, time.time())
        authorities.write_bytes((stage.folder / name).read_bytes())
        tls = stage.hub.client_tls
        assert not stage.reload(text).fault
        assert stage.hub.client_tls is tls, "policies and reports hold it"
        making: Any = stage.hub.client_tls.verifying("mx.xx.example")
        client = making.clientConnectionForTLS(None)
        assert stage.hub.tls is not None
        server = stage.hub.tls.serverConnectionForTLS(None)
        if name == "c.pem":
            handshake(client, server)
        else:
            with pytest.raises(SSL.Error, match="certificate verify failed"):
                handshake(client, server)


def test_a_password_file_is_read_again_though_its_name_stays(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("old\n")
    text = TOP + '[route."*"]\nhost = "h"\nuser = "me"\npassword_file = "pw"\n'
    stage = staged(tmp_path, text)
    (tmp_path / "pw").write_text("new\n")
    assert stage.reload(text).changed == ('[route."*"] password_file',)
    assert stage.hub.hops["*"].password == "new"


def test_that_of_a_transport_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("old\n")
    login = 'host = "h"\nuser = "me"\npassword_file = "pw"\n'
    text = TOP + "[transport.smart]\n" + login
    stage = staged(tmp_path, text)
    (tmp_path / "pw").write_text("new\n")
    assert stage.reload(text).changed == ("[transport.smart] password_file",)
    assert stage.hub.transport_hops["smart"].password == "new"
    assert stage.reload(text).changed == ()
    (tmp_path / "pw").write_text("newer\n")
    assert stage.reload(text.replace('"h"', '"i"')).changed == ("[transport.smart]",)


@attrs.frozen
class Words:
    word: str


@attrs.frozen
class Policy:
    """Says one word."""

    word: str

    def begin(self, origin: Origin) -> Policy:
        return self

    def hello(self, origin: Origin) -> Verdict:
        return Verdict("reject", "5.7.1", self.word) if self.word != "yes" else ACCEPT


def test_policies_are_built_anew_with_their_options(tmp_path: Path) -> None:
    factory = Component("policy", "word", lambda options, hub: Policy(options.word), Words)
    stage = staged(tmp_path, TOP + TLS + LISTEN, factories=(*CATALOGUE.factories, factory))
    table = '[delivery]\npolicies = ["x"]\n[policy.x]\ntype = "word"\nword = "{}"\n'

    def answer() -> str:
        conversation = wait(session_parts(stage).pipeline.connected(Origin("smtp")))
        try:
            wait(conversation.hello(Origin("smtp")))
        except NotPermitted as error:
            return error.text
        return "accept"

    assert answer() == "accept"
    assert stage.reload(TOP + TLS + LISTEN + table.format("no")).changed == ("[delivery] policies", "[policy.x]")
    assert answer() == "no"
    assert stage.reload(TOP + TLS + LISTEN + table.format("never")).changed == ("[policy.x]",)
    assert answer() == "never"


def test_guessers_are_remembered_unless_they_are_counted_in_another_way(stage: Stage) -> None:
    throttle = stage.hub.throttle
    stage.reload(TOP + TLS + LISTEN + "[queue]\nexpire_hours = 9\n")
    assert stage.hub.throttle is throttle
    stage.reload(TOP + TLS + LISTEN + "[auth]\nfailures_limit = 3\n")
    assert stage.hub.throttle.limit == 3


def test_what_is_counted_in_another_way_is_remembered_from_then_on(stage: Stage) -> None:
    more = "[auth]\nfailures_limit = 3\n[limits]\nrefused_recipients_per_session = 3\n"
    stage.reload(TOP + TLS + LISTEN + more)
    throttle, harvest = stage.hub.throttle, stage.hub.harvest
    assert harvest.limits.per_session == 3
    stage.reload(TOP + TLS + LISTEN + more + "[queue]\nexpire_hours = 9\n")
    assert (stage.hub.throttle, stage.hub.harvest) == (throttle, harvest)
    assert session_parts(stage).harvest is harvest


def test_the_database_lasts(stage: Stage) -> None:
    with opened(stage.hub.settings, "create"):
        pass
    wait(stage.hub.start())
    wait(stage.hub.accounts.add("a@xx.example", ""))
    stage.reload(TOP + TLS + LISTEN + '[aliases]\n"info@xx.example" = ["a@xx.example"]\n')
    (way,) = route(stage.hub, "info@xx.example")
    assert (way.agent, way.target) == (STORE, "a@xx.example")
    wait(stage.hub.stop())


class TestTurns:
    @pytest.fixture
    def reading(self, stage: Stage) -> list[Deferred[Any]]:
        """Readings take until they are let."""
        waiting: list[Deferred[Any]] = []

        @implementer(IThreads)
        class Threads:
            inline = True

            def call_in_reactor(self, function: Callable[..., object], *args: object) -> None:
                function(*args)

            def start_loop(self, name: str, loop: Callable[[], None]) -> None:
                raise AssertionError(name)

            def run(self, function: Callable[..., Any], *args: object) -> Deferred[Any]:
                waiting.append(Deferred())
                return waiting[-1].addCallback(lambda _: function(*args))

        stage.hub.environment = attrs.evolve(stage.hub.environment, threads=Threads())
        return waiting

    def test_what_is_asked_during_a_reading_is_answered_by_another(
        self, stage: Stage, reading: list[Deferred[Any]]
    ) -> None:
        for _ in range(3):
            stage.reloader.ask()
        assert len(reading) == 1
        reading[0].callback(None)
        assert (len(reading), len(stage.outcomes)) == (2, 1)
        reading[1].callback(None)
        assert (len(reading), len(stage.outcomes)) == (2, 2)
        assert stage.outcomes[0].began < stage.outcomes[1].began

    def test_a_reading_that_the_end_overtakes_changes_nothing(self, stage: Stage, reading: list[Deferred[Any]]) -> None:
        stage.reloader.ask()
        stage.reloader.ask()
        (stage.folder / "m.toml").write_text(TOP)
        stage.reloader.stop()
        reading[0].callback(None)
        assert {outcome.fault for outcome in stage.outcomes} == {"the server is stopping"}
        assert stage.hub.settings.tls is not None
        stage.reloader.ask()
        assert (len(reading), stage.outcomes[-1].fault) == (1, "the server is stopping")


def test_before_the_start_is_over_nothing_is_read(stage: Stage) -> None:
    outcomes: list[Reading] = []
    reloader = Reloader(stage.hub, lambda *_: CATALOGUE, lambda: None, outcomes.append)
    reloader.ask()
    assert outcomes == []
    reloader.ready()
    assert [outcome.fault for outcome in outcomes] == [""]


def test_the_answer_is_whole_private_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    outcome = Reading(7, 1.5, "", ("domains",), ("data",), ("careful",))
    assert read_answer(tmp_path) is None
    write_answer(tmp_path, attrs.evolve(outcome, began=6))
    write_answer(tmp_path, outcome)
    assert read_answer(tmp_path) == outcome
    assert (tmp_path / ANSWER).stat().st_mode & 0o777 == 0o600
    for text in ("", "{", "[]", "{}", '{"began": "x"}'):
        (tmp_path / ANSWER).write_text(text)
        assert read_answer(tmp_path) is None


@attrs.define
class Waking:
    calls: list[Callable[[], object]] = attrs.field(factory=list)

    def callFromThread(self, function: Callable[[], object]) -> None:
        self.calls.append(function)


class TestSignals:
    @pytest.fixture
    def _handlers(self) -> Iterator[None]:
        numbers = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
        before = [signal.getsignal(number) for number in numbers]
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        yield
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

    @pytest.mark.usefixtures("_handlers")
    def test_none_ends_the_process_and_twistds_own_meaning_stays(self) -> None:
        reactor, said = Waking(), list[str]()
        signals = Signals(reactor, lambda: said.append("reload"), lambda: said.append("stop"))
        signals.hang_up()
        signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGUSR1, lambda *_: said.append("rotate"))
        signals.others()
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.raise_signal(number)
        with capturedLogs() as events:
            for call in reactor.calls:
                call()
        assert said == ["rotate", "reload"]
        assert [formatEvent(event) for event in events] == ["SIGUSR2 has no meaning"]

    @pytest.mark.usefixtures("_handlers")
    def test_a_server_in_the_foreground_ends_with_its_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, theirs = pty.openpty()
        monkeypatch.setattr("mailhub.signals._terminals", lambda: [theirs])
        reactor, said = Waking(), list[str]()
        signals = Signals(reactor, lambda: said.append("reload"), lambda: said.append("stop"))
        signals.hang_up()
        signals.others()
        signal.raise_signal(signal.SIGHUP)
        reactor.calls[-1]()
        assert said == ["reload"]
        os.close(ours)
        signal.raise_signal(signal.SIGHUP)
        reactor.calls[-1]()
        assert said == ["reload", "stop"]
        os.close(theirs)

    @pytest.mark.usefixtures("_handlers")
    @pytest.mark.parametrize("stopping", [False, True])
    def test_only_one_signal_ends_the_reactor(self, stopping: bool) -> None:
        reactor, said = Waking(), list[int]()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: said.append(number))
        signals = Signals(reactor, lambda: None, lambda: None)
        signals.ending_once()
        if stopping:
            signals.ending()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        with capturedLogs() as events:
            for call in reactor.calls:
                call()
        assert said == ([] if stopping else [signal.SIGTERM])
        told = [f"{name}: it is stopping already" for name in ("SIGTERM", "SIGINT", "SIGTERM")]
        assert [formatEvent(event) for event in events] == told[len(said) :]


def test_what_sessions_of_several_services_share_outlives_a_reading(tmp_path: Path) -> None:
    listen = '[listen]\nimap = ["tcp:0"]\nimaps = ["tcp:0"]\npop3 = ["tcp:0"]\npop3s = ["tcp:0"]\n'
    stage = staged(tmp_path, TOP + TLS + listen)

    def shared() -> list[Any]:
        one, other = (session_parts(stage, name).parts for name in ("imap", "imaps"))
        assert one.marks is other.marks
        assert one.budget is other.budget
        pop3, pop3s = (session_parts(stage, name) for name in ("pop3", "pop3s"))
        assert pop3.maildrops is pop3s.maildrops
        return [one.marks, one.budget, pop3.maildrops]

    before, parts = shared(), session_parts(stage, "imap")
    assert stage.reload(TOP + TLS + listen + "[limits]\nimap_idle_seconds = 99\n").changed
    assert session_parts(stage, "imap") is not parts
    assert all(one is other for one, other in zip(before, shared(), strict=True))
