"""
Checks a placement against its problem, sharing no code with the solver.

It works on buffers as they were given: a sweep over time keeps the buffers alive in address order, and a buffer that
comes alive must fit between its neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from memplan.placement.offsets.problem import Assignment, Buffer, Problem


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a placement breaks, the buffers that break it, and how."""

    rule: str
    buffers: tuple[int, ...]
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: buffers {', '.join(map(str, self.buffers)) or '-'}: {self.detail}"


def validate(problem: Problem, assignment: Assignment) -> tuple[Violation, ...]:
    """
    Every rule of `problem` that `assignment` breaks, and every figure it states wrongly; empty when it is valid.

    Exceeding a capacity is a violation unless `assignment.within_capacity` admits it.
    """
    placed = assignment.placed
    missing = tuple(b.id for b in problem.buffers if b.id not in placed)
    if missing:
        return (Violation("complete", missing, "not placed"),)
    out: list[Violation] = []
    out += _alone(problem, assignment)
    out += _ties(problem, assignment)
    out += _conflicts(problem, assignment)
    out += _figures(problem, assignment)
    return tuple(out)


def _alone(problem: Problem, assignment: Assignment) -> Iterable[Violation]:
    """Rules about one buffer at a time."""
    pools = {pool.id: pool for pool in problem.pools}
    for b in problem.buffers:
        pool, offset = assignment.placed[b.id]
        if pool not in b.pools or pool not in pools:
            yield Violation("pools", (b.id,), f"placed in pool {pool}")
            continue
        if offset < 0 or offset % b.alignment:
            yield Violation("alignment", (b.id,), f"offset {offset} for alignment {b.alignment}")
        if b.pin is not None and (pool, offset) != tuple(b.pin):
            yield Violation("pin", (b.id,), f"placed at {(pool, offset)}, pinned to {b.pin}")
        capacity = pools[pool].capacity
        if capacity is not None and offset + b.size > capacity and assignment.within_capacity:
            yield Violation("capacity", (b.id,), f"ends at {offset + b.size} of {capacity}")
        for start, end in pools[pool].reserved:
            if b.size and max(start, offset) < min(end, offset + b.size):
                yield Violation("reserved", (b.id,), f"[{offset}, {offset + b.size}) meets [{start}, {end})")


def _ties(problem: Problem, assignment: Assignment) -> Iterable[Violation]:
    """Rules about groups and pairs that hold whatever the lifetimes."""
    placed = assignment.placed
    size = {b.id: b.size for b in problem.buffers}
    for group in problem.colocations:
        if len({tuple(placed[i]) for i in group}) > 1:
            yield Violation("colocation", group, "differ in pool or offset")
    for group in problem.contiguous:
        for left, right in pairwise(group):
            if placed[right] != (placed[left][0], placed[left][1] + size[left]):
                yield Violation("contiguous", (left, right), "not end to end")
    apart = [("separation", problem.separations)]
    if problem.conflicts is not None:
        aliases = _alias_groups(problem)
        listed = ((a, b) for a, b in problem.conflicts if aliases[a] != aliases[b])
        apart.append(("conflict", tuple(listed)))
    for rule, pairs in apart:
        for a, b in pairs:
            if _share(placed, size, a, b):
                yield Violation(rule, (a, b), f"both use address {max(placed[a][1], placed[b][1])}")


def _share(placed: Mapping[int, tuple[int, int]], size: Mapping[int, int], a: int, b: int) -> bool:
    (pool_a, low_a), (pool_b, low_b) = placed[a], placed[b]
    return bool(pool_a == pool_b and low_a < low_b + size[b] and low_b < low_a + size[a] and size[a] and size[b])


def _alias_groups(problem: Problem) -> dict[int, int]:
    """Smallest id that each buffer is tied to, directly or not, by colocations and contiguous groups."""
    group = {b.id: b.id for b in problem.buffers}
    members = {b.id: [b.id] for b in problem.buffers}
    for ids in (*problem.colocations, *problem.contiguous):
        for other in ids[1:]:
            a, b = group[ids[0]], group[other]
            if a != b:
                keep, drop = min(a, b), max(a, b)
                for i in members[drop]:
                    group[i] = keep
                members[keep] += members.pop(drop)
    return group


