"""`twistd mailhub`: its options, and the service it runs."""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import IService
from twisted.python.usage import Options as TwistedOptions

from mailhub import __version__
from mailhub.config.settings import default_file
from mailhub.service import make_service


class Options(TwistedOptions):
    """The command line after `twistd mailhub`."""

    synopsis = "[--config FILE]"
    longdesc = """
Serves mail: SMTP, LMTP, submission, POP3 and IMAP4, as the configuration file says.

The file is the one given with --config, else the one named by the environment variable MAILHUB_CONFIG, else
mailhub.toml in the current folder. `mailhub init you@example.org` writes one, with an account, a certificate and
comments; `mailhub check` looks it over; `mailhub --help` shows everything that can be done while the server runs.

Options of twistd itself stand before the word mailhub:
    twistd -n mailhub --config F              in the foreground, log on standard output
    twistd --logfile F --pidfile P mailhub    as a daemon
    twistd --uid U --gid G mailhub            ports below 1024 are opened first, then the rights given up
SIGTERM and SIGINT stop it: sessions are told, deliveries under way are finished, nothing is lost."""
    optParameters = [["config", "c", None, "Configuration file (TOML)."]]

    def opt_version(self) -> None:
        """Print mailhub's version and exit."""
        print(f"mailhub {__version__}")
        raise SystemExit(0)


def makeService(options: Options) -> IService:
    """See `IServiceMaker`. Ends the process with one line and status 1 when the configuration is wrong."""
    return make_service(Path(options["config"]) if options["config"] else default_file())
