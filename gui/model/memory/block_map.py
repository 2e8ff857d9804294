"""The blocks that a run's allocator gave out, as rectangles of time x address, and what the plan has of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.intervals import interval_union
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Text
from memplan.graph.op_names import type_of_kernel
from memplan.gui.model.amount_names import BEFORE, OTHERS, UNNAMED, holder_text, kind_text
from memplan.gui.model.document import Document
from memplan.gui.model.memory.rectangles import MapRectangles
from memplan.gui.model.palette import Palette
from memplan.schema import step_starts
from memplan.traces.profile import Allocations, MemoryCurve

if TYPE_CHECKING:
    from memplan.compare import Comparison

_MOST_BLOCKS = 200_000
"""Blocks that are drawn, those that hold most bytes for longest."""
_OWNERS = 7
"""Askers that have a colour of their own."""
_ALIKE = 512
"""An allocator's smallest unit, in bytes: what it rounds sizes to."""
_PIECES = 64
"""Into how many parts at most what was there before is drawn, by when it is freed."""
_NOTHING: tuple[Int64s, Int64s] = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
_NOT_PLANNED, _SCRATCH = "not in the plan", "workspace"


@dataclass(frozen=True, slots=True)
class BlockMap(MapRectangles):
    """
    Measured blocks of one memory curve, `component`; `row[i]` is a block's row in `allocations`, -1 for what was held
    before the profile began: what of it was freed together is one block.

    `addressed` is whether the profile tells addresses, which are drawn without the ranges that no block ever had; else
    they are stacked as first fit would. `planned_start_ns` and
    `planned_end_ns` are the life of the planned tensor `tensor[i]` that a block is, on the same clock; -1 where no plan
    has it. `left_out` counts blocks beyond the most that are drawn, `peak_ns` is when most is held.
    """

    component: str
    allocations: Allocations
    row: Int64s
    addressed: bool
    tensor: Int64s
    planned_start_ns: Int64s
    planned_end_ns: Int64s
    left_out: int
    peak_ns: int
    joined: bool

    def name(self, index: int) -> str:
        """What asked for the block."""
        row = int(self.row[index])
        return BEFORE if row < 0 else self.allocations.name[row] or UNNAMED

    def kind_title(self, number: int) -> Text:
        """What kind `number` is called: a kind of tensor in words, or the name of who asked."""
        kind = self.kinds[number]
        return kind_text(kind) if self.joined else holder_text(kind)

    def address(self, index: int) -> int | None:
        """Where a block lies on the device, where the profile tells."""
        row, known = int(self.row[index]), self.allocations.address
        return int(known[row]) if known is not None and row >= 0 else None

    def held_longer_ns(self, index: int) -> int:
        """How much longer than planned the block was held; 0 where no plan has it, or had it as long."""
        end = int(self.planned_end_ns[index])
        return max(int(self.end_ns[index]) - end, 0) if end >= 0 else 0

    def kind_colours(self, palette: Palette) -> list[int]:
        """By kind of tensor where a plan tells; else each large asker has one, and grey is everyone else's."""
        greys = {BEFORE: palette.role("line"), OTHERS: palette.role("faint"), _NOT_PLANNED: palette.role("faint")}
        if self.joined:
            return [greys.get(kind) or palette.kind(kind) for kind in self.kinds]
        own = iter(range(len(self.kinds)))
        return [
            greys[kind] if kind in greys else palette.colours[next(own) % len(palette.colours)] for kind in self.kinds
        ]


