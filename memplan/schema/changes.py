"""What differs between two plans: what they were made for, memory, tensors, ops and moves."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from memplan.schema.peak import plan_peak
from memplan.schema.plan import Placement, Plan, PlannedOp, PlannedTensor, TierUse, Transfer
from memplan.schema.same_items import same_items
from memplan.schema.tier import Tier

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class TermChange:
    """One thing that a plan was made of or for, as text; `None` where a plan doesn't have it."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class TierChange:
    """One tier in both plans, bytes; `None` where a plan says nothing of it."""

    tier: str
    before_peak: int | None
    after_peak: int | None
    before_lower_bound: int | None
    after_lower_bound: int | None
    before_capacity: int | None
    after_capacity: int | None


@dataclass(frozen=True, slots=True)
class PeakKindChange:
    """Bytes that tensors of one kind hold at the fullest step of HBM of either plan."""

    kind: str
    before_bytes: int
    after_bytes: int


@dataclass(frozen=True, slots=True)
class TensorChange:
    """
    One tensor that differs, and how: it `came`, `went`, `grew` or `shrank`, has another `form` (shape, dtype or layout
    of the same bytes), lies in other `tiers`, or at another `address` in them. Bytes are `None` where it is not there.
    """

    name: str
    kind: str
    change: str
    before_bytes: int | None
    after_bytes: int | None
    before_place: str
    after_place: str


@dataclass(frozen=True, slots=True)
class OpChange:
    """One op whose predicted time differs, in nanoseconds; `None` where it is not there."""

    name: str
    type: str
    before_ns: int | None
    after_ns: int | None


@dataclass(frozen=True, slots=True)
class MoveChange:
    """Moves of one tensor between two tiers that differ: bytes in all, and when the first starts (`None`: no move)."""

    tensor: str
    source: str
    target: str
    before_bytes: int
    after_bytes: int
    before_start_ns: int | None
    after_start_ns: int | None


@dataclass(frozen=True, slots=True)
class PlanChange:
    """
    What differs between two plans; all sequences are empty for equal plans, except `peak_kinds`, which add up.

    Ops and tensors are the same as `same_items` finds them: by name, and in order where numbers in names shifted. Times
    are nanoseconds and `None` where a plan is not timed; then ops and starts of moves are not held against each other.
    Largest changes come first. `reordered` is whether ops of both run in another order.

    `equal` is whether the plans are, in everything: they may also differ in what is not listed, such as lifetimes.
    """

    equal: bool
    reordered: bool

    before_makespan_ns: int | None
    after_makespan_ns: int | None
    before_stalled_ns: int | None
    after_stalled_ns: int | None
    before_peak: int | None
    after_peak: int | None
    shared_ops: int
    shared_tensors: int
    terms: Sequence[TermChange]
    tiers: Sequence[TierChange]
    peak_kinds: Sequence[PeakKindChange]
    tensors: Sequence[TensorChange]
    ops: Sequence[OpChange]
    moves: Sequence[MoveChange]

    @property
    def differs(self) -> bool:
        """Whether anything listed does."""
        times = (self.before_makespan_ns, self.before_stalled_ns) != (self.after_makespan_ns, self.after_stalled_ns)
        return times or self.reordered or any((self.terms, self.tiers, self.tensors, self.ops, self.moves))


def plan_change(before: Plan, after: Plan) -> PlanChange:
    """What differs between the plans `before` and `after`."""
    timed = before.timed and after.timed
    ops = same_items(before.ops, after.ops, _name, lambda op: (op.type, op.flops, op.gm_bytes))
    tensors = same_items(before.tensors, after.tensors, _name, lambda item: (item.kind, item.shape, item.dtype))
    hbm_before, hbm_after = before.tier(Tier.HBM), after.tier(Tier.HBM)
    shared = [(one.index, other.index) for _, one, other in ops if one is not None and other is not None]
    return PlanChange(
        equal=before == after,
        reordered=[place for _, place in shared] != sorted(place for _, place in shared),
        before_makespan_ns=before.makespan_ns if before.timed else None,
        after_makespan_ns=after.makespan_ns if after.timed else None,
        before_stalled_ns=sum(op.stalled_ns for op in before.ops) if before.timed else None,
        after_stalled_ns=sum(op.stalled_ns for op in after.ops) if after.timed else None,
        before_peak=None if hbm_before is None else hbm_before.peak,
        after_peak=None if hbm_after is None else hbm_after.peak,
        shared_ops=len(shared),
        shared_tensors=sum(None not in row for row in tensors),
        terms=_terms(before, after),
        tiers=_tiers(before, after),
        peak_kinds=_peak_kinds(before, after),
        tensors=_tensors(tensors, _places(before), _places(after)),
        ops=_ops(ops) if timed else [],
        moves=_moves(before, after, tensors, timed),
    )


