"""The exams that components sit, in one place: inherit one in a test of your own.

class TestMyPolicy(PolicyExam):
    def make_policy(self) -> MyPolicy:
        return MyPolicy()

class TestMyPlugin(RouterExam):
    factory = my_plugin.router
    options = {"domain": "xx.example"}

class TestMyStore(StoreExam):
    read_only = True
    user = "ann@xx.example"

    async def open_store(self) -> IMailStore:
        return MyStore(...)
"""

import sys
from pathlib import Path

from mailhub.store.exam import AccountsExam, DatabaseExam, NamesExam, QueueExam, StateExam, StoreExam
from mailhub.store.exam.rig import Exam, question
from mailhub.testing.exam import command
from mailhub.testing.exam.agents import AgentExam
from mailhub.testing.exam.checkers import CheckerExam, DirectoryExam
from mailhub.testing.exam.component import ComponentExam
from mailhub.testing.exam.policies import PolicyExam
from mailhub.testing.exam.routers import RouterExam
from mailhub.testing.exam.rules import RuleExam
from mailhub.testing.exam.simple_stores import SimpleStoreExam
from mailhub.testing.hubs import Internet
from mailhub.testing.processes import spawned

__all__ = [
    "AccountsExam",
    "AgentExam",
    "CheckerExam",
    "ComponentExam",
    "DatabaseExam",
    "DirectoryExam",
    "Exam",
    "NamesExam",
    "PolicyExam",
    "QueueExam",
    "RouterExam",
    "RuleExam",
    "SimpleStoreExam",
    "StateExam",
    "StoreExam",
    "question",
]


def _surroundings(folder: Path) -> Internet:
    return Internet(seed=1, folder=folder)


ComponentExam.surroundings = _surroundings


def _with_programs(folder: Path) -> Internet:
    """For the command: an agent is given a program of the machine as its target."""
    internet = _surroundings(folder)
    internet.processes.otherwise = spawned
    return internet


if __name__ == "__main__":
    ComponentExam.surroundings = _with_programs
    components: tuple[type[ComponentExam], ...] = (
        AgentExam,
        CheckerExam,
        DirectoryExam,
        PolicyExam,
        RouterExam,
        RuleExam,
    )
    by_kind = {exam.kind: exam for exam in components} | {"simple store": SimpleStoreExam}
    command.main(sys.argv[1], by_kind, StoreExam)
