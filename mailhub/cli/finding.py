"""What the parts of `mailhub check` find, a line each."""

Finding = tuple[bool | None, str]
"""Whether all is well; None is a warning: something to know, nothing that has to be mended."""
