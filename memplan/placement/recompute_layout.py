"""The layout of a graph that may run some of its ops twice where that is faster than moving what they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from memplan.core.progress import Progress, silent
from memplan.graph import Graph
from memplan.graph.repeats import along_repeats
from memplan.hardware import HostTier
from memplan.placement.memory_layout import HbmRoom, MemoryLayout, lay_out_graph
from memplan.placement.recompute import recompute_choices
from memplan.placement.rounding import Rounding
from memplan.schema.storages import planned_tensors

_TRIED = 3
"""So many of the most promising choices are laid out to the last address; the graph as it is always is."""


class RecomputePolicy(str, Enum):
    """Whether a plan may run ops twice: `auto` where it makes the step shorter, `never`."""

    AUTO = "auto"
    NEVER = "never"


def lay_out_recomputed(
    graph: Graph,
    durations_ns: Sequence[int],
    allowed: Sequence[bool],
    room: HbmRoom,
    round_size: Rounding,
    *,
    host: HostTier,
    progress: Progress = silent,
) -> tuple[Graph, MemoryLayout]:
    """
    The graph to run, which is `graph` with some ops run again or none, and its layout.

    `durations_ns` are those of the ops of `graph`; `allowed` says which of them may run twice.
    """

    def placed(which: Graph) -> MemoryLayout:
        return lay_out_graph(
            which,
            planned_tensors(which),
            along_repeats(which, durations_ns),
            room,
            round_size,
            host=host,
            progress=progress,
        )

    if room.capacity is None or not any(allowed):
        return graph, placed(graph)
    found = recompute_choices(graph, durations_ns, allowed, room.capacity, round_size, host=host)
    if not found.choices:
        return graph, placed(graph)
    best = found.choices[0].graph, placed(found.choices[0].graph)
    for number, choice in enumerate(found.choices[1:], 1):
        if not best[1].missing and best[1].schedule.makespan_ns <= choice.least_ns:
            break
        if number < _TRIED or choice.graph is graph:
            layout = placed(choice.graph)
            if _rank(layout) < _rank(best[1]):
                best = choice.graph, layout
    which, layout = best
    bound = None if found.bound is None else min(found.bound.makespan_ns, layout.schedule.makespan_ns)
    return which, replace(layout, bound_ns=bound)


def _rank(layout: MemoryLayout) -> tuple[int, int, int]:
    return layout.missing, layout.schedule.makespan_ns, len(layout.schedule.moves)
