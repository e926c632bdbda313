"""Which databases commands can open."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailhub.config.settings import Config


def is_ours(config: Config) -> bool:
    """Whether the database is the one that commands know how to open."""
    return config.database.type == "sqlite"


def require_ours(config: Config) -> None:
    """Raises ConfigurationError for a database that only its plugin can open."""
    if not is_ours(config):
        raise config.database.place.at("type").error(
            f"commands open databases of SQLite alone, not of {config.database.type}: use its own tools"
        )
