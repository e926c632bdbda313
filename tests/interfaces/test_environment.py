"""What comes from outside: two clocks, and the disk that a folder is on."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.task import Clock

from mailhub.interfaces import Disk, Environment


def environment(clock: Clock, **more: Any) -> Environment:
    nobody: Any = None
    return Environment(
        clock=clock, threads=nobody, network=nobody, resolver=nobody, random=Random(1), data=Path("."), **more
    )


def test_setting_the_time_of_day_makes_no_wait_longer() -> None:
    clock, wall = Clock(), [1_000_000.9]
    outside = environment(clock, wall=lambda: wall[0])
    assert (outside.now(), outside.monotonic()) == (1_000_000, 0.0)
    wall[0] = 5.0
    clock.advance(2.5)
    assert (outside.now(), outside.monotonic()) == (5, 2.5)


def test_one_clock_is_both_where_there_is_no_other() -> None:
    clock = Clock()
    clock.advance(90.75)
    outside = environment(clock)
    assert (outside.now(), outside.monotonic()) == (90, 90.75)


def test_the_disk_of_a_folder(tmp_path: Path) -> None:
    disk = Disk.of(tmp_path)
    found = os.statvfs(tmp_path)
    assert disk.size == found.f_blocks * found.f_frsize
    assert 0 <= disk.free <= disk.size
