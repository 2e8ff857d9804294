"""
Branches of a layer that need nothing of one another, and the order in which a run takes them.

A shared expert beside the routed ones, attention beside a feed-forward part: a plan has them in one order, a run may
have the other, and on the way back the reverse; engines also run one where the other waits for other ranks. The order
under which a run is likelier is the run's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from memplan.align.classes.op_families import families_of, family_table
from memplan.schema import Plan, PlannedOp

_LEAST_HEAVY = 2
"""Products and attentions from which a stretch of ops counts as a branch: the two gradients of one product are none."""
_Kind = tuple[str | None, str, str]
"""The phase of two branches, and the parts that each begins with."""


def branches_as_run(plan: Plan, ops: Sequence[int], likely: Callable[[Sequence[int]], float]) -> Sequence[int]:
    """`ops` with those kinds of branches in that order under which the run is likelier, by `likely`."""
    kinds = _kinds(plan, ops)
    if not kinds:
        return ops
    best, most = ops, likely(ops)
    for places in kinds.values():
        planned = best
        for orders in _orders(plan, planned, places):
            turned = _ordered(planned, orders)
            found = likely(turned)
            if found > most:
                best, most = turned, found
    return best


def _orders(
    plan: Plan, ops: Sequence[int], places: Sequence[tuple[int, int, int]]
) -> Iterator[list[tuple[int, int, int]]]:
    """
    Other orders of two branches, at all of their `places` alike: what from `begin` to `middle` runs behind what is from
    there to `end`, which is the whole of both, or one of them up to where the other goes to other ranks or is back.
    """
    yield [(begin, middle, end) for begin, middle, end in places]
    exchanges = family_table().collectives - family_table().apart

    def within(begin: int, end: int) -> list[int]:
        mine = range(begin + 1, end)
        found = [place for place in mine if families_of(plan.ops[ops[place]].type)[0] in exchanges]
        return sorted({side for place in found for side in (place, place + 1) if side < end})

    for inner in (0, 1):
        stops = [within(*((middle, end) if inner else (begin, middle))) for begin, middle, end in places]
        for number in range(min(map(len, stops))):
            yield [
                (place[0], place[1], stop[number]) if inner else (stop[number], place[1], place[2])
                for place, stop in zip(places, stops, strict=True)
            ]


def _ordered(ops: Sequence[int], orders: Sequence[tuple[int, int, int]]) -> list[int]:
    """`ops` with what is from `begin` to `middle` behind what is from there to `end`."""
    found = list(ops)
    for begin, middle, end in orders:
        found[begin:end] = [*ops[middle:end], *ops[begin:middle]]
    return found


def _kinds(plan: Plan, ops: Sequence[int]) -> Mapping[_Kind, list[tuple[int, int, int]]]:
    """Where the branches of each kind begin, meet and end."""
    found: dict[_Kind, list[tuple[int, int, int]]] = {}
    # Layers of one phase that have the same parts in the same order are alike.
    known: dict[tuple[str | None, tuple[str | None, ...]], list[tuple[int, int, int]]] = {}
    place = 0
    for (phase, _, layer), group in groupby((plan.ops[index] for index in ops), _block):
        members = list(group)
        key = phase, tuple(op.part for op in members)
        if layer is not None:
            if key not in known:
                known[key] = list(branches(members))
            for begin, middle, end in known[key]:
                kind = phase, members[begin].part or "", members[middle].part or ""
                found.setdefault(kind, []).append((place + begin, place + middle, place + end))
        place += len(members)
    return found


def _block(op: PlannedOp) -> tuple[str | None, int | None, int | None]:
    return op.phase, op.micro_batch, op.layer


def branches(members: Sequence[PlannedOp]) -> Iterator[tuple[int, int, int]]:
    """Pairs of branches that follow one another among the ops of a layer, none over another: the longest ones."""
    found = []
    for middle in range(1, len(members)):
        begin = _begin(members, middle)
        end = _end(members, begin, middle)
        if min(_heavy(members[begin:middle]), _heavy(members[middle:end])) >= _LEAST_HEAVY:
            found.append((begin, middle, end))
    taken: set[int] = set()
    for begin, middle, end in sorted(found, key=lambda pair: (pair[0] - pair[2], pair[0])):
        if taken.isdisjoint(range(begin, end)):
            taken.update(range(begin, end))
            yield begin, middle, end


def _begin(members: Sequence[PlannedOp], middle: int) -> int:
    """Where the branch begins that ends before `middle`, which reads nothing of it."""
    wanted = set(members[middle].reads or ())
    begin = middle
    while begin > 0 and wanted.isdisjoint(members[begin - 1].writes or ()):
        begin -= 1
    # A branch hangs together: what begins it is read, in the end, by all that follows.
    while begin < middle and _end(members, begin, begin) < middle:
        begin += 1
    return begin


def _end(members: Sequence[PlannedOp], begin: int, middle: int) -> int:
    """Where what begins at `middle` ends: the first op that reads nothing with it, or something from `begin` on."""
    apart = {tensor for op in members[begin:middle] for tensor in op.writes or ()}
    mine: set[int] = set()
    for end in range(middle, len(members)):
        reads = set(members[end].reads or ())
        if not reads.isdisjoint(apart) or (end > middle and reads.isdisjoint(mine)):
            return end
        mine |= reads | set(members[end].writes or ())
    return len(members)


def _heavy(members: Sequence[PlannedOp]) -> int:
    return sum(families_of(op.type)[0] in family_table().heavy for op in members)