def block_map(document: Document, progress: Progress = silent) -> BlockMap | None:
    """The blocks of the shown rank; long, meant for a worker. `None` where it lists none."""
    rank = document.rank
    if rank is None:
        return None
    from memplan.compare.memory import choose_component  # with the alignment: a window starts without
    from memplan.compare.rank_blocks import blocks_of

    found = document.comparison
    progress(0, 3, "reading blocks")
    chosen = choose_component(rank, None)
    component = chosen[0].component if chosen is not None else ""
    if found is not None and found.memory is not None:
        component = found.memory.component
    if found is not None and found.blocks is not None:
        blocks: Allocations | None = found.blocks.allocations
    else:
        blocks = blocks_of(rank.allocations(progress), component or None)
    if blocks is None or not len(blocks):
        return None
    begin, end = rank.span_ns
    begin = min([begin, *blocks.allocation_ns[blocks.allocation_ns >= 0][:1].tolist()])
    end = max([end, int(blocks.release_ns.max()), int(blocks.allocation_ns.max()) + 1])
    start = np.where(blocks.allocation_ns < 0, begin, blocks.allocation_ns)
    stop = np.maximum(np.where(blocks.release_ns < 0, end, blocks.release_ns), start + 1)
    rows = np.flatnonzero(blocks.size > 0)
    left_out = max(len(rows) - _MOST_BLOCKS, 0)
    if left_out:
        area = blocks.size[rows].astype(np.float64) * (stop - start)[rows]
        rows = np.sort(rows[np.argpartition(-area, _MOST_BLOCKS)[:_MOST_BLOCKS]])
    before, until = _held_before(*chosen[:2], start, stop, blocks.size) if chosen is not None else _NOTHING
    until = np.where(until < 0, end, until)
    size, start, stop = blocks.size[rows], start[rows], stop[rows]
    tensor, planned_start, planned_end = _planned(document, rows)
    joined = found is not None and found.blocks is not None
    count = len(rows)
    size, stop = np.append(size, before), np.append(stop, until)
    start = np.append(start, np.full(len(before), begin))
    peak_ns = _peak_ns(start, stop, size)
    held = np.where((start <= peak_ns) & (peak_ns < stop), size, 0)[:count]
    kinds, kind = _by_kind(found, rows, tensor) if joined else _by_owner(blocks, rows, held)
    progress(1, 3, "placing blocks")
    if blocks.address is not None:
        above = without_gaps(blocks.address[rows], size[:count]) + int(before.sum())
        low = np.append(above, np.cumsum(before) - before)
    else:
        low = stacked(start, stop, size, progress)
    start, stop = _on_device(found, start), _on_device(found, stop)
    if len(before):
        nothing = np.full(len(before), -1, dtype=np.int64)
        rows, tensor, planned_start, planned_end = (
            np.append(column, nothing) for column in (rows, tensor, planned_start, planned_end)
        )
        kinds, kind = (*kinds, BEFORE), np.append(kind, np.full(len(before), len(kinds)))
    high = low + size
    return BlockMap(
        start_ns=start,
        end_ns=np.maximum(stop, start + 1),
        low=low,
        high=high,
        kind=kind.astype(np.int32),
        kinds=kinds,
        top=int(high.max()),
        component=component,
        allocations=blocks,
        row=rows,
        addressed=blocks.address is not None,
        tensor=tensor,
        planned_start_ns=planned_start,
        planned_end_ns=planned_end,
        left_out=left_out,
        peak_ns=int(_on_device(found, np.array([peak_ns]))[0]),
        joined=joined,
    )


def _on_device(found: Comparison | None, time_ns: Int64s) -> Int64s:
    """The allocator's times on the device's clock, which all else is shown on; the same where nothing is known."""
    if found is None or found.memory is None or not found.time_map.anchored:
        return time_ns
    return found.time_map.to_profile(found.memory.map.to_plan(time_ns))


def _held_before(
    curve: MemoryCurve, values: Int64s, start: Int64s, stop: Int64s, size: Int64s
) -> tuple[Int64s, Int64s]:
    """
    What the curve holds beyond the listed blocks, which was there before all of them: bytes, and when they are freed.

    It only gets less: more at one moment is a block of the list that the curve counts a little earlier or later. The
    last to be freed come first, -1 for those that never are.
    """
    known = values >= 0
    time, values = curve.time_ns[known], values[known]
    if not len(time):
        return _NOTHING
    asked, freed = np.argsort(start, kind="stable"), np.argsort(stop, kind="stable")
    gained, lost = (np.append(0, np.cumsum(size[order])) for order in (asked, freed))
    begun, ended = (np.searchsorted(times, time, side="right") for times in (start[asked], stop[freed]))
    listed = gained[begun] - lost[ended]
    beyond = np.maximum(values - listed, 0)
    left = np.minimum(np.maximum.accumulate(beyond[::-1])[::-1], beyond[0])
    gone = left[0] - left
    part = gone // max(int(left[0]) // _PIECES, _ALIKE)
    ends = np.flatnonzero(np.diff(part)) + 1
    pieces = np.diff(gone[ends], prepend=0)[::-1]
    rest = int(left[0] - pieces.sum())
    held, until = np.append(rest, pieces), np.append(-1, time[ends][::-1])
    return held[held > 0], until[held > 0]


def _peak_ns(start: Int64s, stop: Int64s, size: Int64s) -> int:
    """When most bytes of the blocks are held."""
    times, order = np.concatenate((start, stop)), np.concatenate((np.ones(len(start)), np.zeros(len(stop))))
    change = np.concatenate((size, -size))
    rank = np.lexsort((order, times))
    return int(times[rank][int(np.argmax(np.cumsum(change[rank])))])