def _name(item: PlannedOp | PlannedTensor) -> str:
    return item.name


def _paired(
    before: Iterable[Item], after: Iterable[Item], key: Callable[[Item], Hashable]
) -> list[tuple[Item, Item | None, Item | None]]:
    """
    Items of both with equal keys side by side, those of one alone beside `None`: first all of `before`.

    The item that there is, the later one where there are two, leads each row.
    """

    def numbered(items: Iterable[Item]) -> dict[Hashable, Item]:
        seen: Counter[Hashable] = Counter()
        found: dict[Hashable, Item] = {}
        for item in items:
            name = key(item)
            found[name, seen[name]] = item
            seen[name] += 1
        return found

    one, other = numbered(before), numbered(after)
    return [
        (other[name] if name in other else one[name], one.get(name), other.get(name))
        for name in dict.fromkeys([*one, *other])
    ]


def _terms(before: Plan, after: Plan) -> list[TermChange]:
    one, other = dict(_told(before)), dict(_told(after))
    found = [TermChange(name, one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])]
    for name, what in (("rests on", lambda plan: [f"{source.value} ({source.note})" if source.note else source.value
                                                  for source in plan.rests_on]),
                       ("note", lambda plan: plan.notes),
                       ("not valid", lambda plan: plan.violations)):  # fmt: skip
        found += [TermChange(name, was, now) for _, was, now in _paired(what(before), what(after), str)]
    return [term for term in found if term.before != term.after]


def _told(plan: Plan) -> Iterator[tuple[str, str]]:
    """What the plan was made of and for, by name; what it doesn't know is left out."""
    origin: dict[str, Any] = dataclasses.asdict(plan.origin)
    program: dict[str, Any] = {} if plan.program is None else dataclasses.asdict(plan.program)
    program["recomputed"] = ", ".join(program.get("recomputed", ())) or None
    plain: dict[str, Any] = {
        **origin,
        "chip": plan.chip,
        "memplan version": plan.memplan_version,
        "allocator": plan.allocator,
        "fits": "yes" if plan.fits else "no",
        "missing bytes": plan.missing_bytes,
        "timed": "yes" if plan.timed else "no",
        "makespan bound ns": plan.makespan_bound_ns,
        **{f"program {name}": value for name, value in program.items()},
        **{f"link {link.name}": f"{link.bytes_per_second:g} B/s, {link.latency_ns} ns" for link in plan.links},
        **{f"setting {item.name}": item.value for item in plan.settings},
        **{f"step part {part.name}": f"{part.duration_ns} ns" for part in plan.step_parts},
    }
    return ((name, str(value)) for name, value in plain.items() if value is not None)


def _tiers(before: Plan, after: Plan) -> list[TierChange]:
    def figures(use: TierUse | None) -> tuple[int | None, int | None, int | None]:
        return (None, None, None) if use is None else (use.peak, use.lower_bound, use.capacity)

    found = []
    for tier in Tier:
        one, other = figures(before.tier(tier)), figures(after.tier(tier))
        if one != other:
            found.append(TierChange(tier.value, *(value for pair in zip(one, other, strict=True) for value in pair)))
    return found


def _peak_kinds(before: Plan, after: Plan) -> list[PeakKindChange]:
    def held(plan: Plan) -> dict[str, int]:
        peak = plan_peak(plan)
        return {} if peak is None else {share.kind: share.nbytes for share in peak.shares}

    one, other = held(before), held(after)
    kinds = [PeakKindChange(kind, one.get(kind, 0), other.get(kind, 0)) for kind in dict.fromkeys([*one, *other])]
    return sorted(kinds, key=lambda kind: (-abs(kind.after_bytes - kind.before_bytes), kind.kind))


