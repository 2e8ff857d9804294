"""Who holds the measured peak beside who holds the planned one: by kind and part, and what makes them differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from memplan.align.kernel_scopes import KernelScopes
from memplan.core.arrays import Int64s
from memplan.holders.block_join import BlockJoin
from memplan.holders.standing import HeldTensor
from memplan.schema import Plan, PlannedOp, plan_peak
from memplan.traces.profile import Allocations

NOT_PLANNED = "not in the plan"
"""The kind of blocks that no plan has and that outlive the op that asked for them."""
UNKNOWN_KIND = "not explained"
"""The kind of bytes that were there before the profile began and that nothing of the plan explains."""
_WORKSPACE = "workspace"
_BY_SUM_ORDER = ("weight", "gradient", "optimizer_state")
_Key = TypeVar("_Key")
_SLACK_OPS = 3
_SLACK = 1024


@dataclass(frozen=True, slots=True)
class Holder:
    """Bytes held: planned at the planned peak, measured at the measured one, and the blocks of the latter."""

    planned: int
    measured: int
    blocks: int


@dataclass(frozen=True, slots=True)
class HolderRow:
    """
    A group of blocks that the plan does not have at the measured peak, or planned tensors that the run does not.

    `what` names the group in the model's words, `op` the planned op concerned: who should have freed the blocks, who
    asked for them, or who makes the tensors. `until` is the op that the host had issued when the first of the blocks
    was released, `None` where they never were or it is not known.
    """

    what: str
    nbytes: int
    count: int
    op: int | None
    until: int | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class PeakHolders:
    """
    The measured peak of a framework's allocator, told apart.

    `measured` bytes at `time_ns`, when the host had issued planned op `op`; the plan's own peak is `planned` at step
    `planned_step`. `before` bytes were held before the profile's listing began and still are, of which `standing`
    planned bytes explain `before_explained`. `explained` of the measured bytes are planned tensors. `kinds`, `parts`
    and `layers` are the bytes by kind, by part of the model and by layer.

    `held_longer` are tensors that the plan has freed by then, `not_planned` blocks that it does not have, `missing`
    what it has there and the run has not, the largest group first.
    """

    measured: int
    time_ns: int
    op: int | None
    planned: int
    planned_step: int | None
    before: int
    before_explained: int
    standing: int
    explained: int
    kinds: Mapping[str, Holder]
    parts: Mapping[str, Holder]
    layers: Mapping[int, Holder]
    held_longer: tuple[HolderRow, ...]
    not_planned: tuple[HolderRow, ...]
    missing: tuple[HolderRow, ...]

    @property
    def unexplained(self) -> int:
        """Bytes at the measured peak that are no planned tensor."""
        return self.measured - self.explained


class _Sums(Generic[_Key]):
    """Planned and measured bytes by key."""

    def __init__(self) -> None:
        self.planned: Counter[_Key] = Counter()
        self.measured: Counter[_Key] = Counter()
        self.blocks: Counter[_Key] = Counter()

    def plan(self, key: _Key, size: int) -> None:
        self.planned[key] += size

    def add(self, key: _Key, size: int) -> None:
        self.measured[key] += size
        self.blocks[key] += 1

    def holders(self) -> dict[_Key, Holder]:
        """All keys, those with most bytes first."""
        keys = {**dict.fromkeys(self.planned), **dict.fromkeys(self.measured)}
        found = {key: Holder(self.planned[key], self.measured[key], self.blocks[key]) for key in keys}
        return dict(sorted(found.items(), key=lambda entry: -max(entry[1].measured, entry[1].planned)))


def peak_holders(
    plan: Plan,
    allocations: Allocations,
    join: BlockJoin,
    curve_ns: Int64s,
    allocated: Int64s,
    scopes: KernelScopes | None = None,
    within: tuple[int, int] | None = None,
) -> PeakHolders | None:
    """
    What makes the highest point of `allocated` over `curve_ns`, of the part `within` if given.

    `scopes` name the kernels that asked for what no plan has. `None` for a curve without values.
    """
    known = np.flatnonzero(allocated >= 0)
    if within is not None:
        inside = known[(curve_ns[known] >= within[0]) & (curve_ns[known] < within[1])]
        known = inside if len(inside) else known
    if not len(known):
        return None
    row = int(known[int(np.argmax(allocated[known]))])
    return _Peak(plan, allocations, join, scopes, int(curve_ns[row]), int(allocated[row])).holders()


class _Peak:
    def __init__(
        self,
        plan: Plan,
        allocations: Allocations,
        join: BlockJoin,
        scopes: KernelScopes | None,
        time_ns: int,
        measured: int,
    ) -> None:
        self.plan, self.allocations, self.join, self.scopes = plan, allocations, join, scopes
        self.time_ns, self.measured = time_ns, measured
        self.held = {item.tensor.index: item for item in join.held}
        release = allocations.release_ns
        self.live = np.flatnonzero((allocations.allocation_ns <= time_ns) & ((release < 0) | (release > time_ns)))
        self.round, self.step = self._place()
        self.kinds, self.parts, self.layers = _Sums[str](), _Sums[str](), _Sums[int]()
        self.explained = 0

    def _place(self) -> tuple[int, int | None]:
        """The repetition and step of the plan that the host had reached at the peak."""
        asked = self.allocations.allocation_ns
        reached = (self.join.op >= 0) & (asked >= 0) & (asked <= self.time_ns)
        if not reached.any():
            return 0, None
        place = self.join.step[reached] * len(self.plan.ops) + self.join.op[reached]
        return divmod(int(place.max()), len(self.plan.ops))

    def holders(self) -> PeakHolders:
        """All of it."""
        peak = plan_peak(self.plan)
        if peak is not None:
            for item in self.join.held:
                if item.start <= peak.step < item.end:
                    self._plan(item)
        longer, foreign, standing_blocks = self._listed()
        before = self.measured - int(self.allocations.size[self.live].sum())
        explained_before, standing = self._standing(max(before, 0), standing_blocks)
        missing = self._missing()
        return PeakHolders(
            measured=self.measured,
            time_ns=self.time_ns,
            op=self.step,
            planned=peak.nbytes if peak is not None else 0,
            planned_step=peak.step if peak is not None else None,
            before=before,
            before_explained=explained_before,
            standing=standing,
            explained=self.explained,
            kinds=self.kinds.holders(),
            parts=self.parts.holders(),
            layers=dict(sorted(self.layers.holders().items())),
            held_longer=_largest(longer),
            not_planned=_largest(foreign),
            missing=_largest(missing),
        )

    def _plan(self, item: HeldTensor) -> None:
        op = self._made_by(item)
        self.kinds.plan(item.kind, item.nbytes)
        self.parts.plan(_part(op) if op is not None else item.kind, item.nbytes)
        if op is not None and op.layer is not None:
            self.layers.plan(op.layer, item.nbytes)

    def _made_by(self, item: HeldTensor) -> PlannedOp | None:
        """The op whose output a tensor is; none for what stands throughout."""
        return None if item.tensor.producer is None or item.stands else self.plan.ops[item.tensor.producer]

    def _count(self, op: PlannedOp | None, kind: str, size: int) -> None:
        self.kinds.add(kind, size)
        self.parts.add(_part(op) if op is not None else kind, size)
        if op is not None and op.layer is not None:
            self.layers.add(op.layer, size)

    def _listed(self) -> tuple[list[HolderRow], list[HolderRow], list[int]]:
        """Blocks of the listing that are there: those held longer, those not planned, those that stand throughout."""
        longer: dict[str, list[int]] = defaultdict(list)
        foreign: dict[str, list[int]] = defaultdict(list)
        standing: list[int] = []
        sizes, join = self.allocations.size, self.join
        wanted = Counter(item.tensor.nbytes // _SLACK for item in join.held if item.stands)
        for block in self.live.tolist():
            tensor, size = int(join.tensor[block]), int(sizes[block])
            item = self.held.get(tensor)
            if item is not None:
                self._count(self._made_by(item), item.kind, size)
                self.explained += size
                past = (self.round, self.step or 0) > (int(join.step[block]), item.end - 1 + _SLACK_OPS)
                if past and not item.stands:
                    longer[self._tensor_name(item)].append(block)
            elif self._stands(block, wanted):
                standing.append(block)
            else:
                kind = _WORKSPACE if join.scratch[block] else NOT_PLANNED
                op = self.plan.ops[int(join.op[block])] if join.op[block] >= 0 else None
                self._count(op, kind, size)
                foreign[self._foreign_name(block)].append(block)
        return (
            [self._row(name, blocks, self._freed_by(blocks[0])) for name, blocks in longer.items()],
            [self._row(name, blocks, int(join.op[blocks[0]])) for name, blocks in foreign.items()],
            standing,
        )

    def _freed_by(self, block: int) -> int:
        """The last planned op that uses a block's tensor: after it, it should have been freed."""
        return self.held[int(self.join.tensor[block])].end - 1

    def _stands(self, block: int, wanted: Counter[int]) -> bool:
        """Whether a block is there since before the first planned op, or stays and has a standing tensor's size."""
        release = int(self.allocations.release_ns[block])
        asked = int(self.allocations.allocation_ns[block])
        first = self._first_ns()
        if asked < 0 or (first is not None and asked < first):
            return release < 0 or release > self._last_ns()
        size = int(self.allocations.size[block]) // _SLACK
        return release < 0 and (wanted[size] > 0 or wanted[size - 1] > 0)

    def _first_ns(self) -> int | None:
        joined = np.flatnonzero(self.join.tensor >= 0)
        return int(self.allocations.allocation_ns[joined].min()) if len(joined) else None

    def _last_ns(self) -> int:
        joined = np.flatnonzero(self.join.tensor >= 0)
        return int(self.allocations.allocation_ns[joined].max()) if len(joined) else self.time_ns

    def _standing(self, before: int, blocks: Sequence[int]) -> tuple[int, int]:
        """Give what stands in the plan what was there before; bytes explained of it, and planned."""
        wanted: dict[int, list[HeldTensor]] = defaultdict(list)
        kinds: Counter[str] = Counter()
        for item in self._expected():
            wanted[item.tensor.nbytes // _SLACK].append(item)
            kinds[item.kind] += item.nbytes
        planned = sum(kinds.values())
        pool = before
        for block in blocks:
            size = int(self.allocations.size[block])
            same = wanted.get(size // _SLACK) or wanted.get(size // _SLACK - 1)
            if not same:
                pool += size
                continue
            item = same.pop()
            kinds[item.kind] -= item.nbytes
            self._count(None, item.kind, size)
            self.explained += size
        explained = 0
        rank = {kind: place for place, kind in enumerate(_BY_SUM_ORDER)}
        for kind in sorted(kinds, key=lambda kind: (rank.get(kind, len(rank)), kind)):
            size = min(pool, kinds[kind])
            if size > 0:
                pool -= size
                explained += size
                self._count(None, kind, size)
        self.explained += explained
        if pool > 0:
            self._count(None, UNKNOWN_KIND, pool)
        return explained, planned

    def _expected(self) -> list[HeldTensor]:
        """What the plan holds that the listing can't have: what stands, and what was made before it began."""
        asked = np.flatnonzero((self.join.op >= 0) & (self.allocations.allocation_ns >= 0))
        begun = int(self.join.op[asked[0]]) if len(asked) else 0
        first_round = int(self.join.step[asked[0]]) if len(asked) else 0
        joined = set(self.join.tensor[self.join.step == first_round].tolist())
        found = [item for item in self.join.held if item.stands]
        if self.round == first_round and self.step is not None:
            found += [
                item
                for item in self.join.held
                if not item.stands
                and item.start < begun - _SLACK_OPS
                and item.end > self.step
                and item.tensor.index not in joined
            ]
        return found

    def _missing(self) -> list[HolderRow]:
        """Tensors that the plan has at the step of the measured peak and the run has not."""
        if self.step is None:
            return []
        there = {int(self.join.tensor[block]) for block in self.live.tolist() if self.join.step[block] == self.round}
        expected = {item.tensor.index for item in self._expected()}
        groups: dict[str, list[HeldTensor]] = defaultdict(list)
        for item in self.join.held:
            if item.stands or item.tensor.index in there or item.tensor.index in expected:
                continue
            if item.start <= self.step - _SLACK_OPS and self.step + _SLACK_OPS < item.end:
                groups[self._tensor_name(item)].append(item)
        return [
            HolderRow(name, sum(item.nbytes for item in items), len(items), items[0].tensor.producer)
            for name, items in groups.items()
        ]

    def _tensor_name(self, item: HeldTensor) -> str:
        """A tensor in the model's words, the same in every layer and micro-batch."""
        op = None if item.tensor.producer is None else self.plan.ops[item.tensor.producer]
        if op is None or op.part is None:
            return item.tensor.name
        last = item.tensor.name.rpartition(".")[2]
        return f"{_part(op)}: {last}"

    def _foreign_name(self, block: int) -> str:
        """What asked for a block that no plan has: the op in the model's words, or what its kernel is."""
        kernel, name = int(self.join.kernel[block]), self.allocations.name[block]
        op = int(self.join.op[block])
        if op >= 0:
            where = _part(self.plan.ops[op])
        elif kernel >= 0 and self.scopes is not None:
            what = int(self.scopes.what[kernel])
            where = self.scopes.whats[what] if what >= 0 else self.scopes.path(kernel)
        else:
            where = ""
        return ", ".join(text for text in (where, name) if text) or "unnamed"

    def _row(self, name: str, blocks: Sequence[int], op: int) -> HolderRow:
        released = [int(self.join.release_step[block]) for block in blocks if self.join.release_step[block] >= 0]
        chance = float(np.mean(self.join.probability[list(blocks)]))
        size = int(self.allocations.size[list(blocks)].sum())
        return HolderRow(name, size, len(blocks), op if op >= 0 else None, min(released, default=None), chance)


def _part(op: PlannedOp) -> str:
    """An op's part and phase, without layer and micro-batch: what a group of blocks is called by."""
    part = op.part or op.name
    return f"{part}, {op.phase}" if op.phase else part


def _largest(rows: Iterable[HolderRow]) -> tuple[HolderRow, ...]:
    return tuple(sorted(rows, key=lambda row: (-row.nbytes, row.what)))
