"""All is in setup.cfg. With MAILHUB_COMPILED=1 in the environment, mypyc compiles the modules below to C."""

import os

from setuptools import setup

# What is done with each message and each command; docs/performance.rst says what it gains. Left out are modules of
# values alone, which attrs makes and mypyc does not speed up; those with `attrs.field(...)`, which mypyc takes for the
# value itself; and all that waits, or stands behind an interface of zope.
COMPILED = {
    "mailhub/message": (
        "address", "address_list", "dates", "digest", "encoded_word", "header", "line_ends", "long_lines",
        "mime", "nstring", "parameters", "preview", "section", "structure", "text", "trace",
    ),
    "mailhub/wire": ("stream",),
    "mailhub/wire/smtp": ("chunks", "dialogue", "grammar", "login", "reception", "server", "verbs"),
    "mailhub/wire/imap": (
        "collector", "dates", "fetch_grammar", "fetch_response", "names", "responses", "search_matching", "server",
        "sets", "tokens", "view",
    ),
}  # fmt: skip

if os.environ.get("MAILHUB_COMPILED") != "1":
    setup()
else:
    try:
        from mypyc.build import mypycify
    except ImportError:  # the round in which pip asks what the build needs
        modules = []
    else:
        files = [f"{folder}/{name}.py" for folder, names in COMPILED.items() for name in names]
        modules = mypycify(["--config-file=", *files], opt_level="2")
    setup(ext_modules=modules, setup_requires=["mypy>=1.10", "attrs>=23.2", "idna>=3.4"])
