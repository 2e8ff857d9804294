"""
Which tensors to compute anew rather than keep or move, decided together with the moves.

A linear program over both says how much of what to make anew; layers of a kind are decided together, those first whose
tensors wait longest. Every choice is a graph in which ops run more than once (`memplan.graph.repeats`), scored like the
graph itself: by the bound of what moves would cost it, then by the schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from math import ceil

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.graph import Graph
from memplan.graph.repeats import RepeatRules, along_repeats, repeated_ops, with_repeats
from memplan.graph.saved import SavedTensors
from memplan.hardware import HostTier
from memplan.placement.memory_layout import storages_of
from memplan.placement.move_bound import MOST_LP_ROWS, MoveBound, move_bound
from memplan.placement.move_problem import MoveProblem, move_problem
from memplan.placement.move_program.move_rows import RecomputeColumns
from memplan.placement.recompute_options import (
    RecomputeOption,
    RecomputeTarget,
    recompute_options,
    recompute_targets,
)
from memplan.placement.residency import Storage, live_bytes, stays
from memplan.placement.rounding import Rounding
from memplan.placement.whole_moves import LARGEST_CASE, SMALL_CASE, whole_bound
from memplan.schema.storages import planned_tensors

_ROUNDINGS = ((0.0, 1.0), (0.05, 1.0), (0.0, 1.6))
"""Shares of the room left free in the linear program, and parts of what it makes anew, that are tried."""
_ROWS, _QUICK_ROWS = 200, 100
"""Steps with rows in the linear programs over both, and in those that compare choices."""
_SMALL, _LARGE = 1000, 5000
"""Up to so many units all programs are solved unit by unit; with more than that no program gets more rows later on."""
_CHEAPEST = (0.3, 0.6)
"""Parts of the bytes that are too many which the cheapest ops make anew, whatever the linear program says."""
_FULLER = (1.0, 0.97)
"""Parts of the room that what is kept may fill where nothing is to move."""
_KEPT = (0, 2, 3, 4)
"""Every so manieth layer of a kind is kept where nothing is to move, 0: none."""
_FEW_LAYERS = 16
"""Of so many layers that are made anew each is tried without."""
_NEAR = 1.05
"""A step time above its bound by no more than this is near it."""
_IMPOSSIBLE = 2**62


@dataclass(frozen=True, slots=True)
class RecomputeChoice:
    """
    A graph in which ops run again and what can move in it, with the bound on that (`None`: nothing has to move).

    No choice of moves makes it faster than `least_ns`; `rule` found it.
    """

    graph: Graph
    problem: MoveProblem
    bound: MoveBound | None
    least_ns: int
    rule: str


class RecomputeSearch:
    """
    Graphs that do what `graph` does with ops run again, for at most `capacity` bytes of HBM.

    `durations_ns` are those of its ops, `allowed` says which of them are known well enough to run twice. With
    `saved` nothing else moves.
    """

    def __init__(
        self,
        graph: Graph,
        durations_ns: Sequence[int],
        allowed: Sequence[bool],
        capacity: int,
        round_size: Rounding,
        host: HostTier,
        saved: SavedTensors | None = None,
    ) -> None:
        self.graph, self.durations = graph, np.asarray(durations_ns, dtype=np.int64)
        self.round_size, self.host, self.saved = round_size, host, saved
        self.base = self._problem(graph)
        self.rules = RepeatRules(graph, allowed)
        self._aim(capacity)

    def within(self, capacity: int) -> RecomputeSearch:
        """The search of the same graph for `capacity` bytes, which shares all that doesn't depend on them."""
        other = copy(self)
        other.__dict__.pop("bound", None)
        other._aim(capacity)
        return other

    def _aim(self, capacity: int) -> None:
        self.capacity = capacity
        over = self.base.live - capacity
        self.targets: tuple[RecomputeTarget, ...] = (
            recompute_targets(self.rules, self.base.storages, self.durations, over) if over.max(initial=0) > 0 else ()
        )
        self.options = recompute_options(self.rules, self.targets, self.durations)

    @property
    def peak(self) -> int:
        """Bytes at the fullest step of the graph as it is."""
        return int(self.base.live.max(initial=0))

    def _storages(self, graph: Graph) -> list[Storage]:
        return storages_of(graph, planned_tensors(graph), self.round_size, self.saved)

    def _problem(self, graph: Graph) -> MoveProblem:
        return move_problem(self._storages(graph), along_repeats(graph, self.durations.tolist()), self.host)

    @cached_property
    def bound(self) -> MoveBound | None:
        """The bound over all choices of what moves and what is made anew; `None` where nothing fits."""
        return self._bound(0.0)

    @property
    def bytes_fit(self) -> bool:
        """Whether some choice leaves no step with more bytes than the room, whether they find addresses or not."""
        return self.peak <= self.capacity or self.bound is not None

    @property
    def bound_ns(self) -> int:
        """No choice makes the step shorter."""
        compute = int(self.durations.sum())
        if self.peak <= self.capacity:
            return compute
        return _IMPOSSIBLE if self.bound is None else max(self.bound.makespan_ns, compute)

    def tightened_ns(self, found_ns: int) -> int:
        """
        The bound on any step time where one of `found_ns` was found: where that is above `bound_ns`, far above it in
        all but small cases, and nothing can be made anew, what tensors that move as a whole can reach is asked for too,
        and in large cases a program with more rows.
        """
        several = len(self.base.tiers) > 1
        if self.targets or self.bound is None or found_ns <= self.bound_ns or several:
            return self.bound_ns
        near = found_ns <= self.bound_ns * _NEAR
        if _SMALL < self.base.units <= _LARGE and not near:
            finer = move_bound(self.base, self.capacity, exact=False)
            return self.bound_ns if finer is None else max(self.bound_ns, finer.makespan_ns)
        cells = SMALL_CASE if near else LARGEST_CASE
        whole = whole_bound(self.base, self.capacity, cells=cells)
        return self.bound_ns if whole is None else max(self.bound_ns, whole.makespan_ns)

    def _bound(self, slack: float) -> MoveBound | None:
        columns = self._columns() if self.targets else None
        quick = self.base.units > _SMALL
        return move_bound(
            self.base, int(self.capacity * (1 - slack)), rows=_ROWS if quick else MOST_LP_ROWS, recompute=columns,
            exact=not slack and not quick, alike=quick and slack > 0,
        )  # fmt: skip

    def choices(self) -> list[RecomputeChoice]:
        """Every choice once, the most promising first; the graph as it is is one of them."""
        found = [self._choice(self.graph, self.base, "nothing is made anew")]
        seen: set[frozenset[int]] = {frozenset()}
        for rule, chosen in self._proposed():
            if chosen not in seen:
                seen.add(chosen)
                graph = self._graph(chosen)
                found.append(self._choice(graph, self._problem(graph), rule))
        return sorted(found, key=lambda choice: choice.least_ns)

    def _choice(self, graph: Graph, problem: MoveProblem, rule: str) -> RecomputeChoice:
        compute = int(problem.durations.sum())
        if int(problem.live.max(initial=0)) <= self.capacity:
            return RecomputeChoice(graph, problem, None, compute, rule)
        if not self.targets:
            bound = self.bound
        elif problem.units > _SMALL:
            bound = move_bound(problem, self.capacity, rows=_ROWS, exact=False, alike=True)
        elif graph is self.graph:
            bound = move_bound(problem, self.capacity)
        else:
            bound = move_bound(problem, self.capacity, rows=_QUICK_ROWS, exact=False)
        return RecomputeChoice(graph, problem, bound, _IMPOSSIBLE if bound is None else bound.makespan_ns, rule)

    def guided(self, choice: RecomputeChoice) -> RecomputeChoice:
        """`choice` with a bound that tells its units apart, for their choice; it is higher, if anything."""
        many = not self.targets and choice.problem.units > _LARGE
        if choice.bound is None or many or choice.problem.units <= _SMALL:
            return choice
        bound = move_bound(choice.problem, self.capacity, rows=_QUICK_ROWS if self.targets else MOST_LP_ROWS)
        if bound is None:
            return choice
        return replace(choice, bound=bound, least_ns=max(choice.least_ns, bound.makespan_ns))

    def _columns(self) -> RecomputeColumns:
        place = {
            (storage, end): row
            for row, (storage, end) in enumerate(
                zip(self.base.storage.tolist(), self.base.columns.end.tolist(), strict=True)
            )
        }
        number = {storage.tensor: index for index, storage in enumerate(self.base.storages)}

        def column(values: Iterable[int]) -> Int64s:
            return np.fromiter(values, dtype=np.int64, count=len(self.targets))

        return RecomputeColumns(
            column(target.gap[0] for target in self.targets),
            column(target.gap[1] for target in self.targets),
            column(target.size for target in self.targets),
            column(target.least_ns for target in self.targets),
            column(place.get((number[target.given_up.storage], target.given_up.before), -1) for target in self.targets),
        )

    def _graph(self, chosen: Iterable[int]) -> Graph:
        given_up = [
            self.targets[target].given_up for option in sorted(chosen) for target in self.options[option].targets
        ]
        return with_repeats(self.graph, repeated_ops(self.rules, given_up).repeats)

    def _proposed(self) -> Iterator[tuple[str, frozenset[int]]]:
        """Sets of options worth scoring."""
        if not self.targets:
            return
        kinds = _kinds(self.options, self._waits())
        for slack, part in _ROUNDINGS:
            bound = self._bound(slack) if slack else self.bound
            if bound is not None and bound.anew is not None:
                yield "linear program", self._rounded(kinds, bound.anew, part)
        yield from (("cheapest made anew", chosen) for chosen in self._cheapest(kinds))
        yield from (("only made anew", chosen) for chosen in self._without_moves(kinds))
        yield "all made anew", frozenset(range(len(self.options)))

    def _waits(self) -> Floats:
        """Bytes of each option times the time that they would be away."""
        elapsed = np.concatenate(([0], np.cumsum(self.durations)))
        return np.array([
            sum(
                target.size * float(elapsed[target.gap[1]] - elapsed[target.gap[0]])
                for target in (self.targets[index] for index in option.targets)
            )
            for option in self.options
        ])  # fmt: skip

    def _rounded(self, kinds: Mapping[str, Sequence[Sequence[int]]], anew: Floats, part: float) -> frozenset[int]:
        """Whole layers of each kind, as many as the program makes anew of it."""
        chosen: set[int] = set()
        for layers in kinds.values():
            wanted = sum(self._share(layer, anew) for layer in layers) * part
            for layer in layers[: ceil(wanted - 0.05)]:
                chosen.update(layer)
        return frozenset(chosen)

    def _share(self, layer: Sequence[int], anew: Floats) -> float:
        """How much of the bytes of the options of one layer the program makes anew."""
        targets = [target for option in layer for target in self.options[option].targets]
        sizes = np.array([self.targets[target].size for target in targets], dtype=np.float64)
        return float((sizes * anew[targets]).sum() / max(float(sizes.sum()), 1.0))

    def _by_price(self, kinds: Mapping[str, Sequence[Sequence[int]]]) -> list[Sequence[int]]:
        """Layers, the kinds first whose ops take least for what their bytes would wait."""
        waits = self._waits()

        def price(kind: str) -> float:
            members = [option for layer in kinds[kind] for option in layer]
            return sum(self.options[option].cost_ns for option in members) / max(float(waits[members].sum()), 1.0)

        return [layer for kind in sorted(kinds, key=price) for layer in kinds[kind]]

    def _cheapest(self, kinds: Mapping[str, Sequence[Sequence[int]]]) -> Iterator[frozenset[int]]:
        """The cheapest kinds until parts of what is over the room need not be kept, in case moves are not free."""
        order, over = self._by_price(kinds), self.peak - self.capacity
        saved = np.cumsum([sum(self.options[option].size for option in layer) for layer in order])
        for part in _CHEAPEST:
            count = int(np.searchsorted(saved, over * part)) + 1
            yield frozenset(option for layer in order[:count] for option in layer)

    def _without_moves(self, kinds: Mapping[str, Sequence[Sequence[int]]]) -> Iterator[frozenset[int]]:
        """
        The cheapest kinds first, layer by layer, until all fits. Where most are of no known layer, which would begin
        with what is kept, also with every second, third or fourth of a kind kept: a whole chain that is made anew takes
        as much as when it was kept.
        """
        chained = 2 * sum(option.layer < 0 for option in self.options) > len(self.options)
        for stride in _KEPT if chained else _KEPT[:1]:
            yield from self._fewest(self._by_price(_without_every(kinds, stride) if stride else kinds))

    def _fewest(self, order: Sequence[Sequence[int]]) -> Iterator[frozenset[int]]:
        """
        The options of as few of the first layers of `order` as fit, nothing where all of them do not; of few layers
        also without each that all fits without.
        """
        known: dict[frozenset[int], int] = {}

        def fits(layers: Sequence[Sequence[int]], room: float) -> bool:
            """Whether no step has more than `room` bytes with the options of `layers` made anew."""
            chosen = frozenset(chain.from_iterable(layers))
            if chosen not in known:
                graph = self._graph(chosen)
                storages = self._storages(graph)
                live = live_bytes(storages, stays(storages, ()), len(graph.ops))
                known[chosen] = int(live.max(initial=0))
            return known[chosen] <= room

        low = 1
        for part in _FULLER:
            room, high = self.capacity * part, len(order)
            if not order or not fits(order, room):
                return
            while low < high:
                middle = (low + high) // 2
                if fits(order[:middle], room):
                    high = middle
                else:
                    low = middle + 1
            kept = list(order[:high])
            for layer in order[:high] if high <= _FEW_LAYERS else ():
                less = [other for other in kept if other is not layer]
                if fits(less, room):
                    kept = less
            yield frozenset(chain.from_iterable(kept))


def _without_every(kinds: Mapping[str, Sequence[Sequence[int]]], stride: int) -> dict[str, Sequence[Sequence[int]]]:
    """`kinds` without every `stride`-th of their layers, in the order in which they are needed again."""
    left = {kind: {min(layer) for layer in sorted(layers, key=min)[::stride]} for kind, layers in kinds.items()}
    return {kind: [layer for layer in layers if min(layer) not in left[kind]] for kind, layers in kinds.items()}


def _kinds(options: Sequence[RecomputeOption], waits: Floats) -> dict[str, list[list[int]]]:
    """Options by kind and layer, the layers whose bytes wait longest first; what is of no layer is one for itself."""
    layers: dict[str, dict[int, list[int]]] = {}
    for index, option in enumerate(options):
        layers.setdefault(option.kind, {}).setdefault(option.layer if option.layer >= 0 else ~index, []).append(index)
    return {
        kind: sorted(found.values(), key=lambda members: -float(waits[members].sum())) for kind, found in layers.items()
    }
