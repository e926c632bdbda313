"""Whether a logo is in the profile that BIMI wants: SVG Tiny Portable/Secure
(draft-svg-tiny-ps-abrotman). What is read is a stranger's: no DTD, no entities, and only so much of everything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.parsers.expat import ExpatError, ParserCreate

import attrs

SVG_LIMIT = 32_768  # octets
_DEPTH = 100  # elements, one in the other
_FAULTS = 10  # that are told
_TITLE_LIMIT = 64  # characters

_SVG = "http://www.w3.org/2000/svg"
_HREF = "http://www.w3.org/1999/xlink href"
_SEPARATOR = " "
# What of SVG Tiny 1.2 is left without scripts, links, animations, sound and pictures from elsewhere.
_ELEMENTS = frozenset(
    {
        *("svg", "title", "desc", "metadata", "g", "defs", "use", "switch"),
        *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon"),
        *("text", "tspan", "tbreak", "textArea"),
        *("linearGradient", "radialGradient", "stop", "solidColor"),
        *("font", "font-face", "font-face-src", "font-face-name", "glyph", "missing-glyph", "hkern"),
    }
)
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?"
_VIEW_BOX = re.compile(rf"\s*({_NUMBER})[\s,]+({_NUMBER})[\s,]+({_NUMBER})[\s,]+({_NUMBER})\s*", re.IGNORECASE)
_NUMBER_LIMIT = 1000  # characters of it
_ELSEWHERE = re.compile(r"url\(\s*[\"']?\s*(?![#\s\"'])|(?:javascript|data|https?|file):", re.IGNORECASE)


class _TooMuch(Exception):
    """Nothing more is read."""


def faults_of(octets: bytes) -> Sequence[str]:
    """What keeps it from being shown, in words; nothing where it is good."""
    if len(octets) > SVG_LIMIT:
        return [f"is larger than {SVG_LIMIT} octets"]
    reader = _Reader()
    parser = ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.EntityDeclHandler = reader.doctype
    parser.ProcessingInstructionHandler = reader.instruction
    try:
        parser.Parse(octets, True)
    except _TooMuch:
        return reader.faults
    except (ExpatError, ValueError, LookupError) as error:
        return [*reader.faults, f"is no XML that can be read: {error}"][:_FAULTS]
    return reader.all_faults()


@attrs.define(eq=False)
class _Reader:
    """Takes the elements as they come."""

    faults: list[str] = attrs.field(factory=list)
    _open: list[str] = attrs.field(factory=list)
    _title: str | None = None

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        namespace, _, local = name.rpartition(_SEPARATOR)
        if len(self._open) >= _DEPTH:
            self._stop(f"has more than {_DEPTH} elements, one in the other")
        if not self._open:
            self._root(namespace, local, attributes)
        if namespace != _SVG or local not in _ELEMENTS:
            self._add(f"has an element {local!r:.40}, which the profile has not")
        if [*self._open, local] == ["svg", "title"] and self._title is None:
            self._title = ""
        for key, value in attributes.items():
            if key.lower().startswith("on"):
                self._add(f"has a script ({key!r:.40})")
            elif (key in (_HREF, "href") and not value.startswith("#")) or _ELSEWHERE.search(value):
                self._add(f"refers to something elsewhere ({value!r:.80})")
        self._open.append(local)

    def end(self, name: str) -> None:
        self._open.pop()

    def text(self, text: str) -> None:
        if self._open == ["svg", "title"] and self._title is not None:
            self._title += text

    def doctype(self, *told: object) -> None:
        self._stop("has a document type (DTD)")

    def instruction(self, target: str, data: str) -> None:
        self._add(f"has an instruction for programs ({target!r:.40})")

    def all_faults(self) -> list[str]:
        """With what shows at the end alone."""
        title = (self._title or "").strip()
        if not title:
            self._add("has no title")
        elif len(title) > _TITLE_LIMIT:
            self._add(f"has a title of more than {_TITLE_LIMIT} characters")
        return self.faults

    def _root(self, namespace: str, local: str, attributes: Mapping[str, str]) -> None:
        if (namespace, local) != (_SVG, "svg"):
            self._stop("is no SVG")
        for key, wanted in (("version", "1.2"), ("baseProfile", "tiny-ps")):
            if attributes.get(key) != wanted:
                self._add(f'has no {key}="{wanted}"')
        for key in ("x", "y"):
            if key in attributes:
                self._add(f"has {key}= in its outermost element")
        box = attributes.get("viewBox", "")
        match = _VIEW_BOX.fullmatch(box) if len(box) <= _NUMBER_LIMIT else None
        if match is None:
            self._add("has no viewBox")
        elif float(match[3]) <= 0 or float(match[3]) != float(match[4]):
            self._add(f"is not square (viewBox {box!r:.80})")

    def _add(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)
        if len(self.faults) >= _FAULTS:
            raise _TooMuch

    def _stop(self, fault: str) -> None:
        self.faults.append(fault)
        raise _TooMuch
