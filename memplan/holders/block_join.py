"""
`join_blocks`: which planned tensor each measured block is, and which op made those that no plan has.

A block is joined by the name of the op that asked for it where the plan has that name; else by the kernel that it was
asked for (`makers`) and the op which that kernel runs (`memplan.align`); without kernels by order and size alone. Of an
op's blocks, those that have the size of what it writes are its planned tensors; the longest-lived first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.align import Alignment
from memplan.core.arrays import Floats, Int64s
from memplan.core.text_enum import TextEnum
from memplan.graph.op_names import op_spellings
from memplan.holders.makers import MadeBlocks, brief_blocks, made_by, makers_of_kernels, makers_of_plan
from memplan.holders.standing import HeldTensor, held_tensors
from memplan.schema import Plan
from memplan.traces.profile import Allocations, Kernels

_SLACK = 1024
"""Bytes by which a block may exceed the tensor that it holds: rounding to 512 and a tail of 32."""
_BRIEFLY = 3
"""Ops that a tensor lives for whose block may be gone before another is asked for."""
_NEAR = 16
"""Ops by which a tensor's planned and measured making may be apart."""
_NEVER = np.iinfo(np.int64).max
_BY_NAMES = 0.5
_WORKSPACE = "workspace"
_SURE, _LIKELY, _BY_SIZE, _BY_ORDER = 0.99, 0.9, 0.75, 0.6


class JoinedBy(TextEnum):
    """How a block found its op: by `name`; by the `kernel` it was asked for; by `size` near there; by `order` alone."""

    NAME = "name"
    KERNEL = "kernel"
    SIZE = "size"
    ORDER = "order"


JOINED_BY = tuple(JoinedBy)
"""Ways by number."""


@dataclass(frozen=True, slots=True)
class BlockJoin:
    """
    One row a block of `Allocations`.

    `op` is the planned op that asked for it, `kernel` the row of the kernel table, `tensor` the planned tensor that it
    is; -1 where there is none. `step` counts repetitions of the plan, `how` numbers `JOINED_BY` (-1: not joined),
    `scratch` is whether it was gone before the next block was asked for; `probability` is how likely the op is right.
    `release_step` is the planned step at which the host had arrived when the block was released, -1 where unknown.
    """

    op: Int64s
    kernel: Int64s
    tensor: Int64s
    step: Int64s
    how: NDArray[np.int8]
    scratch: NDArray[np.bool_]
    probability: Floats
    release_step: Int64s
    release_round: Int64s
    held: tuple[HeldTensor, ...]

    def __len__(self) -> int:
        return len(self.op)


