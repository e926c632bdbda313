"""Calling the methods of a store's objects by name, through the store's guard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from mailhub.errors import MailError
from mailhub.guard import About, Guard
from mailhub.store.nonsense import Nonsense

T = TypeVar("T")


@attrs.frozen(eq=False)
class Asking:
    """One object of a store: `what` it is and `about` whom go into the log."""

    guard: Guard
    thing: Any
    what: str
    about: About

    def part(self, given: Any, what: str, **about: object) -> Asking:
        """What a method gave, which has methods of its own. Raises Nonsense where that is nothing."""
        if given is None:
            raise Nonsense(f"it gave nothing, not a {what}")
        return Asking(self.guard, given, what, {**self.about, **about} if about else self.about)

    async def ask(self, take: Callable[[Any], T], method: str, *arguments: object, last: bool = False) -> T:
        """What the method gives. Raises MailError, of which Unanswered is one; `last`: ask in any case."""
        # Whoever lacks a method fails as others do, so it is looked for in there.
        given = await self.guard.ask_about(
            self.about, f"{self.what}.{method}", _call, self.thing, method, arguments, in_any_case=last
        )
        try:
            return take(given)
        except Nonsense as error:
            raise self.fault(method, str(error)) from None

    def call(self, take: Callable[[Any], T], method: str, *arguments: object) -> T:
        """As `ask`, of a method that does not wait."""
        try:
            return take(_call(self.thing, method, arguments))
        except Nonsense as error:
            raise self.fault(method, str(error)) from None
        except BaseException as error:
            # sys.exit() would pass by all who keep one connection's mishap from the others.
            raise self.failed(method, error) from error

    def get(self, take: Callable[[Any], T], attribute: str, *default: object) -> T:
        """As `call`, of an attribute, in the place of which `default` is where there is none."""
        try:
            return take(getattr(self.thing, attribute, *default))
        except Nonsense as error:
            raise self.fault(attribute, str(error)) from None
        except BaseException as error:
            raise self.failed(attribute, error) from error

    def fault(self, method: str, why: str | BaseException) -> Exception:
        """What is raised where there is no answer that counts; the log is told."""
        return self.guard.fault(f"{self.what}.{method}", why, self.about)

    def failed(self, method: str, error: BaseException) -> Exception:
        """The same for what it has raised, unless that is an answer."""
        return error if isinstance(error, MailError) else self.fault(method, error)


def _call(thing: Any, method: str, arguments: tuple[object, ...]) -> Any:
    return getattr(thing, method)(*arguments)
