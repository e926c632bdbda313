"""The exams that backends sit, in one place: inherit one in a test of your own.

class TestMyStore(StoreExam):
    read_only = True
    user = "ann@xx.example"

    async def open_store(self) -> IMailStore:
        return MyStore(...)
"""

from mailhub.store.exam import AccountsExam, DatabaseExam, NamesExam, QueueExam, StoreExam
from mailhub.store.exam.rig import Exam, question

__all__ = ["AccountsExam", "DatabaseExam", "Exam", "NamesExam", "QueueExam", "StoreExam", "question"]
