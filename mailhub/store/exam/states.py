"""The exam of what parts remember."""

from __future__ import annotations

import unittest

from mailhub.interfaces import IState
from mailhub.store.exam.rig import question
from mailhub.store.exam.submissions import DatabaseExam


class StateExam(DatabaseExam):
    """`IDatabase.state`."""

    def pass_time(self, seconds: int) -> None:
        """Let the database's wall clock go on. An exam whose clock is the machine's leaves out what asks for it."""
        raise unittest.SkipTest("pass_time() is missing")

    async def _state(self, part: str = "policy greylist") -> IState:
        await self._open()
        return self.database.state.of(part)

    @question
    async def test_what_is_put_is_there_until_it_is_removed(self) -> None:
        state = await self._state()
        assert await state.get("a") is None
        await state.put({"a": b"1", "b": b"\0\xff", "ü": b""})
        assert [await state.get(name) for name in ("a", "b", "ü", "c")] == [b"1", b"\0\xff", b"", None]
        await state.put({"a": b"2"})
        assert await state.get("a") == b"2"
        await state.remove(["a", "never"])
        await state.remove([])
        await state.put({})
        assert dict(await state.items()) == {"b": b"\0\xff", "ü": b""}

    @question
    async def test_parts_do_not_see_each_other(self) -> None:
        state = await self._state()
        other = self.database.state.of("tls")
        await state.put({"a": b"mine"})
        await other.put({"a": b"theirs"})
        await other.remove(["a"])
        assert (await state.get("a"), await other.get("a")) == (b"mine", None)
        assert await self.database.state.of("policy greylist").get("a") == b"mine"

    @question
    async def test_items_are_told_by_their_beginning_and_in_order(self) -> None:
        state = await self._state()
        await state.put({name: name.encode() for name in ("b/2", "b/10", "b", "a", "c", "b/\U0001f600", "b%")})
        assert list(await state.items("b/")) == ["b/10", "b/2", "b/\U0001f600"]
        assert list(await state.items(limit=3)) == ["a", "b", "b%"]
        assert list(await state.items("b/", 0)) == []

    @question
    async def test_what_is_to_be_forgotten_is_forgotten_in_time(self) -> None:
        state = await self._state()
        await state.put({"short": b"1", "renewed": b"1", "kept": b"1"}, 10)
        await state.put({"ever": b"1", "kept": b"2"})
        self.pass_time(9)
        assert await state.get("short") == b"1"
        await state.put({"renewed": b"2"}, 10)
        self.pass_time(1)
        assert (await state.get("short"), await state.get("renewed")) == (None, b"2")
        assert list(await state.items()) == ["ever", "kept", "renewed"]
        await state.put({"short": b"again"}, 1)
        assert await state.get("short") == b"again"

    @question
    async def test_what_cannot_be_kept_is_told_and_changes_nothing(self) -> None:
        state = await self._state()
        longest = "n" * 512
        await state.put({longest: b"v" * 65536})
        assert len(await state.get(longest) or b"") == 65536
        for values in ({"x" * 513: b""}, {"é" * 257: b""}, {"a\0": b""}, {"\udc80": b""}, {"\U0010ffff": b""}):
            await self._refuses_to_put(state, values)
        await self._refuses_to_put(state, {"a": b"", "b": b"v" * 65537})
        await self._refuses_to_put(state, {str(number): b"" for number in range(1001)})
        await self._refuses_to_put(state, {"a": b""}, -1)
        assert list(await state.items()) == [longest]

    async def _refuses_to_put(self, state: IState, values: dict[str, bytes], seconds: int = 0) -> None:
        try:
            await state.put(values, seconds)
        except ValueError:
            return
        raise AssertionError(f"put() must raise ValueError for {next(iter(values))!r:.20}")

    @question
    async def test_of_too_many_those_go_that_would_have_gone_first(self) -> None:
        state = await self._state()
        for start in range(0, 100_000, 1000):
            await state.put({f"{number:06}": b"" for number in range(start, start + 1000)}, 1 + start)
        await state.put({"ever": b"1"})
        assert (await state.get("ever"), await state.get("000000"), await state.get("099999")) == (b"1", None, b"")
        left = await state.items(limit=200_000)
        assert len(left) == 90_000
        assert min(left) == "010001"
