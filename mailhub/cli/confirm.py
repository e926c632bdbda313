"""Nothing is destroyed by mistake: who is at a terminal is asked, a script has to say --yes."""

from __future__ import annotations

import argparse
import sys

from mailhub.errors import ConfigurationError


def yes_option(action: argparse.ArgumentParser) -> None:
    """Add --yes to a command that asks."""
    action.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")


def confirmed(arguments: argparse.Namespace, question: str) -> bool:
    """Whether to go on. `question` says what will be gone. Raises ConfigurationError where nobody can be asked."""
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question} There is no terminal to ask at: add --yes. Nothing was changed")
    try:
        answer = input(f"{question} Type yes: ")
    except EOFError:
        answer = ""
        print()
    if answer.strip().lower() == "yes":
        return True
    print("nothing was changed")
    return False
