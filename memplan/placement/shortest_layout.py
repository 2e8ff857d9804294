"""
The layout with the shortest step: which graph to run, with some ops run again or none, and what moves in it.

A layout for less HBM is one for more as well. Budgets are therefore taken from a ladder that depends on the graph
alone, and what fits the rungs below is found as long as their bounds say that it could be faster and a limit of work
allows, so that more HBM makes no step longer. Small graphs have narrow rungs, and after the nearest ones those of a
ladder of wide ones are looked at; larger graphs have one ladder, narrow where a little HBM is worth much time, and only
those of its rungs get addresses whose moves alone are faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from memplan.core.progress import CHOOSING_MOVES, Progress, silent
from memplan.graph import Graph
from memplan.graph.saved import SavedTensors
from memplan.hardware import HostTier
from memplan.placement.host import HostMoves, choose_moves
from memplan.placement.memory_layout import HbmRoom, MemoryLayout
from memplan.placement.move_bound import move_bound
from memplan.placement.recompute import RecomputeChoice, RecomputeSearch
from memplan.placement.rounding import Rounding
from memplan.placement.schedule import transfer_ns

_NARROW, _MIDDLE, _WIDE = 240, 60, 20
"""Rungs of the ladders up to what the graph takes without moves."""
_STEEP = 8
"""Where moving all that HBM holds takes so many times what the ops take, rungs are narrow."""
_SMALL, _NEAREST = 1000, 2
"""Ops of a small graph, and of all graphs that are laid out for the narrow rungs just below; how many at most."""
_WORK, _MOST_LOWER, _RECOMPUTE_WORK = 24_000, 8, 6
"""Ops of all graphs for further rungs, and how many of those; ops count so many times where some may run again."""
_FEW_ROWS = 60
"""Steps with rows in the linear program of the first layout, where no better one is looked for."""
_MOST_SCORED = 3
"""So many of the most promising choices get their moves chosen; the graph as it is does in any case."""

_SPARE = (0.99, 0.97, 0.92)
"""Parts of the room that are planned with where bytes fit in all of it but find no addresses."""

Place = Callable[[Graph, HbmRoom, HostMoves | None, int | None], MemoryLayout]
"""Lays out a graph in a room, with the moves where they are chosen already, and the step to better if one is known."""


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
    quick: bool = False,
    saved: SavedTensors | None = None,
    progress: Progress = silent,
) -> PlacedGraph:
    """
    The graph to run, which is `graph` with some ops run again or none, and its layout in `room`.

    `durations_ns` are those of the ops of `graph`; `allowed` says which of them may run twice. With `quick` the first
    layout that fits is taken; with `saved` nothing else moves, as `place` has it too.
    """

    def search(capacity: int) -> RecomputeSearch:
        progress(0, len(graph.ops), CHOOSING_MOVES)
        return whole.within(capacity)

    progress(0, len(graph.ops), CHOOSING_MOVES)
    limit = 2**62 if room.capacity is None else room.capacity
    whole = RecomputeSearch(graph, durations_ns, allowed, limit, round_size, host, saved)
    if room.capacity is None or whole.peak <= room.capacity:
        layout = place(graph, room, None, None)
        if room.capacity is None or (not layout.missing and not layout.schedule.moves):
            return PlacedGraph(graph, layout)
    if quick and (first := _first(whole, room, place)) is not None:
        return first
    best: PlacedGraph | None = None
    unfit: PlacedGraph | None = None
    for budget in _rungs(room.capacity, whole):
        at = whole if budget == room.capacity else search(budget)
        if best is not None and at.bound_ns >= best.layout.schedule.makespan_ns:
            break
        # Of small graphs every rung below gets addresses, of larger ones those whose moves alone are faster.
        known = None if best is None or len(graph.ops) <= _SMALL else best.layout.schedule.makespan_ns
        found = _placed(at, replace(room, capacity=budget), place, progress, known)
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
        best = unfit or _placed(whole, room, place, progress) or PlacedGraph(graph, place(graph, room, None, None))
        for part in _SPARE if whole.bytes_fit else ():
            budget = int(room.capacity * part)
            roomy = _placed(search(budget), replace(room, capacity=budget), place, progress)
            if roomy is not None and not roomy.layout.missing:
                best = roomy
                break
    makespan = best.layout.schedule.makespan_ns
    bound = None if best.layout.missing else min(whole.tightened_ns(makespan), makespan)
    return PlacedGraph(best.graph, replace(best.layout, room=room, bound_ns=bound))


def _first(whole: RecomputeSearch, room: HbmRoom, place: Place) -> PlacedGraph | None:
    """The graph as it is, with the moves that a program of few rows guides to; `None` where those don't fit."""
    bound = move_bound(whole.base, whole.capacity, rows=_FEW_ROWS, exact=False)
    if bound is None:
        return None
    layout = place(whole.graph, room, choose_moves(whole.base, whole.capacity, bound), None)
    return None if layout.missing else PlacedGraph(whole.graph, replace(layout, room=room, bound_ns=bound.makespan_ns))


