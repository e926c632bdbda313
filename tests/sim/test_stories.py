"""Two hundred stories of hubs in trouble: whatever went wrong, what was promised was kept, the same each time."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailhub.message.envelope import DeliverBy, Notify
from mailhub.testing.faults import ENDS, Fault, FaultPlan, smaller
from mailhub.testing.hubs import Internet
from mailhub.testing.plots import Letter, Story
from mailhub.testing.promises import Book
from mailhub.testing.stories import Ending, main, play, simplest

SEEDS = 200
AT_ONCE = 10


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_what_was_promised_is_kept(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + AT_ONCE):
        ending = play(Story.of(seed), tmp_path / str(seed))
        assert not ending.broken, f"make soak SEED={seed}\n{ending.told()}"


HUBS = ("h0.example", "h1.example", "h2.example")
LINED = frozenset(HUBS)
SUCCESS: frozenset[Notify] = frozenset({"SUCCESS"})
NEVER: frozenset[Notify] = frozenset({"NEVER"})
ANYTHING: frozenset[Notify] = frozenset()
# That went wrong once, as simple as they can be.
WENT_WRONG = {
    "submitted, edited, and the power fails after the commit": Story(
        63,
        HUBS,
        (
            Letter(
                number=0,
                at=19203,
                sender="a@h1.example",
                recipients=(("f@h1.example", SUCCESS), ("f@h0.example", NEVER)),
                by="submission",
                forgetful=True,
            ),
        ),
        FaultPlan((Fault("power", "h1.example", at=17129, seconds=1800, step=3),)),
        lined=LINED,
    ),
    "by the backup, and then by itself": Story(
        114,
        HUBS,
        (
            Letter(
                number=1,
                at=36039,
                sender="a@h2.example",
                recipients=(("list@h0.example", ANYTHING), ("list@h1.example", SUCCESS)),
                priority=-4,
            ),
        ),
        FaultPlan(
            (
                Fault("kill", "h2.example", at=29884, seconds=1800, step=5),
                Fault("refused", "h0.example", at=35184),
            )
        ),
        lined=LINED,
    ),
    "by itself, and then by the backup": Story(
        115,
        HUBS,
        (
            Letter(
                number=1,
                at=37507,
                sender="a@h2.example",
                recipients=(("f@h1.example", SUCCESS), ("all@h0.example", ANYTHING)),
                lines=2000,
            ),
        ),
        FaultPlan((Fault("power", "h0.example", at=36445, seconds=1800, step=6),)),
        lined=LINED,
        chain=True,
    ),
    "refused EHLO, and so without DSN": Story(
        305,
        HUBS,
        (
            Letter(
                number=2,
                at=34652,
                sender="a@h0.example",
                recipients=(("away@h1.example", NEVER), ("all@h0.example", SUCCESS)),
            ),
        ),
        FaultPlan(
            (
                Fault("away", "h2.example", at=26857, seconds=518400.0),
                Fault("answer", "h1.example", at=31400, stage="EHLO", side="command", reply="550 5.7.1 No"),
            )
        ),
    ),
}


@pytest.mark.parametrize("name", WENT_WRONG)
def test_what_went_wrong_once_does_so_no_more(name: str, tmp_path: Path) -> None:
    ending = play(WENT_WRONG[name], tmp_path)
    assert not ending.broken, ending.told(100)


def test_the_stories_have_all_kinds_of_trouble() -> None:
    faults = [fault for seed in range(SEEDS) for fault in Story.of(seed).plan.faults]
    assert {fault.kind for fault in faults} == {*_kinds()}
    assert {fault.stage for fault in faults} >= {"greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "body"}
    assert {(fault.kind, fault.side) for fault in faults if fault.stage == "end"} >= {
        ("answer", "command"),
        ("reset", "command"),
        ("reset", "reply"),
        ("reset", "after"),
    }
    assert {fault.step for fault in faults if fault.kind in ENDS} >= set(range(1, 9))


def _kinds() -> set[str]:
    words = str(Fault.__doc__).split("\n")
    named = [line for line in words if line.startswith("    `")]
    return {name.strip("`, ") for line in named for name in line.split(",")}


SEED = 3


def test_the_same_seed_gives_the_same_trace_in_any_process(tmp_path: Path) -> None:
    here = [play(Story.of(SEED), tmp_path / str(number)).trace for number in range(2)]
    assert here[0] == here[1]
    assert here[0] != play(Story.of(SEED + 1), tmp_path / "other").trace
    script = (
        "import sys; from pathlib import Path; from mailhub.testing.stories import Story, play;"
        f"print(play(Story.of({SEED}), Path(sys.argv[1])).trace)"
    )
    for number, hashing in enumerate(("1", "2")):
        folder = str(tmp_path / f"process{number}")
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        told = subprocess.run([sys.executable, "-c", script, folder], env=environment, capture_output=True, text=True)
        assert told.stdout.strip() == here[0], told.stderr


def test_no_files_are_left_open(tmp_path: Path) -> None:
    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    play(Story.of(0), tmp_path / "first")
    before = count()
    for seed in range(1, 9):
        play(Story.of(seed), tmp_path / str(seed))
    assert count() == before


# --- That a broken promise would be seen -----------------------------------------------------------------------------


def _broken(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any) -> Ending:
    read = Book.read

    def reading(book: Book, internet: Internet) -> None:
        read(book, internet)
        spoil(book)

    monkeypatch.setattr(Book, "read", reading)
    return play(story, tmp_path)


def _lose(book: Book) -> None:
    book.copies.clear()


def _double(book: Book) -> None:
    for key in book.copies:
        book.copies[key] += 1
        book.ways[key] *= 2


def _say_nothing(book: Book) -> None:
    book.notices.clear()


def _say_twice(book: Book) -> None:
    book.notices *= 2


def _tell_another(book: Book) -> None:
    book.notices[:] = [attrs.evolve(notice, holder="b@h0.example") for notice in book.notices]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_lose, "lost:"),
        (_double, "twice:"),
        (_say_nothing, "lost:"),
        (_say_twice, "was told 2 times"),
        (_tell_another, "somebody else was told"),
    ],
)
def test_a_broken_promise_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, told: str) -> None:
    story = next(story for story in map(Story.of, range(100)) if _is_bounced(story))
    ending = _broken(attrs.evolve(story, plan=FaultPlan()), tmp_path, monkeypatch, spoil)
    assert any(told in line for line in ending.broken), ending.told()


def _is_bounced(story: Story) -> bool:
    return not story.plain and any(
        address.startswith("nobody@") and not notify and each.by in ("", "submission") and not address.endswith(home)
        for each in story.letters
        for home in [each.sender.partition("@")[2]]
        for address, notify in each.recipients
    )


def test_a_story_that_goes_wrong_is_made_simple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(book: Book) -> None:
        book.mistakes += ["gone wrong"] if any(letter.number == 1 for letter in book.letters) else []

    ending = _broken(Story.of(1), tmp_path, monkeypatch, spoil)
    assert "gone wrong" in ending.broken
    simple = simplest(ending, tmp_path)
    assert simple.plan == FaultPlan()
    assert [letter.number for letter in simple.letters] == [1]


def test_smaller() -> None:
    assert list(smaller(range(100), lambda left: {3, 77} <= set(left))) == [3, 77]
    assert list(smaller(range(5), lambda left: True)) == []
    assert list(smaller(range(5), lambda left: len(left) == 5)) == [0, 1, 2, 3, 4]


def test_a_plan_can_be_printed_and_read() -> None:
    plan = FaultPlan.of(5, ("xx.example", "yy.example"), 20)
    assert eval(str(plan), {"FaultPlan": FaultPlan, "Fault": Fault}) == plan
    assert plan == FaultPlan.of(5, ("xx.example", "yy.example"), 20)
    for seed in range(20):
        names = {"Story": Story, "Letter": Letter, "FaultPlan": FaultPlan, "Fault": Fault, "DeliverBy": DeliverBy}
        assert eval(str(Story.of(seed)), names) == Story.of(seed)


def test_the_stories_have_all_kinds_of_letters_and_ways() -> None:
    stories = [Story.of(seed) for seed in range(SEEDS)]
    letters = [letter for story in stories for letter in story.letters]
    assert {letter.by for letter in letters} == {"", "submission", "submissions", "smtp", "lmtp"}
    names = {address.partition("@")[0] for letter in letters for address, _ in letter.recipients}
    assert names == {"a", "all", "away", "nobody", "list", "f", "e"}
    for wish in ("requiretls", "hold", "forgetful", "deliver_by", "priority"):
        assert sum(bool(getattr(letter, wish)) for letter in letters) > 20, wish
    assert {(story.chain, len(story.hubs)) for story in stories} == {(True, 2), (True, 3), (False, 2), (False, 3)}


def test_a_soak_tells_what_went_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--seeds", "2", "--from", "1"]) == 0
    assert "2 stories, 0 went wrong" in capsys.readouterr().out
    assert main(["--seed", "2"]) == 0
    assert "Story(2, ('h0.example', 'h1.example'" in capsys.readouterr().out
    told: list[Ending] = []

    def wrong(story: Story, folder: Path) -> Ending:
        told.append(Ending(story, ("lost: all of it",), "", ()))
        return told[-1]

    monkeypatch.setattr("mailhub.testing.stories.play", wrong)
    assert main(["--seeds", "1"]) == 1
    assert "seed 0: lost: all of it (1 in all; make soak SEED=0)" in capsys.readouterr().out
