"""What is said of counters: their values at a moment, and how high a track of them reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_sample
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack
from memplan.traces.profile import CounterSeries

_MOST = 14


def counter_lines(track: TimelineTrack, series: Sequence[CounterSeries], moment_ns: int) -> list[Text]:
    """The track's name and the value of each of its series at `moment_ns`: that of the last sample before."""
    lines: list[Text] = [track.title]
    for item in series[:_MOST]:
        at = int(np.searchsorted(item.time_ns, moment_ns, side="right")) - 1
        known = at >= 0 and bool(np.isfinite(item.values[at]))
        lines.append(f"{item.name}: {format_sample(float(item.values[at]), item.unit) if known else '–'}")
    if len(series) > _MOST:
        lines.append(Sentence("{} more", (f"{len(series) - _MOST:,}",)))
    return lines


def highest_text(series: Sequence[CounterSeries]) -> Text | None:
    """The highest value of all series, which is where their track's top is; `None` without samples."""
    tops = [(highest(item), item.unit) for item in series if np.isfinite(item.values).any()]
    if not tops:
        return None
    value, unit = max(tops)
    return Sentence("highest {}", (format_sample(value, unit),))


def highest(item: CounterSeries) -> float:
    """The highest sample; 0 where there is none."""
    return float(np.max(item.values, where=np.isfinite(item.values), initial=0.0))
