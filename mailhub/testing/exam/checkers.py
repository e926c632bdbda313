"""What is asked of credential checkers and of directories."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.cred.checkers import ANONYMOUS
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import maybeDeferred

from mailhub.auth.realm import canonical_user
from mailhub.errors import AuthenticationFailed, MailError, TemporaryError
from mailhub.store.exam.rig import question, same
from mailhub.testing.exam.component import ComponentExam, shown, told

_STRANGER = "nobody-of-that-name@xx.example"
_WRONG = "certainly not the password"


class CheckerExam(ComponentExam):
    """A `twisted.cred.checkers.ICredentialsChecker` for names and passwords. Both are octets: UTF-8, from the wire.

    `user` and `password` are a login that is right; without a password only what is refused is asked.
    """

    kind = "checker"
    user: ClassVar[str] = "ann@xx.example"
    password: ClassVar[str] = ""

    def make_checker(self) -> Any:
        """The checker; by default the one that `factory` makes of `options`."""
        return self.build()

    @question
    async def test_it_checks_passwords(self) -> None:
        """ICredentialsChecker.credentialInterfaces: has IUsernamePassword."""
        found = getattr(self.make_checker(), "credentialInterfaces", None)
        if not isinstance(found, tuple | list | set | frozenset) or IUsernamePassword not in found:
            raise AssertionError(
                f"ICredentialsChecker.credentialInterfaces must have IUsernamePassword; {shown(found)} came"
            )

    @question
    async def test_the_right_password_gives_an_avatar_id(self) -> None:
        """ICredentialsChecker.requestAvatarId(): the user's name, bytes or str, each time."""
        self._needs_password()
        checker = self.make_checker()
        first = await self._avatar(checker, self.user, self.password)
        if first is None:
            raise AssertionError(f"requestAvatarId() must accept {self.user} with the right password; it refused")
        same(await self._avatar(checker, self.user, self.password), first)

    @question
    async def test_wrong_passwords_are_refused(self) -> None:
        """ICredentialsChecker.requestAvatarId(): fails with UnauthorizedLogin, whatever is wrong with the password."""
        checker = self.make_checker()
        for what, password in self._wrong_passwords().items():
            await self._refuses(checker, self.user, password, what)

    @question
    async def test_unknown_users_are_refused(self) -> None:
        """ICredentialsChecker.requestAvatarId(): fails with UnauthorizedLogin for a name that nobody has."""
        checker = self.make_checker()
        for what, user in self._wrong_users().items():
            await self._refuses(checker, user, self.password or _WRONG, what)
        await self._refuses(checker, _STRANGER, "", "an unknown user with an empty password")

    @question
    async def test_a_refusal_changes_nothing(self) -> None:
        """ICredentialsChecker.requestAvatarId(): after wrong ones the right password is right, and after it they are
        wrong."""
        self._needs_password()
        checker = self.make_checker()
        await self._refuses(checker, self.user, _WRONG, "a wrong password")
        if await self._avatar(checker, self.user, self.password) is None:
            raise AssertionError("requestAvatarId() must accept the right password after a wrong one; it refused")
        await self._refuses(checker, self.user, _WRONG, "a wrong password after the right one")

    @question
    async def test_the_credentials_stay_as_they_are(self) -> None:
        """ICredentialsChecker.requestAvatarId(): the next checker is asked with the same credentials."""
        credentials = UsernamePassword(self.user.encode(), _WRONG.encode())
        await self._asked(self.make_checker(), credentials)
        same((credentials.username, credentials.password), (self.user.encode(), _WRONG.encode()))

    @question
    async def test_logins_may_come_at_once(self) -> None:
        """ICredentialsChecker.requestAvatarId(): one call may begin while another is under way."""
        checker = self.make_checker()
        passwords = (_WRONG, self.password) * 2
        found = await self.at_once(self._avatar(checker, self.user, password) for password in passwords)
        expected = [False, bool(self.password)] * 2
        same([avatar is not None for avatar in found], expected)

    @question
    async def test_what_it_knows_is_a_directory(self) -> None:
        """IUserDirectory.exists(), where a checker has it: True or False, for any name."""
        checker = self.make_checker()
        if not callable(getattr(checker, "exists", None)):
            raise unittest.SkipTest("the checker has no exists()")
        known = await _exists(self, checker, self.user)
        if self.password and not known:
            raise AssertionError(f"IUserDirectory.exists() must know {self.user}, who can log in; it gave False")
        await _ask_for_strangers(self, checker)

    # --- How it is done ----------------------------------------------------------------------------------------------

    def _needs_password(self) -> None:
        if not self.password:
            raise unittest.SkipTest("no right password is known")

    def _wrong_passwords(self) -> Mapping[str, str]:
        right = self.password
        wrong = {
            "a wrong password": _WRONG,
            "an empty password": "",
            "a password with NUL": "a\0b",
            "a password beyond ASCII": "pässwörd \N{SNOWMAN}",
            "a password of 100,000 characters": "x" * 100_000,
            "a password with line ends": "a\r\nb",
            "a password of wildcards": "*%_",
        }
        if right:
            wrong |= {
                "the right password with NUL behind it": right + "\0",
                "the right password with a space behind it": right + " ",
                "the right password twice": right * 2,
                "the right password without its last character": right[:-1],
                "the right password in other letters": right.swapcase(),
            }
        return {what: password for what, password in wrong.items() if password != right}

    def _wrong_users(self) -> Mapping[str, str]:
        return {
            "an unknown user": _STRANGER,
            "an empty name": "",
            "a name with NUL": self.user + "\0",
            "a name with NUL in front": "\0" + self.user,
            "a name beyond ASCII": "änn@exämple.example",
            "a name of 100,000 characters": "x" * 100_000,
            "a name that climbs folders": "../../etc/passwd",
            "a name of wildcards": "*",
            "a name with an injection": "x' OR '1'='1",
            "a name with line ends": "a\r\nb: c",
        }

    async def _refuses(self, checker: Any, user: str, password: str, what: str) -> None:
        found = await self._avatar(checker, user, password, what)
        if found is not None:
            raise AssertionError(f"requestAvatarId() must fail with UnauthorizedLogin for {what}; {found!r} came")

    async def _avatar(self, checker: Any, user: str, password: str, about: str = "") -> str | None:
        """Who logged in; None where nobody did."""
        given = await self._asked(checker, UsernamePassword(user.encode(), password.encode()), about)
        if given is None:
            return None
        try:
            text = given.decode() if isinstance(given, bytes) else given
            return canonical_user(text, "xx.example")
        except (UnicodeDecodeError, AuthenticationFailed, AttributeError) as error:
            raise AssertionError(
                f"an avatar id is the user's address, bytes or str; {shown(given)} came ({told(error)})"
            ) from None

    async def _asked(self, checker: Any, credentials: UsernamePassword, about: str = "") -> bytes | str | None:
        """The avatar id; None where nobody logs in."""
        try:
            given = await self.ask("requestAvatarId()", _requested, checker, credentials, about=about)
        except TemporaryError:
            return None
        except MailError as error:
            raise AssertionError(
                f"requestAvatarId() fails with UnauthorizedLogin or a TemporaryError; it raised {error!r}"
            ) from error
        if given == ANONYMOUS or given == b"":
            return None
        if not isinstance(given, bytes | str):
            raise AssertionError(f"requestAvatarId() must give bytes or str; {shown(given)} came")
        return given