def without_gaps(address: Int64s, size: Int64s) -> Int64s:
    """Addresses without the ranges that no block ever had: an allocator's segments lie far from each other."""
    first, last = interval_union(address, address + size)
    before = np.concatenate(([0], np.cumsum(last - first)[:-1]))
    place = np.searchsorted(first, address, side="right") - 1
    packed: Int64s = address - first[place] + before[place]
    return packed


def stacked(start: Int64s, stop: Int64s, size: Int64s, progress: Progress = silent) -> Int64s:
    """
    An offset for every block so that no two of one time overlap: the lowest room that fits when each is asked for.

    What is asked for together is placed longest first.
    """
    low = np.zeros(len(start), dtype=np.int64)
    free: list[tuple[int, int]] = []
    alive: list[tuple[int, int, int]] = []
    top = 0
    for count, block in enumerate(np.lexsort((-stop, start)).tolist()):
        if count % 4096 == 0:
            progress(count, len(start), "placing blocks")
        now, need = int(start[block]), -(-int(size[block]) // _ALIKE) * _ALIKE
        while alive and alive[0][0] <= now:
            _, first, last = heappop(alive)
            _release(free, first, last)
        place = next((number for number, (first, last) in enumerate(free) if last - first >= need), None)
        if place is None:
            at = free.pop()[0] if free and free[-1][1] == top else top
            top = at + need
        else:
            at, last = free.pop(place)
            if last - at > need:
                free.insert(place, (at + need, last))
        low[block] = at
        heappush(alive, (int(stop[block]), at, at + need))
    return low


def _release(free: list[tuple[int, int]], first: int, last: int) -> None:
    """Give `[first, last)` back to the rooms in order of address, as one with its neighbours."""
    place = bisect_left(free, (first, last))
    if place < len(free) and free[place][0] == last:
        last = free.pop(place)[1]
    if place > 0 and free[place - 1][1] == first:
        first = free.pop(place - 1)[0]
    insort(free, (first, last))


def _planned(document: Document, rows: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """For every block the planned tensor that it is in the compared step, and when this begins and ends."""
    nothing = np.full(len(rows), -1, dtype=np.int64)
    found, plan = document.comparison, document.plan
    if found is None or plan is None or found.blocks is None:
        return nothing, nothing, nothing
    join = found.blocks.join
    tensor = join.tensor[rows]
    first, last = nothing.copy(), nothing.copy()
    life = {item.tensor.index: (item.start, item.end) for item in join.held}
    mine = np.flatnonzero((tensor >= 0) & (join.step[rows] == found.blocks.repetition))
    steps = found.time_map.to_profile(step_starts(plan))
    for place in mine.tolist():
        begin, end = life[int(tensor[place])]
        first[place], last[place] = steps[begin], steps[end]
    return tensor, first, last


def _by_kind(found: Comparison | None, rows: Int64s, tensor: Int64s) -> tuple[tuple[str, ...], Int64s]:
    """Kinds of the tensors that the blocks are."""
    join = found.blocks.join if found is not None and found.blocks is not None else None
    if join is None:
        return (_NOT_PLANNED,), np.zeros(len(rows), dtype=np.int64)
    kind_of = {item.tensor.index: item.kind for item in join.held}
    scratch = join.scratch[rows].tolist()
    names = [
        kind_of.get(index) or (_SCRATCH if brief else _NOT_PLANNED)
        for index, brief in zip(tensor.tolist(), scratch, strict=True)
    ]
    kinds = tuple(sorted(set(names)))
    code = {name: number for number, name in enumerate(kinds)}
    return kinds, np.array([code[name] for name in names], dtype=np.int64)


def _asker(name: str) -> str:
    """Who asked for a block: of an op within scopes its type, for each op of a graph asks for few blocks."""
    return ("/" in name and type_of_kernel(name)) or name or UNNAMED


def _by_owner(blocks: Allocations, rows: Int64s, held: Int64s) -> tuple[tuple[str, ...], Int64s]:
    """Those who hold most at the peak, of which each block holds `held` bytes, and all others."""
    names: Sequence[str] = [_asker(blocks.name[row]) for row in rows.tolist()]
    sums: dict[str, int] = {}
    for name, size in zip(names, held.tolist(), strict=True):
        sums[name] = sums.get(name, 0) + size
    large = sorted(sums, key=lambda name: (-sums[name], name))[:_OWNERS]
    kinds = (*large, OTHERS) if len(sums) > len(large) else tuple(large)
    code = {name: number for number, name in enumerate(large)}
    return kinds, np.array([code.get(name, len(large)) for name in names], dtype=np.int64)
