"""A picture of what was reported of a domain's mail, as SVG: a bar a day, and a bar for each of the largest sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

import attrs

_WIDTH, _MARGIN = 800, 50
_TOP, _HEIGHT = 70, 200  # of the bars of days
_SOURCES = 12  # that are drawn
_LINE = 22  # of one of them
_NAME = 270  # how wide its name is
_KINDS = (("#2e7d32", "passed"), ("#f9a825", "failed, delivered"), ("#c62828", "failed, quarantined or rejected"))


@attrs.define
class Bar:
    """What is drawn of a day or a source: messages by kind, as in the legend."""

    name: str
    counts: list[int] = attrs.field(factory=lambda: [0] * len(_KINDS))

    @property
    def total(self) -> int:
        """All messages."""
        return sum(self.counts)

    def add(self, count: int, kind: int) -> None:
        """So many more."""
        self.counts[kind] += count


def picture(domain: str, days: Sequence[Bar], sources: Sequence[Bar]) -> str:
    """The document. `days` in their order, at least one; `sources` with the largest first."""
    shown = sources[:_SOURCES]
    height = _TOP + _HEIGHT + 90 + _LINE * len(shown) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>DMARC reports about {escape(domain)}, {escape(days[0].name)} to {escape(days[-1].name)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_MARGIN, 24, f"Mail from {domain}, as other servers have reported it", size=16),
        *_legend(),
        *_days(days),
        *_sources(shown, len(sources), _TOP + _HEIGHT + 60),
        "</svg>",
    ]
    return "\n".join([*lines, ""])


def _legend() -> Iterator[str]:
    left = _MARGIN
    for colour, name in _KINDS:
        yield f'<rect x="{left}" y="38" width="12" height="12" fill="{colour}"/>'
        yield _text(left + 18, 48, name)
        left += 60 + 7 * len(name)


def _days(days: Sequence[Bar]) -> Iterator[str]:
    most = max(max(day.total for day in days), 1)
    bottom, step = _TOP + _HEIGHT, (_WIDTH - 2 * _MARGIN) / len(days)
    for part in (0.0, 0.5, 1.0):
        y = bottom - _HEIGHT * part
        yield f'<line x1="{_MARGIN}" y1="{y:.1f}" x2="{_WIDTH - _MARGIN}" y2="{y:.1f}" stroke="#cccccc"/>'
        yield _text(_MARGIN - 6, y + 4, f"{most * part:.0f}" if most > 1 or part != 0.5 else "", anchor="end")
    for number, day in enumerate(days):
        y = float(bottom)
        for (colour, name), count in zip(_KINDS, day.counts, strict=True):
            if not count:
                continue
            tall = _HEIGHT * count / most
            y -= tall
            yield (
                f'<rect x="{_MARGIN + step * number + step * 0.1:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" '
                f'height="{tall:.1f}" fill="{colour}"><title>{escape(day.name)}: {count} {name}</title></rect>'
            )
    for number in sorted({0, len(days) // 2, len(days) - 1}):
        yield _text(_MARGIN + step * (number + 0.5), bottom + 18, days[number].name, anchor="middle")


def _sources(shown: Sequence[Bar], all_of_them: int, top: int) -> Iterator[str]:
    most = max([1, *(bar.total for bar in shown)])
    wide = _WIDTH - 2 * _MARGIN - _NAME - 60
    more = f", the largest {len(shown)} of {all_of_them}" if all_of_them > len(shown) else ""
    yield _text(_MARGIN, top, f"Sources{more}" if shown else "Nothing was reported", size=14)
    for number, bar in enumerate(shown):
        y, x = top + 12 + _LINE * number, float(_MARGIN + _NAME)
        yield _text(x - 8, y + 13, bar.name, anchor="end")
        for (colour, name), count in zip(_KINDS, bar.counts, strict=True):
            if not count:
                continue
            long = wide * count / most
            yield (
                f'<rect x="{x:.1f}" y="{y}" width="{long:.1f}" height="{_LINE - 6}" fill="{colour}">'
                f"<title>{escape(bar.name)}: {count} {name}</title></rect>"
            )
            x += long
        yield _text(x + 6, y + 13, str(bar.total))


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#222222">{escape(text)}</text>'
    )