async def _requested(checker: Any, credentials: UsernamePassword) -> Any:
    try:
        return await maybeDeferred(checker.requestAvatarId, credentials)
    except UnauthorizedLogin:
        return ANONYMOUS


class DirectoryExam(ComponentExam):
    """An `IUserDirectory`. `user` is somebody whom it knows, "" where nobody is known by name."""

    kind = "directory"
    user: ClassVar[str] = "ann@xx.example"

    def make_directory(self) -> Any:
        """The directory; by default the one that `factory` makes of `options`."""
        return self.build()

    @question
    async def test_who_is_there_is_told(self) -> None:
        """IUserDirectory.exists(): True for a user, by the canonical address, each time."""
        if not self.user:
            raise unittest.SkipTest("no user is known by name")
        directory = self.make_directory()
        for _ in range(2):
            if not await _exists(self, directory, self.user):
                raise AssertionError(f"IUserDirectory.exists() must give True for {self.user}; False came")

    @question
    async def test_who_is_not_there_is_told(self) -> None:
        """IUserDirectory.exists(): False for who is not there, whatever the name."""
        await _ask_for_strangers(self, self.make_directory())

    @question
    async def test_names_may_be_asked_for_at_once(self) -> None:
        """IUserDirectory.exists(): one call may begin while another is under way."""
        directory = self.make_directory()
        names = (_STRANGER, self.user or _STRANGER) * 2
        same(await self.at_once(_exists(self, directory, user) for user in names), [False, bool(self.user)] * 2)


_STRANGERS = (
    _STRANGER,
    "änn@exämple.example",
    '"a n@n"@xx.example',
    "../../etc/passwd@xx.example",
    "*@xx.example",
    "x'or'1'='1@xx.example",
    "x" * 64 + "@xx.example",
)


async def _ask_for_strangers(exam: ComponentExam, directory: Any) -> None:
    for user in _STRANGERS:
        if await _exists(exam, directory, user):
            raise AssertionError(f"IUserDirectory.exists() must give False for {user!r}, who is not there; True came")


async def _exists(exam: ComponentExam, directory: Any, user: str) -> bool:
    try:
        found = await exam.ask("IUserDirectory.exists()", directory.exists, user, about=repr(user))
    except TemporaryError:
        return False
    except MailError as error:
        raise AssertionError(f"IUserDirectory.exists() raises TemporaryError alone; it raised {error!r}") from error
    if not isinstance(found, bool):
        raise AssertionError(f"IUserDirectory.exists() must give True or False; {shown(found)} came")
    return found
