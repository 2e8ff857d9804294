"""The timeline of a rank whose kernels are listed in a table and whose trace is missing: a track for each stream."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from memplan.core.arrays import Int64s
from memplan.traces.decimals import ABSENT
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.profile import Kernels
from memplan.traces.readers.event_builder import EventBuilder
from memplan.traces.timeline.query import TimelineQuery
from memplan.traces.timeline.tracks import build

_PROCESS, _COMMUNICATION = "Ascend Hardware", "HCCL"  # as traces call them, so that they are told to be the device's
_COLLECTIVES = frozenset({"HCCL", "COMMUNICATION"})  # what tables call the core of a collective, old ones and new ones


def timeline_of(kernels: Kernels) -> TimelineQuery:
    """
    `kernels` as slices of their streams with their op types as categories, the table's columns as arguments.

    Kernels without a stream are on a track for each kind of core, collectives among them on one of their own.
    """
    builder = EventBuilder()
    names, types, cores = (
        dictionary_encoded(kernels.name),
        dictionary_encoded(kernels.type),
        dictionary_encoded(kernels.core),
    )
    lane = builder.lanes(_PROCESS, kernels.stream, lambda stream: f"Stream {stream}" if stream >= 0 else "Kernels")
    homeless = kernels.stream < 0
    for code in np.unique(cores.codes[homeless]).tolist():
        core = cores.values[code]
        if core in _COLLECTIVES:
            lane[homeless & (cores.codes == code)] = builder.lane(_COMMUNICATION, "Communication")
        elif core not in ABSENT:
            lane[homeless & (cores.codes == code)] = builder.lane(_PROCESS, core)
    kinds = [builder.number("" if kind in ABSENT else kind) for kind in types.values]
    titles = [builder.number(name) for name in names.values]
    builder.add(
        kernels.start_ns,
        kernels.start_ns + kernels.duration_ns,
        lane,
        np.array(titles, dtype=np.int64)[names.codes],
        np.array(kinds, dtype=np.int64)[types.codes],
        np.arange(len(kernels), dtype=np.int64),
    )
    return TimelineQuery(build(builder.events(), {}), lambda at, size: _columns(kernels, at) if size else {})


def _columns(kernels: Kernels, row: int) -> Mapping[str, object]:
    """What the table says of kernel `row` beside its name, type and times, as it says it."""
    texts = {
        "core": kernels.core,
        "input shapes": kernels.input_shapes,
        "input types": kernels.input_dtypes,
        "output shapes": kernels.output_shapes,
        "output types": kernels.output_dtypes,
    }
    numbers: dict[str, Int64s] = {
        "step": kernels.step,
        "block count": kernels.block_count,
        "wait (ns)": kernels.wait_ns,
    }
    found: dict[str, object] = {title: str(text[row]) for title, text in texts.items() if text[row] not in ABSENT}
    found |= {title: int(column[row]) for title, column in numbers.items() if column[row] >= 0}
    return found | {title: float(column[row]) for title, column in kernels.pmu.items() if not np.isnan(column[row])}
