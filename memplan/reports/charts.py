"""Small charts for reports: SVG for pages, blocks of text for terminals."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

from memplan.core.sentence import Sentence
from memplan.reports.report import Drawing, Quantity, cell_text

_BLOCKS = " ▁▂▃▄▅▆▇█"
_COLUMNS = 100
_WIDTH, _HEIGHT = 800, 160
_TOP, _FOOT = 18, 18
_BAR, _LABEL, _VALUE = 22, 190, 110


def area_chart(values: Sequence[float], quantity: Quantity, *, across: str, title: str = "") -> Drawing:
    """
    `values` (none below 0) over their positions as a filled step line; `across` says how many there are: `{} steps`.

    Where there are more values than columns each column shows the largest of its own, so that no peak is lost.
    """
    highest = max(values, default=0)
    if highest <= 0:
        return Drawing(title=title)
    points = _reduced(values, _WIDTH)
    step = _WIDTH / len(points)
    extent = Sentence(across, (f"{len(values):,}",))
    room = _HEIGHT - _TOP - _FOOT
    path = [f"M0 {_HEIGHT - _FOOT}"]
    for place, value in enumerate(points):
        path.append(f"V{_HEIGHT - _FOOT - room * value / highest:.1f}H{(place + 1) * step:.1f}")
    path.append(f"V{_HEIGHT - _FOOT}Z")
    at = max(range(len(values)), key=values.__getitem__)
    left = min(at / len(values) * _WIDTH, _WIDTH - 90)
    svg = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title or str(extent))}">'
        f'<path d="{"".join(path)}" fill="var(--accent)" fill-opacity=".75"/>'
        f'<path d="M0 {_HEIGHT - _FOOT}H{_WIDTH}" stroke="currentColor"/>'
        f'<g fill="currentColor" font-size="12">'
        f'<text x="{left:.0f}" y="12">{escape(cell_text(highest, quantity))}</text>'
        f'<text x="0" y="{_HEIGHT - 4}">0</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{escape(str(extent))}</text>'
        "</g></svg>"
    )
    text = "".join(_BLOCKS[ceil(value * 8 / highest)] for value in _reduced(values, _COLUMNS))
    return Drawing(svg, text, title, (extent,))


def bar_chart(bars: Sequence[tuple[str, float]], quantity: Quantity, *, title: str = "") -> Drawing:
    """A bar for each label and value (none below 0), in their order; for pages only, where a table stands beside it."""
    highest = max((value for _, value in bars), default=0)
    if highest <= 0:
        return Drawing(title=title)
    room = _WIDTH - _LABEL - _VALUE
    lines = []
    for place, (label, value) in enumerate(bars):
        y = place * _BAR
        length = room * value / highest
        lines.append(
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(_short(label))}</text>'
            f'<rect x="{_LABEL}" y="{y + 3}" width="{length:.1f}" height="{_BAR - 7}" rx="2" fill="var(--accent)"/>'
            f'<text x="{_LABEL + length + 6:.1f}" y="{y + 15}">{escape(cell_text(value, quantity))}</text>'
        )
    svg = (
        f'<svg viewBox="0 0 {_WIDTH} {len(bars) * _BAR}" role="img" aria-label="{escape(title)}">'
        f'<g fill="currentColor" font-size="13">{"".join(lines)}</g></svg>'
    )
    return Drawing(svg, title=title)


def _reduced(values: Sequence[float], most: int) -> list[float]:
    width = min(most, len(values))
    return [max(values[i * len(values) // width : (i + 1) * len(values) // width]) for i in range(width)]


def _short(label: str) -> str:
    return label if len(label) <= 26 else f"{label[:25]}…"
