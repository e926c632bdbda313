"""How Sphinx reads the documentation; `make lint` has every warning count as an error."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.addnodes import pending_xref

import mailhub

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "mailhub"
author = "the mailhub developers"
project_copyright = author
version = release = mailhub.__version__
language = "en"
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "sidebar_width": "220px"}
html_copy_source = False
# What stands after "::" is a shell's, a log's or a file's; Python and TOML are named.
highlight_language = "text"

_HERE = Path(__file__).parent
_ROOT = _HERE.parent
# Pages that show a file of the root folder, so that it is read in a checkout as well.
_SHOWN = {"readme": "README.rst", "contributing": "CONTRIBUTING.rst", "changelog": "CHANGELOG.rst"}


def _page(target: str, page: str) -> str | None:
    """The page that a link to a file means on `page`; None for a link to something else."""
    folder = "" if page in _SHOWN else "docs"
    path = posixpath.normpath(posixpath.join(folder, target))
    for name, shown in _SHOWN.items():
        if path == shown:
            return name
    return path[len("docs/") : -len(".rst")] if path.startswith("docs/") and path.endswith(".rst") else None


def link_pages(app: Sphinx, document: nodes.document) -> None:
    """Makes links to files, as they work in a checkout, links to pages; Sphinx warns of those that are not there."""
    name = app.env.docname
    for reference in list(document.findall(nodes.reference)):
        target = reference.get("refuri", "").partition("#")[0]
        if not target or "://" in target or target.startswith("mailto:"):
            continue
        page = _page(target, name)
        if page is None:
            continue
        inner = nodes.inline("", reference.astext(), classes=["doc"])
        options: dict[str, Any] = {"refdomain": "std", "reftype": "doc", "reftarget": f"/{page}", "refexplicit": True}
        reference.replace_self(pending_xref("", inner, refdoc=name, refwarn=True, **options))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", link_pages)
    return {"parallel_read_safe": True}
