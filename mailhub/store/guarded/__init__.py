"""A mailbox store of somebody else's, asked through a guard: every answer has a time, and is looked at before it
counts."""

from mailhub.store.guarded.store import GuardedStore

__all__ = ["GuardedStore"]
