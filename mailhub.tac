"""Runs mailhub: `MAILHUB_CONFIG=F twistd -ny mailhub.tac`, from a checkout or with mailhub installed."""

import os
import sys

# twistd puts neither this folder nor the current one on the path.
_here = os.path.dirname(os.path.abspath(__file__))
if os.path.isdir(os.path.join(_here, "mailhub")):
    sys.path.insert(0, _here)
    import twisted.plugins

    # Where plugins are looked for was settled when twistd loaded its own.
    _plugins = os.path.join(_here, "twisted", "plugins")
    if _plugins not in twisted.plugins.__path__:
        twisted.plugins.__path__.append(_plugins)

from twisted.application.service import Application  # noqa: E402

from mailhub.config.settings import default_file  # noqa: E402
from mailhub.service import make_service  # noqa: E402

application = Application("mailhub")
make_service(default_file()).setServiceParent(application)
