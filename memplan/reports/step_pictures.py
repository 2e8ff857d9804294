"""Pictures of a diagnosis: a stacked bar for each step, and a strip of what a device did over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.intervals import Intervals, intervals_within
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_duration
from memplan.reports.report import Drawing

if TYPE_CHECKING:
    from memplan.findings.step_breakdown import StepBreakdown

_WIDTH, _LABEL, _ROW, _HEAD = 640, 104, 24, 22
_COLOURS = (
    ("computing", "var(--accent)", ".95"),
    ("computing over communication", "var(--accent)", ".6"),
    ("communication: transfer", "var(--mind)", ".95"),
    ("communication: waiting", "var(--mind)", ".5"),
    ("pipeline bubble", "var(--no)", ".45"),
    ("copies", "var(--yes)", ".8"),
    ("idle", "currentColor", ".22"),
)
STEP_PARTS = tuple(name for name, _, _ in _COLOURS)
"""What a step is made of, in the order in which it is drawn."""
_LANES = {"computing": ("var(--accent)", 0.9), "communication": ("var(--mind)", 0.9), "copies": ("var(--yes)", 0.9)}
_LINES = (("var(--faint)", "none"), ("var(--mind)", "none"), ("var(--accent)", "none"), ("var(--yes)", "4 3"))
"""Strokes of memory's lines in their order."""
_MEMORY = 130
_MOST_COLUMNS = 400
_MOST_BARS, _LEGEND_ROW = 64, 18
_MOST_BOXES = 1200


def parts_of_step(step: StepBreakdown) -> dict[str, int]:
    """A step's ns by `STEP_PARTS`; communication of which the profile doesn't tell the waiting counts as transfer."""
    transfer = step.exposed_ns if step.transfer_ns is None else step.transfer_ns
    values = (
        step.computing_ns, step.overlapped_ns, transfer, step.waiting_ns or 0, step.bubble_ns, step.copying_ns,
        step.idle_total_ns,
    )  # fmt: skip
    return dict(zip(STEP_PARTS, values, strict=True))


def stacked_steps(steps: Sequence[tuple[Text, Mapping[str, int]]], *, title: Text = "") -> Drawing:
    """A bar for each (label, ns by `STEP_PARTS`), all to one scale."""
    longest = max((sum(parts.values()) for _, parts in steps), default=0)
    if longest <= 0:
        return Drawing(title=title)
    room = _WIDTH - _LABEL - 74
    used = [part for part in _COLOURS if any(parts.get(part[0], 0) for _, parts in steps)]
    lines, head = _legend(used)
    words = [label for label, _ in steps if isinstance(label, Sentence)]
    for row, (label, parts) in enumerate(steps[:_MOST_BARS]):
        x, y = float(_LABEL), head + row * _ROW
        lines.append(_words(_LABEL - 8, y + 15, label, "end"))
        for name, colour, opacity in _COLOURS:
            width = room * parts.get(name, 0) / longest
            if width > 0:
                told = Sentence("{} {}", (Sentence(name), format_duration(parts[name])))
                words.append(told)
                lines.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 7}" fill="{colour}" '
                    f'fill-opacity="{opacity}"><title>{escape(str(told))}</title></rect>'
                )
                x += width
        total = format_duration(sum(parts.values()))
        lines.append(_words(x + 6, y + 15, total))
    height = head + min(len(steps), _MOST_BARS) * _ROW
    return Drawing(_picture(height, "".join(lines), title), title=title, words=tuple(words))


