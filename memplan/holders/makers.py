"""
What may have made a block: kernels with the bytes of their outputs, or the ops of a plan where no kernel is known.

The host asks for an op's outputs just before it issues the kernel that writes them, so blocks and kernels come in one
order; what a kernel writes is in its output shapes, whatever the framework calls the op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.align import Alignment
from memplan.align.classes.op_families import families_of, family_table
from memplan.align.classes.tokens import dtype_bits
from memplan.core.arrays import Floats, Int32s, Int64s
from memplan.schema import Plan
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.profile import Allocations, Kernels

_WIDTH, _LEAST_WIDTH, _CELLS = 512, 32, 1 << 24
"""Kernels looked at for a block, and how many pairs are kept in memory at most."""
_CLOCKS_NS = 200_000
"""By which the clocks of host and device may differ."""
_BEHIND_NS = 50_000_000
"""How much earlier than the block a kernel may start at most, however far the clocks are apart."""
_IN_PLACE = 0.1
_LEFT_OUT = 2.0
_MOST_OUTPUTS = 62


@dataclass(frozen=True, slots=True)
class Makers:
    """
    What may have made blocks, in order: `output[first[k] : first[k + 1]]` are the bytes of the outputs of maker `k`.

    `family` is its family of ops, 0 where unknown; `start_ns` when it began on the device, the largest number where
    there is no telling; `skip` is how unlikely it is that none of its outputs has a block of its own.
    """

    first: Int64s
    output: Int64s
    family: Int32s
    start_ns: Int64s
    skip: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.family)


@dataclass(frozen=True, slots=True)
class MadeBlocks:
    """For every block the maker that it was asked for (-1 unknown), and which output it is (-1: scratch of it)."""

    maker: Int64s
    output: Int64s
    fit: Floats


def makers_of_kernels(kernels: Kernels, plan: Plan | None, alignment: Alignment | None) -> Makers:
    """The kernels of a table; those without shapes (collectives) write what the op that they run does."""
    shapes, types = dictionary_encoded(kernels.output_shapes), dictionary_encoded(kernels.output_dtypes)
    kinds, names = dictionary_encoded(kernels.type), dictionary_encoded(kernels.name)
    known: dict[tuple[int, int], tuple[int, ...]] = {}
    op_of = alignment.likeliest().first_ops() if alignment is not None else {}
    sizes: list[tuple[int, ...]] = []
    for row, key in enumerate(zip(shapes.codes.tolist(), types.codes.tolist(), strict=True)):
        if key not in known:
            known[key] = _bytes(shapes.values[key[0]], types.values[key[1]])
        found = known[key]
        if not found and plan is not None and row in op_of:
            found = _planned_outputs(plan, op_of[row])
        sizes.append(found)
    families = np.array([families_of(kind)[0] for kind in kinds.values], dtype=np.int32)
    in_place = np.array(["inplace" in name.casefold() for name in names.values], dtype=np.bool_)
    return _makers(sizes, families[kinds.codes], kernels.start_ns, in_place[names.codes])


def makers_of_plan(plan: Plan, steps: int) -> Makers:
    """The ops of a plan, `steps` times in a row: each makes the storages that it writes first, and its scratch."""
    made: list[list[int]] = [[] for _ in plan.ops]
    for tensor in plan.tensors:
        if tensor.producer is not None:
            made[tensor.producer].append(tensor.nbytes)
    sizes = [tuple(sorted(found, reverse=True)) for found in made] * steps
    family = np.tile(np.array([families_of(op.type)[0] for op in plan.ops], dtype=np.int32), steps)
    never = np.full(len(sizes), np.iinfo(np.int64).max // 2, dtype=np.int64)
    return _makers(sizes, family, never, np.zeros(len(sizes), dtype=np.bool_))


def _makers(sizes: Sequence[tuple[int, ...]], family: Int32s, start_ns: Int64s, in_place: NDArray[np.bool_]) -> Makers:
    counts = np.array([min(len(found), _MOST_OUTPUTS) for found in sizes], dtype=np.int64)
    first = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    output = np.array([size for found in sizes for size in found[:_MOST_OUTPUTS]], dtype=np.int64)
    large = np.array([max(found, default=0) > 512 for found in sizes], dtype=np.bool_)
    skip = np.where(large, np.where(in_place, _IN_PLACE, _LEFT_OUT), 0.0).astype(np.float32)
    return Makers(first, output, family, start_ns, skip)


def made_by(allocations: Allocations, makers: Makers) -> MadeBlocks:
    """Which maker each block was asked for; blocks are in order of allocation."""
    from memplan.holders.maker_loops import trace

    count = len(allocations)
    nothing = np.full(count, -1, dtype=np.int64)
    listed = np.flatnonzero(allocations.allocation_ns >= 0)
    if not len(listed) or not len(makers):
        return MadeBlocks(nothing, nothing.copy(), np.zeros(count))
    asked, size = allocations.allocation_ns[listed], allocations.size[listed]
    width = int(min(_WIDTH, max(_LEAST_WIDTH, _CELLS // len(listed))))
    if makers.start_ns[0] > asked[-1]:  # no clock: the path may begin anywhere in the first step
        width = int(min(len(makers), max(_LEAST_WIDTH, _CELLS // len(listed))))
    least = np.searchsorted(makers.start_ns, asked - _BEHIND_NS)
    _, where, often = np.unique(size, return_inverse=True, return_counts=True)
    gain = np.clip(np.log(len(listed) / often[where]) + 0.5, 0.5, 6.0).astype(np.float32)
    names = dictionary_encoded([allocations.name[row] for row in listed.tolist()])
    known = np.array([_family(name) for name in names.values], dtype=np.int32)
    maker, output, fit = trace(
        size, brief_blocks(allocations)[listed], known[names.codes], gain, asked, makers.first, makers.output,
        makers.family, makers.skip, makers.start_ns, least, width, _CLOCKS_NS,
    )  # fmt: skip
    found = MadeBlocks(nothing, nothing.copy(), np.zeros(count))
    found.maker[listed], found.output[listed], found.fit[listed] = maker, output, fit
    return found


def brief_blocks(allocations: Allocations) -> NDArray[np.bool_]:
    """Blocks that are gone before the next is asked for: nothing can have read them after the op that asked."""
    following = np.append(allocations.allocation_ns[1:], np.iinfo(np.int64).max)
    return (allocations.release_ns >= 0) & (allocations.release_ns <= following) & (allocations.allocation_ns >= 0)


def _family(name: str) -> int:
    """The family of a framework's op; one that moves data may be any of them."""
    number = families_of(name)[0] if name else 0
    return 0 if number in family_table().movers else number


def _bytes(shapes: str, types: str) -> tuple[int, ...]:
    """Bytes of each operand of `4096,1024;1024;` of types `DT_BF16;FLOAT`; empty where the table has none."""
    shapes, types = shapes.strip().strip('"'), types.strip().strip('"')
    if shapes in ("", "N/A"):
        return ()
    kinds, found = types.split(";"), []
    for place, operand in enumerate(shapes.split(";")):
        dims = [dim.strip() for dim in operand.split(",") if dim.strip()]
        if not dims or place >= len(kinds) or not all(dim.isdigit() for dim in dims):
            continue
        size = dtype_bits(kinds[place])
        for dim in dims:
            size *= int(dim)
        if 0 < size < 2**60:
            found.append((size + 7) // 8)
    return tuple(found)


def _planned_outputs(plan: Plan, op: int) -> tuple[int, ...]:
    kernel = plan.ops[op].kernel
    return () if kernel is None else tuple(output.nbytes for output in plan.kernels[kernel].outputs)
