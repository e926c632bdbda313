"""mailhub: a programmable mail server on Twisted."""

__version__ = "0.2.0.dev0"