def device_strip(
    lanes: Sequence[tuple[str, Intervals]], span: tuple[int, int], marks: Sequence[tuple[int, int]], *, title: Text = ""
) -> Drawing:
    """
    What ran when: a lane for each name over `span` ns, with `marks` (the dearest findings' places) framed.

    Where a lane has more intervals than can be drawn, columns of the picture are as dark as they are busy.
    """
    start, end = span
    if end <= start:
        return Drawing(title=title)
    room = _WIDTH - _LABEL
    lines = []
    for row, (name, intervals) in enumerate(lanes):
        y = row * _ROW + 2
        colour, opacity = _LANES.get(name, ("currentColor", 0.3))
        lines.append(_words(_LABEL - 8, y + 14, name, "end"))
        for low, high, share in _columns(intervals, start, end):
            x, width = _LABEL + room * low, max(room * (high - low), 0.4)
            lines.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 7}" fill="{colour}" '
                f'fill-opacity="{opacity * share:.2f}"/>'
            )
    foot = len(lanes) * _ROW
    for begin, stop in marks:
        low, high = (max(begin, start) - start) / (end - start), (min(stop, end) - start) / (end - start)
        if high > low:
            lines.append(
                f'<rect x="{_LABEL + room * low:.1f}" y="0" width="{max(room * (high - low), 2):.1f}" height="{foot}" '
                f'fill="none" stroke="var(--no)" stroke-width="1.5"/>'
            )
    lines += [_words(_LABEL, foot + 13, "0"), _words(_WIDTH, foot + 13, format_duration(end - start), "end")]
    return Drawing(_picture(foot + 18, "".join(lines), title), title=title)


def memory_lines(lines: Sequence[tuple[Text, Int64s, Int64s]], span: tuple[int, int], *, title: Text = "") -> Drawing:
    """
    Memory over `span` ns: for each (name, times in ns, bytes from then on) a stepped line, all to one scale from 0.

    Each column of the picture shows the highest value in it, so that no peak is lost; bytes below 0 are not known.
    """
    start, end = span
    edges = start + (np.arange(_MOST_COLUMNS + 1) * (end - start)) // _MOST_COLUMNS
    drawn = [(name, _highest(times, values, edges)) for name, times, values in lines]
    most = max((int(columns.max(initial=0)) for _, columns in drawn), default=0)
    if end <= start or most <= 0:
        return Drawing(title=title)
    step, foot = (_WIDTH - _LABEL) / _MOST_COLUMNS, _HEAD + _MEMORY
    shapes = []
    for (_, columns), (colour, dashes) in zip(drawn, _LINES, strict=False):
        path, pen = [], False
        for place, value in enumerate(columns.tolist()):
            if value < 0:
                pen = False
                continue
            y = foot - (_MEMORY - 8) * value / most
            path.append(f"{'V' if pen else f'M{_LABEL + place * step:.1f} '}{y:.1f}H{_LABEL + (place + 1) * step:.1f}")
            pen = True
        shapes.append(
            f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"/>'
        )
    legend, x = [], 0.0
    for (name, _), (colour, dashes) in zip(drawn, _LINES, strict=False):
        legend.append(
            f'<path d="M{x:.0f} 8h18" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"/>'
            + _words(x + 22, 12, name)
        )
        x += 34 + 6.3 * len(str(name))
    axis = f'<path d="M{_LABEL} {foot}H{_WIDTH}" stroke="currentColor"/>'
    marks = [_words(_LABEL - 8, _HEAD + 12, format_bytes(most), "end"), _words(_LABEL - 8, foot + 4, "0", "end"),
             _words(_WIDTH, foot + 15, format_duration(end - start), "end")]  # fmt: skip
    words = tuple(name for name, _ in drawn if isinstance(name, Sentence))
    return Drawing(_picture(foot + 20, "".join((*legend, *shapes, axis, *marks)), title), title=title, words=words)


def _highest(times: Int64s, values: Int64s, edges: Int64s) -> Int64s:
    """The highest value within each column, that of its start included; -1 where none is known."""
    before = np.searchsorted(times, edges, side="right") - 1
    if not len(values):
        return np.full(len(edges) - 1, -1, dtype=np.int64)
    found = np.where(before[:-1] >= 0, values[np.maximum(before[:-1], 0)], -1)
    for column in np.flatnonzero(before[1:] > before[:-1]).tolist():
        inside = values[before[column] + 1 : before[column + 1] + 1]
        found[column] = max(int(found[column]), int(inside.max()))
    return found.astype(np.int64)


