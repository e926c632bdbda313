"""The exams that stores, queues and tables of accounts sit: what a test of a plug-in imports."""

from mailhub.store.exam.accounts import AccountsExam, NamesExam
from mailhub.store.exam.queues import QueueExam
from mailhub.store.exam.states import StateExam
from mailhub.store.exam.stores import StoreExam
from mailhub.store.exam.submissions import DatabaseExam

__all__ = ["AccountsExam", "DatabaseExam", "NamesExam", "QueueExam", "StateExam", "StoreExam"]
