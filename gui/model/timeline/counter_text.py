"""What is said of counters: their values at a moment, and how high a track of them reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_sample
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack
from memplan.traces.profile import CounterSeries

_MOST = 14
_BYTES = {"B": 1, "KB": 1 << 10}
"""Bytes in a unit of msprof's counters, whose KB have 1,024; what an MB is differs from writer to writer."""


def sample_text(value: float, unit: str) -> str:
    """A sample with its unit; what is counted in bytes is said as bytes are."""
    factor = _BYTES.get(unit)
    return format_sample(value, unit) if factor is None else format_bytes(round(value * factor))


def counter_lines(track: TimelineTrack, series: Sequence[CounterSeries], moment_ns: int) -> list[Text]:
    """The track's name and the value of each of its series at `moment_ns`: that of the last sample before."""
    lines: list[Text] = [track.title]
    for item in series[:_MOST]:
        at = int(np.searchsorted(item.time_ns, moment_ns, side="right")) - 1
        known = at >= 0 and bool(np.isfinite(item.values[at]))
        lines.append(f"{item.name}: {sample_text(float(item.values[at]), item.unit) if known else '–'}")
    if len(series) > _MOST:
        lines.append(Sentence("{} more", (f"{len(series) - _MOST:,}",)))
    return lines


def highest_text(series: Sequence[CounterSeries]) -> Text | None:
    """The highest value of all series, which is where their track's top is; `None` without samples."""
    tops = [(highest(item), item.unit) for item in series if np.isfinite(item.values).any()]
    if not tops:
        return None
    value, unit = max(tops)
    return Sentence("highest {}", (sample_text(value, unit),))


def highest(item: CounterSeries) -> float:
    """The highest sample; 0 where there is none."""
    return float(np.max(item.values, where=np.isfinite(item.values), initial=0.0))