def rank_matrix(ranks: Sequence[int], rates: Mapping[tuple[int, int], float], *, title: Text = "") -> Drawing:
    """
    Rates of the links between `ranks` in bytes per second: rows send, columns receive, darker is faster.

    Ranks that send nothing have no row, and those that receive nothing no column.
    """
    highest = max(rates.values(), default=0.0)
    if len(ranks) > _MOST_BARS or highest <= 0:
        return Drawing(title=title)
    senders = [rank for rank in ranks if any(source == rank for source, _ in rates)]
    receivers = [rank for rank in ranks if any(target == rank for _, target in rates)]
    cell = min(64, 640 // len(ranks))
    lines = []
    for column, target in enumerate(receivers):
        lines.append(_words(60 + column * cell + cell / 2, 14, str(target), "middle"))
    for row, source in enumerate(senders):
        lines.append(_words(50, _HEAD + row * cell + cell / 2 + 4, str(source), "end"))
        for column, target in enumerate(receivers):
            rate = rates.get((source, target))
            if rate is None:
                continue
            x, y = 60 + column * cell, _HEAD + row * cell
            words = f"{source} -> {target}: {rate / 1e9:.1f} GB/s"
            lines.append(
                f'<rect x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" fill="var(--accent)" '
                f'fill-opacity="{0.1 + 0.8 * rate / highest:.2f}"><title>{words}</title></rect>'
            )
            if cell >= 40:
                # On a dark cell the page's own ground can be read, on a light one its ink.
                ink = "var(--ground)" if rate > highest / 2 else "currentColor"
                lines.append(_words(x + cell / 2 - 1, y + cell / 2 + 4, f"{rate / 1e9:.1f}", "middle", ink))
    return Drawing(_picture(_HEAD + len(senders) * cell + 4, "".join(lines), title), title=title)


def _columns(intervals: Intervals, start: int, end: int) -> list[tuple[float, float, float]]:
    """Intervals as (from, to, darkness) in shares of the span; merged to columns where there are too many."""
    low, high = intervals_within(intervals, start, end)
    length = end - start
    if len(low) <= _MOST_BOXES:
        return [
            ((a - start) / length, (b - start) / length, 1.0) for a, b in zip(low.tolist(), high.tolist(), strict=True)
        ]
    edges = start + (np.arange(_MOST_BOXES + 1) * length) // _MOST_BOXES
    reach = np.concatenate([[0], np.cumsum(high - low)])
    place = np.searchsorted(low, edges, side="right")
    before = reach[place] - np.where(place > 0, np.maximum(high[np.maximum(place - 1, 0)] - edges, 0), 0)
    share = np.diff(before) / np.diff(edges)
    return [
        (column / _MOST_BOXES, (column + 1) / _MOST_BOXES, float(dark))
        for column, dark in enumerate(share.tolist())
        if dark > 0
    ]


def _legend(used: Sequence[tuple[str, str, str]]) -> tuple[list[str], int]:
    """What each colour is, in as many rows as it takes, and how high they are."""
    lines, x, row = [], 0.0, 0
    for name, colour, opacity in used:
        width = 24 + 6.3 * len(name)
        if x and x + width > _WIDTH:
            x, row = 0.0, row + 1
        y = row * _LEGEND_ROW
        lines.append(f'<rect x="{x:.0f}" y="{y + 2}" width="11" height="11" fill="{colour}" fill-opacity="{opacity}"/>')
        lines.append(_words(x + 15, y + 12, name))
        x += width
    return lines, _HEAD + row * _LEGEND_ROW


def _words(x: float, y: float, text: Text, anchor: str = "start", ink: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{ink}">{escape(str(text))}</text>'


def _picture(height: float, inside: str, title: Text) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(str(title))}">'
        f'<g font-size="11">{inside}</g></svg>'
    )