def join_blocks(
    plan: Plan, allocations: Allocations, kernels: Kernels | None = None, alignment: Alignment | None = None
) -> BlockJoin:
    """Join every block of `allocations`; `alignment` is that of `plan` with `kernels`, if both are known."""
    held = tuple(held_tensors(plan))
    count = len(allocations)
    named = _by_name(plan, allocations)
    listed = allocations.allocation_ns >= 0
    kernel, output = np.full(count, -1, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    step = np.full(count, -1, dtype=np.int64)
    chance = np.zeros(count, dtype=np.float64)
    if listed.any() and (named[listed] >= 0).mean() >= _BY_NAMES:
        ops: list[tuple[int, ...]] = [(op,) if op >= 0 else () for op in named.tolist()]
        step, how = _rounds(named), JoinedBy.NAME
        chance[named >= 0] = _SURE
    elif kernels is not None and alignment is not None and len(kernels):
        made = made_by(allocations, makers_of_kernels(kernels, plan, alignment))
        kernel, output, how = made.maker, made.output, JoinedBy.KERNEL
        of_kernel: dict[int, list[int]] = defaultdict(list)
        pairs = alignment.likeliest()  # sizes tell more than the alignment does
        for op, row in zip(pairs.op.tolist(), pairs.kernel.tolist(), strict=True):
            of_kernel[row].append(op)
        sure = alignment.scopes.probability.copy()
        sure[alignment.unsure.kernel] = alignment.unsure.probability
        ops = [tuple(of_kernel.get(row, ())) for row in kernel.tolist()]
        found = kernel >= 0
        step[found] = alignment.step[kernel[found]]
        chance[found] = np.nan_to_num(sure)[kernel[found]] * np.where(output[found] >= 0, 1.0, _LIKELY)
    else:
        made = _in_order(plan, allocations)
        how = JoinedBy.ORDER
        known = made.maker >= 0
        step[known] = made.maker[known] // len(plan.ops)
        ops = [(row % len(plan.ops),) if row >= 0 else () for row in made.maker.tolist()]
        output = made.output
        chance[known] = np.where(made.output[known] >= 0, _LIKELY, _BY_ORDER)
    written = output >= 0 if how is not JoinedBy.NAME else np.ones(count, dtype=np.bool_)
    return _Joiner(plan, allocations, held, ops, kernel, step, chance, how, written).joined()


def _in_order(plan: Plan, allocations: Allocations) -> MadeBlocks:
    """Blocks along the ops of as many steps as their number allows."""
    made = sum(tensor.producer is not None for tensor in plan.tensors) or 1
    rounds = max(1, min(-(-2 * len(allocations) // made), 64))
    return made_by(allocations, makers_of_plan(plan, rounds))


def _by_name(plan: Plan, allocations: Allocations) -> Int64s:
    """The planned op that a block's name spells, -1 where it spells none."""
    index = {op.name: op.index for op in reversed(plan.ops)}
    known: dict[str, int] = {}
    for name in set(allocations.name):
        known[name] = next((index[spelling] for spelling in op_spellings(name) if spelling in index), -1)
    return np.array([known[name] for name in allocations.name], dtype=np.int64)


def _rounds(op: Int64s) -> Int64s:
    """Which repetition of the plan each block is of: ops begin anew where they fall back by half of all that ask."""
    step = np.full(len(op), -1, dtype=np.int64)
    rows = np.flatnonzero(op >= 0)
    if len(rows):
        half = np.ptp(op[rows]) / 2
        step[rows] = np.cumsum(np.concatenate(([0], (np.diff(op[rows]) < -half).astype(np.int64))))
    return step


class _Joiner:
    """Blocks of ops given to their tensors."""

    def __init__(
        self,
        plan: Plan,
        allocations: Allocations,
        held: Sequence[HeldTensor],
        ops: Sequence[tuple[int, ...]],
        kernel: Int64s,
        step: Int64s,
        chance: Floats,
        how: JoinedBy,
        written: NDArray[np.bool_],
    ) -> None:
        self.plan, self.allocations, self.held, self.ops = plan, allocations, held, ops
        self.kernel, self.step, self.chance, self.written = kernel, step, chance, written
        self.brief = brief_blocks(allocations)
        self.release = np.where(allocations.release_ns < 0, _NEVER, allocations.release_ns)
        self.how = np.full(len(allocations), -1, dtype=np.int8)
        self.tensor = np.full(len(allocations), -1, dtype=np.int64)
        self.op = np.array([found[0] if found else -1 for found in ops], dtype=np.int64)
        self.way = JOINED_BY.index(how)
        self.made: dict[int, list[HeldTensor]] = defaultdict(list)
        for item in held:
            if item.tensor.producer is not None and not item.stands:
                self.made[item.tensor.producer].append(item)

    def joined(self) -> BlockJoin:
        """The join of all blocks."""
        self.how[self.op >= 0] = self.way
        arrived, rounds = self._arrivals()
        self.released = np.where(arrived < 0, _NEVER, rounds * len(self.plan.ops) + arrived)
        settled = self._settle()
        groups: dict[int, dict[int, list[int]]] = {step: defaultdict(list) for step in sorted(settled)}
        for block in np.flatnonzero(self.tensor < 0).tolist():
            step = int(self.step[block])
            for op in self.ops[block]:
                groups[step][op].append(block)
        for step, asked in groups.items():
            left = []
            for op, tensors in self.made.items():
                if op not in settled[step]:
                    left += self._give(tensors, asked.get(op, ()), step)
            self._near(left, step)
        self._copies()
        return BlockJoin(
            self.op, self.kernel, self.tensor, self.step, self.how, self.brief, self.chance, arrived, rounds,
            tuple(self.held),
        )  # fmt: skip

    def _settle(self) -> dict[int, set[int]]:
        """
        Give each block that alone was asked for by an op, in one step, the tensor that alone is made there, if it fits.

        Most blocks are such, and they are given at once. Returns the ops for which that was done, for every step.
        """
        rows = np.array([row for row, ops in enumerate(self.ops) for _ in ops], dtype=np.int64)
        ops = np.array([op for ops in self.ops for op in ops], dtype=np.int64)
        settled: dict[int, set[int]] = {step: set() for step in np.unique(self.step[rows]).tolist()}
        single = {op: tensors[0] for op, tensors in self.made.items() if len(tensors) == 1}
        if not single or not len(rows):
            return settled
        exact, rounded, scratch = (np.full(len(self.plan.ops), -1, dtype=np.int64) for _ in range(3))
        tensor = exact.copy()
        for op, item in single.items():
            exact[op], rounded[op], tensor[op] = item.tensor.nbytes, item.nbytes, item.tensor.index
            scratch[op] = item.kind == _WORKSPACE
        _, place, count = np.unique(self.step[rows] * len(self.plan.ops) + ops, return_inverse=True, return_counts=True)
        alone = (count[place] == 1) & (np.bincount(rows)[rows] == 1)
        spare = self.allocations.size[rows] - exact[ops]
        holds = ((spare >= 0) & (spare <= _SLACK)) | (np.abs(self.allocations.size[rows] - rounded[ops]) <= _SLACK)
        given = np.flatnonzero(alone & holds & (tensor[ops] >= 0) & (self.brief[rows] == (scratch[ops] == 1)))
        self.tensor[rows[given]] = tensor[ops[given]]
        for step, op in zip(self.step[rows[given]].tolist(), ops[given].tolist(), strict=True):
            settled[step].add(op)
        return settled

    def _give(self, tensors: Sequence[HeldTensor], blocks: Sequence[int], step: int) -> list[HeldTensor]:
        """Give the tensors of an op those of its blocks that have their size; returns those without any."""
        free = [block for block in blocks if self.tensor[block] < 0]
        missing = []
        for item in sorted(tensors, key=lambda item: (-item.end, -item.nbytes)):
            fitting = [block for block in free if self._fits(block, item)]
            if not fitting:
                fitting = [block for block in free if self._may_be(block, item)]
            if not fitting:
                missing.append(item)
                continue
            block = min(fitting, key=lambda block: (self._off(block, item, step), block))
            free.remove(block)
            self._set(block, item)
        return missing

    def _off(self, block: int, item: HeldTensor, step: int) -> int:
        """By how many ops a block is released before or after its tensor should be; what is never, is last."""
        return abs(
            min(int(self.released[block]), (step + 2) * len(self.plan.ops)) - (step * len(self.plan.ops) + item.end)
        )

    def _fits(self, block: int, item: HeldTensor) -> bool:
        return self.brief[block] == (item.kind == _WORKSPACE) and self._holds(block, item)

    def _holds(self, block: int, item: HeldTensor) -> bool:
        size = int(self.allocations.size[block])
        return 0 <= size - item.tensor.nbytes <= _SLACK or abs(size - item.nbytes) <= _SLACK

    def _may_be(self, block: int, item: HeldTensor) -> bool:
        """Scratch of another size than planned, or an output that only an op without a block of its own reads."""
        if item.kind == _WORKSPACE:
            return bool(self.brief[block]) and not self.written[block]
        brief = item.end - item.start <= _BRIEFLY
        return brief and bool(self.brief[block] and self.written[block]) and self._holds(block, item)

    def _set(self, block: int, item: HeldTensor) -> None:
        self.tensor[block] = item.tensor.index
        if item.tensor.producer is not None:
            self.op[block] = item.tensor.producer

    def _near(self, left: Sequence[HeldTensor], step: int) -> None:
        """Give tensors that are left the blocks near there that have their size and are left."""
        spare = np.flatnonzero((self.tensor < 0) & ~self.brief & (self.op >= 0) & (self.step == step))
        sizes: dict[int, list[int]] = defaultdict(list)
        for block in spare.tolist():
            sizes[int(self.allocations.size[block]) // _SLACK].append(block)
        pairs = []
        for place, item in enumerate(left):
            producer = item.tensor.producer
            if producer is None or item.kind == _WORKSPACE:
                continue
            key = item.tensor.nbytes // _SLACK
            for block in (*sizes.get(key, ()), *sizes.get(key + 1, ())):
                away = abs(int(self.op[block]) - producer)
                if away <= _NEAR and self._same_scope(int(self.op[block]), producer) and self._fits(block, item):
                    pairs.append((away + self._off(block, item, step), block, place))
        taken: set[int] = set()
        for _, block, place in sorted(pairs):
            if self.tensor[block] < 0 and place not in taken:
                taken.add(place)
                self._set(block, left[place])
                self.how[block] = JOINED_BY.index(JoinedBy.SIZE)
                self.chance[block] = min(self.chance[block], _BY_SIZE)

    def _copies(self) -> None:
        """
        Give tensors whose block is gone too early the copy that was made of it near there and lives on instead.

        A rotary embedding makes a block, and what joins it with the part that isn't turned makes another: that is kept.
        """
        items = {item.tensor.index: item for item in self.held}
        sizes: dict[tuple[int, int], list[int]] = defaultdict(list)
        for block in np.flatnonzero((self.tensor < 0) & ~self.brief & (self.op >= 0)).tolist():
            sizes[int(self.step[block]), int(self.allocations.size[block])].append(block)
        asked = self.allocations.allocation_ns
        for block in np.flatnonzero((self.tensor >= 0) & (self.op >= 0)).tolist():
            item, step = items[int(self.tensor[block])], int(self.step[block])
            likely = sizes.get((step, int(self.allocations.size[block])), ())
            if not likely or item.kind == _WORKSPACE or (off := self._off(block, item, step)) <= _NEAR:
                continue
            begin = bisect_right(likely, block)
            for copy in likely[begin : begin + _NEAR]:
                if (
                    self.tensor[copy] < 0
                    and asked[copy] <= self.release[block]
                    and self._same_scope(int(self.op[block]), int(self.op[copy]))
                    and self._off(copy, item, step) <= min(_NEAR, off // 2)
                ):
                    self.tensor[block] = -1
                    self._set(copy, item)
                    self.how[copy] = JOINED_BY.index(JoinedBy.SIZE)
                    self.chance[copy] = min(self.chance[copy], _BY_SIZE)
                    break

    def _same_scope(self, first: int, second: int) -> bool:
        a, b = self.plan.ops[first], self.plan.ops[second]
        return (a.phase, a.micro_batch, a.layer) == (b.phase, b.micro_batch, b.layer)

    def _arrivals(self) -> tuple[Int64s, Int64s]:
        """How far along the plan the host was when each block was released: its planned step and repetition."""
        known = np.flatnonzero((self.op >= 0) & (self.allocations.allocation_ns >= 0))
        reached = np.full(len(self.op), -1, dtype=np.int64)
        rounds = reached.copy()
        if not len(known):
            return reached, rounds
        steps = len(self.plan.ops)
        place = np.maximum.accumulate(self.step[known] * steps + self.op[known])
        asked = self.allocations.allocation_ns[known]
        freed = np.flatnonzero(self.allocations.release_ns >= 0)
        before = np.searchsorted(asked, self.allocations.release_ns[freed], side="right") - 1
        at = place[np.maximum(before, 0)]
        reached[freed], rounds[freed] = at % steps, at // steps
        return reached, rounds
