"""mailhub's own components sit the exams of their kinds, made by the factories that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import argon2

from mailhub import builtin
from mailhub.auth.passwords import hash_password
from mailhub.interfaces import Ended
from mailhub.testing.exams import AgentExam, CheckerExam, RouterExam

_CHEAP = hash_password("nobody's", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


class TestAliases(RouterExam):
    factory = builtin.aliases_router


class TestAccounts(RouterExam):
    factory = builtin.accounts_router


class TestPostmaster(RouterExam):
    factory = builtin.postmaster_router


class TestCatchAll(RouterExam):
    factory = builtin.catch_all_router


class TestAliasesFile(RouterExam):
    factory = builtin.alias_file_router

    def make_router(self) -> Any:
        file = self.folder / "aliases"
        file.write_text('"a n": ann\nann: \\ann, x@yy.example\nnobody-of-that-name: :fail: gone\n*: ann\n')
        self.options = {"file": str(file)}  # type: ignore[misc]
        return self.build()


class TestSrs(RouterExam):
    factory = builtin.srs_router


class TestLists(RouterExam):
    factory = builtin.lists_router


class TestStatic(RouterExam):
    factory = builtin.static_router


class TestTransports(RouterExam):
    factory = builtin.transports_router


class TestExchangers(RouterExam):
    factory = builtin.exchangers_router


class TestStoreAgent(AgentExam):
    factory = builtin.store_agent
    target = "ann@xx.example"


class TestListAgent(AgentExam):
    factory = builtin.list_agent
    target = "team@xx.example"


class TestSmtpAgent(AgentExam):
    factory = builtin.smtp_agent
    target = "mx.yy.example"


class TestLmtpAgent(AgentExam):
    factory = builtin.lmtp_agent
    target = "mx.yy.example:24"


class TestPipeAgent(AgentExam):
    factory = builtin.pipe_agent
    options: ClassVar[Mapping[str, Any]] = {"command": ["take", "--", "${recipient}"], "user": "vmail"}
    target = "a program"

    def make_agent(self) -> Any:
        self.internet.processes.add("take", lambda call: Ended(0, b"taken"))
        return self.build()


class TestDiscardAgent(AgentExam):
    factory = builtin.discard_agent


class TestErrorAgent(AgentExam):
    factory = builtin.error_agent


class TestAccountsChecker(CheckerExam):
    factory = builtin.accounts_checker
    user = "ben@xx.example"
    password = "a good secret"

    def make_checker(self) -> Any:
        self.host.add_account(self.user, self.password)
        self.host.hub.passwords.decoy = _CHEAP
        return self.build()
