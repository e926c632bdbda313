"""`twistd mailhub`: its options, and the service it runs."""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import IService
from twisted.python.usage import Options as TwistedOptions

from mailhub import __version__
from mailhub.config.settings import default_file
from mailhub.service import make_service

_HELP = """
The configuration is --config FILE, else the file that the environment variable
MAILHUB_CONFIG names, else mailhub.toml in the current folder.
`mailhub init you@example.org` writes one, with an account and a certificate;
`mailhub check` looks it over; `mailhub --help` shows what else can be done.

Options of twistd itself stand before the word mailhub:
  twistd -n mailhub --config F            in the foreground, log to the terminal
  twistd --logfile L --pidfile P mailhub  as a daemon
  twistd mailhub --user U --config F      opens low ports, then gives up root

SIGTERM and SIGINT stop it: sessions are told, deliveries under way finished.
SIGHUP (or `mailhub reload`) has it read the configuration again.
A start that fails says why in one line and ends with status 1.
"""


class Options(TwistedOptions):
    """The command line after `twistd mailhub`."""

    synopsis = "[--config FILE] [--user USER [--group GROUP]]"
    longdesc = "Serves mail by SMTP, LMTP, submission, POP3 and IMAP4, as its configuration file says."
    optParameters = [
        ["config", "c", None, "Configuration file (TOML)."],
        ["user", "u", "", "Who to be when the ports are open (name or number)."],
        ["group", "g", "", "Its group, if not the user's own."],
    ]

    def getUsage(self, width: int | None = None) -> str:
        """The help, with what must not be wrapped at its end."""
        usage: str = super().getUsage(width)
        return usage + _HELP

    def opt_version(self) -> None:
        """Print mailhub's version and exit."""
        print(f"mailhub {__version__}")
        raise SystemExit(0)


def makeService(options: Options) -> IService:
    """See `IServiceMaker`. Ends the process with one line and status 1 when the configuration is wrong."""
    file = Path(options["config"]) if options["config"] else default_file()
    # twistd's own --uid and --gid, which it has turned into numbers, are as good.
    twistd = getattr(options, "parent", None) or {}
    user, group = options["user"], options["group"]
    if not user and twistd.get("uid") is not None:
        user, group = str(twistd["uid"]), "" if twistd.get("gid") is None else str(twistd["gid"])
    to_terminal = bool(twistd.get("nodaemon")) and twistd.get("logfile") in (None, "-")
    plain = to_terminal and not (twistd.get("syslog") or twistd.get("logger"))
    return make_service(file, user, group, terminal=plain)