def _places(plan: Plan) -> dict[int, tuple[tuple[str, int | None], ...]]:
    """By tensor, the tiers and addresses it lies at, in the order in which it comes there."""
    found: dict[int, dict[tuple[str, int | None], None]] = {}
    for place in sorted(plan.placements, key=_begins):
        found.setdefault(place.tensor, {})[place.tier.value, place.offset] = None
    return {tensor: tuple(places) for tensor, places in found.items()}


def _begins(place: Placement) -> int:
    return place.start


def _tensors(
    rows: Iterable[tuple[PlannedTensor, PlannedTensor | None, PlannedTensor | None]],
    before: dict[int, tuple[tuple[str, int | None], ...]],
    after: dict[int, tuple[tuple[str, int | None], ...]],
) -> list[TensorChange]:
    found = []
    for known, one, other in rows:
        was = () if one is None else before.get(one.index, ())
        now = () if other is None else after.get(other.index, ())
        if one is None or other is None:
            what = "came" if one is None else "went"
        elif one.nbytes != other.nbytes:
            what = "grew" if other.nbytes > one.nbytes else "shrank"
        elif (one.shape, one.dtype, one.layout) != (other.shape, other.dtype, other.layout):
            what = "form"
        elif [tier for tier, _ in was] != [tier for tier, _ in now]:
            what = "tiers"
        elif was != now:
            what = "address"
        else:
            continue
        before_bytes, after_bytes = (None if tensor is None else tensor.nbytes for tensor in (one, other))
        found.append(TensorChange(known.name, known.kind, what, before_bytes, after_bytes,
                                  _place_words(was), _place_words(now)))  # fmt: skip
    return sorted(found, key=_tensor_rank)


def _place_words(places: Iterable[tuple[str, int | None]]) -> str:
    return ", ".join(tier if offset is None else f"{tier} {offset:#x}" for tier, offset in places)


def _tensor_rank(tensor: TensorChange) -> tuple[int, int]:
    """What changes bytes first, then other tiers, then other addresses; the largest of them first."""
    one, other = tensor.before_bytes or 0, tensor.after_bytes or 0
    return -abs(other - one), (tensor.change == "address") * 2**63 - max(one, other)


def _ops(rows: Iterable[tuple[PlannedOp, PlannedOp | None, PlannedOp | None]]) -> list[OpChange]:
    found = []
    for known, one, other in rows:
        before, after = (None if op is None else op.duration_ns for op in (one, other))
        if before != after:
            found.append(OpChange(known.name, known.type, before, after))
    return sorted(found, key=lambda op: -abs((op.after_ns or 0) - (op.before_ns or 0)))


def _moves(
    before: Plan,
    after: Plan,
    tensors: Iterable[tuple[PlannedTensor, PlannedTensor | None, PlannedTensor | None]],
    timed: bool,
) -> list[MoveChange]:
    here: dict[int, tuple[str, int]] = {}
    there: dict[int, tuple[str, int]] = {}
    for number, (known, was_one, now_one) in enumerate(tensors):
        for item, names in ((was_one, here), (now_one, there)):
            if item is not None:
                names[item.index] = known.name, number
    one, other = _moves_by_way(before, here), _moves_by_way(after, there)
    found = []
    for way in dict.fromkeys([*one, *other]):
        was, now = one.get(way, []), other.get(way, [])
        if [move.size for move in was] == [move.size for move in now] and not (
            timed and [move.start_ns for move in was] != [move.start_ns for move in now]
        ):
            continue
        (name, _), source, target = way
        starts = (moves[0].start_ns if timed and moves else None for moves in (was, now))
        bytes_moved = (sum(move.size for move in moves) for moves in (was, now))
        found.append(MoveChange(name, source, target, *bytes_moved, *starts))
    return sorted(found, key=lambda move: (-abs(move.after_bytes - move.before_bytes), move.tensor))


_Way = tuple[tuple[str, int], str, str]


def _moves_by_way(plan: Plan, names: Mapping[int, tuple[str, int]]) -> dict[_Way, list[Transfer]]:
    """Moves in the order of time, by tensor (its name, and which of all it is) and both tiers."""
    found: dict[_Way, list[Transfer]] = {}
    for move in sorted(plan.transfers, key=lambda move: move.start_ns):
        found.setdefault((names[move.tensor], move.source.value, move.target.value), []).append(move)
    return found