def _rungs(capacity: int, whole: RecomputeSearch) -> list[int]:
    """Budgets to look at, the largest first: the rung of the ladder at or below `capacity`, and further ones below."""
    peak, steps = whole.peak, max(whole.base.steps, 1)
    if not peak:
        return [capacity]
    lower = min(_WORK // (steps * (_RECOMPUTE_WORK if whole.targets else 1)), _MOST_LOWER)
    steep = transfer_ns(peak, whole.host.joined.in_link) > _STEEP * int(whole.base.durations.sum())
    rungs = _NARROW if steep or steps <= _SMALL else _MIDDLE
    # What a share of the peak comes to may be a byte less than the rung.
    top = max(min((capacity + 1) * rungs // peak, rungs), 1)
    near = min(_SMALL // steps, _NEAREST) if steps <= _SMALL else lower
    found = [min(peak * number // rungs, capacity) for number in range(top, max(top - near, 1) - 1, -1)]
    if steps <= _SMALL:
        below = (found[-1] - 1) * _WIDE // peak
        found += [peak * number // _WIDE for number in range(below, max(below - lower, 0), -1)]
    return found


def _promising(search: RecomputeSearch, least_ns: int | None, progress: Progress) -> list[RecomputeChoice]:
    """
    The most promising choices that could be faster than `least_ns`, the fastest of which nothing has to move, and the
    graph as it is.
    """
    found: list[RecomputeChoice] = []
    for number, choice in enumerate(search.choices()):
        progress(0, len(search.graph.ops), CHOOSING_MOVES)
        if least_ns is not None and choice.least_ns >= least_ns:
            break
        still = choice.bound is None and all(other.bound is not None for other in found)
        if number < _MOST_SCORED or choice.graph is search.graph or still:
            found.append(choice)
    return found


def _guided(
    search: RecomputeSearch, choices: Sequence[RecomputeChoice], progress: Progress
) -> Iterator[RecomputeChoice]:
    """`choices` with the bounds that guide their moves, the best first, each asked for when no other can be better."""
    waiting = [(choice.least_ns, number, False, choice) for number, choice in enumerate(choices)]
    heapify(waiting)
    while waiting:
        _, number, known, choice = heappop(waiting)
        if known:
            yield choice
            continue
        progress(0, len(search.graph.ops), CHOOSING_MOVES)
        guided = search.guided(choice)
        heappush(waiting, (guided.least_ns, number, True, guided))


def _placed(
    search: RecomputeSearch, room: HbmRoom, place: Place, progress: Progress, least_ns: int | None = None
) -> PlacedGraph | None:
    """
    The best of the search's choices with addresses, which take no time off what moves alone need.

    `None` where each takes as long as `least_ns` without: what is known already is no worse then.
    """
    scored: list[tuple[tuple[bool, int], RecomputeChoice, HostMoves]] = []
    choices = _promising(search, least_ns, progress)
    for choice in _guided(search, choices, progress):
        if scored and not scored[0][0][0] and choice.least_ns >= scored[0][0][1]:
            break
        progress(0, len(search.graph.ops), CHOOSING_MOVES)
        moves = choose_moves(choice.problem, search.capacity, choice.bound)
        scored.append(((moves.over > 0, moves.makespan_ns), choice, moves))
        scored.sort(key=lambda item: item[0])
    if least_ns is not None:
        scored = [item for item in scored if not item[0][0] and item[0][1] < least_ns]
        if not scored:
            return None
    best: PlacedGraph | None = None
    for score, choice, moves in scored:
        known = least_ns if best is None or best.layout.missing else best.layout.schedule.makespan_ns
        if known is not None and known <= score[1]:
            break
        found = PlacedGraph(choice.graph, place(choice.graph, room, moves, known))
        if best is None or found.rank < best.rank:
            best = found
    return best or PlacedGraph(search.graph, place(search.graph, room, None, None))
