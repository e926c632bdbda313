"""The `mailhub` command: its grammar, and how its errors are shown."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailhub import __version__
from mailhub.cli import (
    account,
    alias,
    alias_import,
    backup,
    check,
    dkim,
    dmarc,
    dns,
    domain,
    exam,
    explain,
    init,
    list_held,
    lists,
    plugins,
    queue,
    reload,
    restore,
    scheduled,
    send_as,
    tls_reports,
)
from mailhub.config.settings import default_file
from mailhub.errors import ConfigurationError, MailError
from mailhub.message import digest

# By mypyc (docs/performance.rst).
_BUILD = "" if str(digest.__file__).endswith(".py") else " (compiled)"

_DESCRIPTION = """\
mailhub is a mail server: SMTP, submission, POP3 and IMAP4 in one process.
This command sets it up and looks after it; the server is run by twistd.
"""
_EXAMPLES = """\
first steps:
  mailhub init you@example.org   write mailhub.toml, a certificate, your account
  mailhub check                  look everything over
  mailhub dns                    what DNS has to say of it, and says
  twistd -n mailhub              serve (ports below 1024 need root, or a right)

daily work, also while the server runs:
  mailhub account add joe@example.org       with a generated password
  mailhub account disable joe@example.org   no login; mail for it is still taken
  mailhub alias add sales@example.org joe@example.org
  mailhub domain add example.net
  mailhub dkim add example.net              keys that mail is signed with
  mailhub queue list                        what has not been delivered yet
  mailhub queue retry --all                 try it again now
  mailhub backup /var/backups/mailhub       a consistent copy
  mailhub dmarc report example.org          who sends mail in your name
  mailhub explain --from A --to B --ip X    what would become of it, and why
  mailhub reload                            take over a changed configuration
  mailhub exam my_store.py                  ask a plugin what its kind promises
  mailhub plugins list                      what there is, and how it does

The configuration is --config FILE, else $MAILHUB_CONFIG, else mailhub.toml in
this folder.
"""


class Parser(argparse.ArgumentParser):
    """Takes --config at every place of the line. Parsers of commands are made of the same class."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # No default: that of a command's own parser would overwrite what stood before the command.
        self.add_argument(
            "--config", metavar="FILE", type=Path, default=argparse.SUPPRESS, help="the configuration file (TOML)"
        )


def parser() -> argparse.ArgumentParser:
    """The whole grammar."""
    top = Parser(
        prog="mailhub",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mailhub {__version__}{_BUILD}")
    commands = top.add_subparsers(metavar="COMMAND", title="commands")
    for module in (
        init,
        account,
        alias,
        domain,
        dkim,
        lists,
        queue,
        scheduled,
        check,
        dns,
        backup,
        restore,
        reload,
        plugins,
        tls_reports,
        dmarc,
        exam,
        explain,
    ):
        actions = module.add_parser(commands)
        if module is alias:
            alias_import.add_parser(actions)
        if module is lists:
            list_held.add_parser(actions, queue.asked_queue)
        if module is account:
            send_as.add_parser(actions)
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit status: 0 done, 1 not done (one line says why), 2 wrong usage, 130 interrupted."""
    grammar = parser()
    chosen = grammar.parse_args(arguments)
    if not hasattr(chosen, "run"):
        grammar.print_help()
        raise SystemExit(2)
    chosen.config = (getattr(chosen, "config", None) or default_file()).absolute()
    raise SystemExit(_run(chosen))


def _run(chosen: argparse.Namespace) -> int:
    try:
        status: int = chosen.run(chosen) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python must not complain at its own flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ConfigurationError as error:
        return _complain(str(error))
    except MailError as error:
        return _complain(error.text + (f" ({error.detail})" if error.detail else ""))
    except OSError as error:
        return _complain(f"{error.filename or 'cannot go on'}: {error.strerror or error}")
    except Exception as error:
        if os.environ.get("MAILHUB_DEBUG"):
            traceback.print_exc()
        line = f"{type(error).__name__}: {error}"
        return _complain(f"this is a bug in mailhub: {line} (set MAILHUB_DEBUG=1 to see where)")
    return status


def _complain(text: str) -> int:
    print(f"mailhub: {' '.join(text.split())}", file=sys.stderr)
    return 1
