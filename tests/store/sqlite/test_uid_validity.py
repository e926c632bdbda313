"""UIDVALIDITY is never given twice, and the row that is common to all accounts is seldom written."""

from __future__ import annotations

from pathlib import Path

from mailhub.store.exam.rig import Exam
from mailhub.store.sql.mailbox_rows import VALIDITIES_AHEAD
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment

wait = Exam().wait_for


def test_the_common_row_is_written_for_a_thousand_mailboxes_at_once(tmp_path: Path) -> None:
    database = Database(environment(tmp_path), FAST, create=True)

    async def story() -> None:
        await database.start()
        given: set[int] = set()
        for number in range(3):
            user = f"u{number}@yy.example"
            await database.accounts.add(user, "")
            account = await database.store.account(user)
            for name in ("a", "b", "a"):
                await account.create(name)
                validity = (await account.mailbox(name)).uid_validity
                assert validity not in given
                given.add(validity)
                await account.delete(name)
        await database.accounts.remove("u2@yy.example")
        await database.accounts.add("u2@yy.example", "")
        account = await database.store.account("u2@yy.example")
        assert (await account.mailbox("INBOX")).uid_validity > max(given)
        row = await database._engine.read(lambda snapshot: snapshot.row("SELECT last, removed FROM uid_validity"))
        assert row[0] == NOW + VALIDITIES_AHEAD
        assert max(given) <= row[1] < row[0]
        await database.stop()

    wait(story())
    assert verify(tmp_path) == []
