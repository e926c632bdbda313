"""All is in setup.cfg. With MAILHUB_COMPILED=1 in the environment, mypyc compiles the modules that make a digest."""

import os

from setuptools import setup

MODULES = (
    "address_list dates digest encoded_word header line_ends long_lines mime nstring parameters preview structure text"
)

if os.environ.get("MAILHUB_COMPILED") != "1":
    setup()
else:
    try:
        from mypyc.build import mypycify
    except ImportError:  # the round in which pip asks what the build needs
        modules = []
    else:
        modules = mypycify(["--config-file=", *(f"mailhub/message/{name}.py" for name in MODULES.split())])
    setup(ext_modules=modules, setup_requires=["mypy>=1.10", "attrs>=23.2", "idna>=3.4"])
