"""Everything that an extension imports, from one module that stays."""

from __future__ import annotations

from mailhub.store.simple import Key, Message, SimpleStore

__all__ = ["Key", "Message", "SimpleStore"]
