"""
The layout with the shortest step: which graph to run, with some ops run again or none, and what moves in it.

A layout for less HBM is one for more as well. Budgets of small graphs are therefore taken from a ladder that depends
on the graph alone, and what fits the rungs below is found as long as their bounds say that it could be faster, so that
more HBM makes no step longer. Of larger graphs a budget is taken as it is, and the ladder below it has wider rungs, of
which as many are looked at as a limit of work allows, and those get addresses whose moves alone are faster; of the
largest none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from memplan.graph import Graph
from memplan.hardware import HostTier
from memplan.placement.host import HostMoves, choose_moves
from memplan.placement.memory_layout import HbmRoom, MemoryLayout
from memplan.placement.recompute import RecomputeChoice, RecomputeSearch
from memplan.placement.rounding import Rounding

_RUNGS = 240
"""Rungs of the ladder up to what the graph takes without moves."""
_LOWER_WORK = 1000
"""Ops in all graphs that are laid out for lower rungs."""
_MOST_LOWER = 2
"""Rungs below a budget that are looked at at most."""
_WIDE_RUNGS, _WIDE_WORK, _MOST_WIDE, _RECOMPUTE_WORK = 20, 24_000, 8, 6
"""The same of larger graphs, whose ops count so many times where some may run again."""
_MOST_SCORED = 3
"""So many of the most promising choices get their moves chosen; the graph as it is does in any case."""

_SPARE = (0.99, 0.97, 0.92)
"""Parts of the room that are planned with where bytes fit in all of it but find no addresses."""

Place = Callable[[Graph, HbmRoom, HostMoves | None], MemoryLayout]
"""Lays out a graph in a room, with the moves where they are chosen already."""


@dataclass(frozen=True, slots=True)
class PlacedGraph:
    """A graph to run and its layout."""

    graph: Graph
    layout: MemoryLayout

    @property
    def rank(self) -> tuple[int, int, int]:
        """What is better comes first: what fits, then what is fast, then what moves little."""
        return self.layout.missing, self.layout.schedule.makespan_ns, len(self.layout.schedule.moves)


def shortest_layout(
    graph: Graph,
    durations_ns: Sequence[int],
    allowed: Sequence[bool],
    room: HbmRoom,
    round_size: Rounding,
    *,
    host: HostTier,
    place: Place,
) -> PlacedGraph:
    """
    The graph to run, which is `graph` with some ops run again or none, and its layout in `room`.

    `durations_ns` are those of the ops of `graph`; `allowed` says which of them may run twice.
    """

    def search(capacity: int) -> RecomputeSearch:
        return RecomputeSearch(graph, durations_ns, allowed, capacity, round_size, host)

    whole = search(2**62 if room.capacity is None else room.capacity)
    if room.capacity is None or whole.peak <= room.capacity:
        layout = place(graph, room, None)
        if room.capacity is None or (not layout.missing and not layout.schedule.moves):
            return PlacedGraph(graph, layout)
    best: PlacedGraph | None = None
    unfit: PlacedGraph | None = None
    weight = _RECOMPUTE_WORK if whole.targets else 1
    for budget in _rungs(room.capacity, whole.peak, len(graph.ops), weight):
        at = whole if budget == room.capacity else search(budget)
        if best is not None and at.bound_ns >= best.layout.schedule.makespan_ns:
            break
        # Of small graphs every rung below gets addresses, of larger ones those whose moves alone are faster.
        known = None if best is None or len(graph.ops) <= _LOWER_WORK else best.layout.schedule.makespan_ns
        found = _placed(at, replace(room, capacity=budget), place, known)
        if found is None:
            continue
        if found.layout.missing:
            unfit = unfit or (found if budget == room.capacity else None)
            if not at.bytes_fit:
                break
            continue  # found no addresses: what fits in less room has some
        if best is None or found.rank < best.rank:
            best = found
    if best is None:
        best = unfit or _placed(whole, room, place) or PlacedGraph(graph, place(graph, room, None))
        for part in _SPARE if whole.bytes_fit else ():
            budget = int(room.capacity * part)
            roomy = _placed(search(budget), replace(room, capacity=budget), place)
            if roomy is not None and not roomy.layout.missing:
                best = roomy
                break
    bound = None if best.layout.missing else min(whole.bound_ns, best.layout.schedule.makespan_ns)
    return PlacedGraph(best.graph, replace(best.layout, room=room, bound_ns=bound))


def _rungs(capacity: int, peak: int, steps: int, weight: int) -> list[int]:
    """Budgets to look at, the largest first: `capacity`, or the rung of the ladder below it, and further ones below."""
    lower = min(_LOWER_WORK // max(steps, 1), _MOST_LOWER)
    if not peak:
        return [capacity]
    if lower:
        # What a share of the peak comes to may be a byte less than the rung.
        top = min((capacity + 1) * _RUNGS // peak, _RUNGS)
        return [min(peak * number // _RUNGS, capacity) for number in range(top, max(top - lower, 1) - 1, -1)]
    lower = min(_WIDE_WORK // (steps * weight), _MOST_WIDE)
    below = (min(capacity, peak) - 1) * _WIDE_RUNGS // peak
    return [capacity, *(peak * number // _WIDE_RUNGS for number in range(below, max(below - lower, 0), -1))]


def _placed(search: RecomputeSearch, room: HbmRoom, place: Place, least_ns: int | None = None) -> PlacedGraph | None:
    """
    The best of the search's choices with addresses, which take no time off what moves alone need.

    `None` where each takes as long as `least_ns` without: what is known already is no worse then.
    """
    scored: list[tuple[tuple[bool, int], RecomputeChoice, HostMoves]] = []
    for number, choice in enumerate(search.choices()):
        if scored and not scored[0][0][0] and choice.least_ns >= scored[0][0][1]:
            break
        if least_ns is not None and choice.least_ns >= least_ns:
            break
        if number < _MOST_SCORED or choice.graph is search.graph:
            choice = search.guided(choice)
            moves = choose_moves(choice.problem, search.capacity, choice.bound)
            scored.append(((moves.over > 0, moves.makespan_ns), choice, moves))
            scored.sort(key=lambda item: item[0])
    if least_ns is not None:
        scored = [item for item in scored if not item[0][0] and item[0][1] < least_ns]
        if not scored:
            return None
    best: PlacedGraph | None = None
    for score, choice, moves in scored:
        if best is not None and not best.layout.missing and best.layout.schedule.makespan_ns <= score[1]:
            break
        found = PlacedGraph(choice.graph, place(choice.graph, room, moves))
        if best is None or found.rank < best.rank:
            best = found
    return best or PlacedGraph(search.graph, place(search.graph, room, None))