def _conflicts(problem: Problem, assignment: Assignment) -> Iterable[Violation]:
    """Buffers alive together in one pool at one address, found by a sweep over time."""
    if problem.conflicts is not None:
        return
    group = _alias_groups(problem)
    tied_sets = len(set(group.values())) < len(group)
    excluded = {frozenset(pair) for pair in problem.exclusions}
    events: list[tuple[int, int, int]] = []
    for number, b in enumerate(problem.buffers):
        for start, end in _merged(b):
            events += [(start, 1, number), (end, 0, number)]
    events.sort()
    alive: dict[int, list[tuple[int, int, int]]] = {pool.id: [] for pool in problem.pools}
    # Only buffers that are tied or excluded may lie on others that are alive: how far left of one such may begin.
    loose = {i for pair in excluded for i in pair}
    loose |= {i for ids in (*problem.colocations, *problem.contiguous) for i in ids} if tied_sets else set()
    longest = max((b.size for b in problem.buffers if b.id in loose), default=0)
    for _, opens, number in events:
        b = problem.buffers[number]
        pool, low = assignment.placed[b.id]
        entry = (low, low + b.size, number)
        row = alive.setdefault(pool, [])
        if not opens:
            at = bisect_left(row, entry)
            if at < len(row) and row[at] == entry:
                del row[at]
            continue
        at = bisect_left(row, entry)
        # What is alive is disjoint, so only neighbours can meet it; aliases may lie on each other, so look further.
        right = at
        while right < len(row) and row[right][0] < entry[1]:
            yield from _meet(problem, group, excluded, number, row[right][2])
            right += 1
        left = at - 1
        while left >= 0 and row[left][0] > low - max(longest, row[left][1] - row[left][0]):
            if row[left][1] > low:
                yield from _meet(problem, group, excluded, number, row[left][2])
            if not longest:
                break
            left -= 1
        insort(row, entry)


def _meet(
    problem: Problem, group: dict[int, int], excluded: set[frozenset[int]], first: int, second: int
) -> Iterable[Violation]:
    a, b = problem.buffers[first].id, problem.buffers[second].id
    if group[a] != group[b] and frozenset((a, b)) not in excluded:
        yield Violation("overlap", (a, b), "share an address while both are alive")


def _merged(b: Buffer) -> list[tuple[int, int]]:
    """Intervals of `b` as disjoint spans; none for a buffer without bytes."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted(b.intervals):
        if start >= end or not b.size:
            continue
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _figures(problem: Problem, assignment: Assignment) -> Iterable[Violation]:
    """What the assignment says of itself: peaks, bounds, shortfall and reuse cost."""
    placed = assignment.placed
    size = {b.id: b.size for b in problem.buffers}
    peak = {pool.id: 0 for pool in problem.pools}
    for i, (pool, offset) in placed.items():
        peak[pool] = max(peak.get(pool, 0), offset + size[i])
    if {result.pool: result.peak for result in assignment.pools} != peak:
        yield Violation("peak", (), f"stated {[r.peak for r in assignment.pools]}, found {list(peak.values())}")
    for result in assignment.pools:
        if result.lower_bound > result.peak:
            yield Violation("bound", (), f"pool {result.pool}: bound {result.lower_bound} over peak {result.peak}")
    over = [peak[p.id] - p.capacity for p in problem.pools if p.capacity is not None and peak[p.id] > p.capacity]
    if assignment.within_capacity == bool(over) or assignment.shortfall != sum(over):
        yield Violation("shortfall", (), f"stated {assignment.shortfall}, found {sum(over)}")
    spans = {b.id: _merged(b) for b in problem.buffers} if problem.reuse_penalties else {}
    listed = {frozenset(pair) for pair in problem.conflicts or ()}
    excluded = {frozenset(pair) for pair in problem.exclusions}
    cost = 0
    for (a, b), weight in problem.reuse_penalties.items():
        if problem.conflicts is not None:
            together = frozenset((a, b)) in listed
        else:
            together = frozenset((a, b)) not in excluded and any(
                s < other_e and other_s < e for s, e in spans[a] for other_s, other_e in spans[b]
            )
        if not together and _share(placed, size, a, b):
            cost += weight
    if cost != assignment.reuse_cost or assignment.reuse_cost_bound > cost:
        yield Violation("reuse cost", (), f"stated {assignment.reuse_cost}, found {cost}")
