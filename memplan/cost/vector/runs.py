"""
The runs of contiguous bytes that a vector kernel's operands are cut into, and how layout changes are cut over cores.

Layout changes between images or filters and blocks of channels (TransData) have one schedule in the library (CANN 8.1,
tbe/dsl/unify_schedule/vector/transdata): one outer dimension is bound to the cores, and blocks of 32 bytes that don't
lie together behind are moved one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from memplan.cost.kernels.kernel import Kernel, Operand, element_bytes
from memplan.cost.kernels.op_classes import OpClass
from memplan.cost.machine import Machine

_TILE = 64
"""Elements of a side of the tile that a transposition of the last dimension goes through (assumption)."""
_JOINS = frozenset({"concat", "concatd", "concatv2", "pack", "stack", "sequenceconcat"})
_PARTS = frozenset({"split", "splitd", "splitv", "splitvd", "splitwithsize", "splittensor", "unpack", "chunk"})
_IMAGE_DIMS, _WORD = 4, 4


@dataclass(frozen=True, slots=True)
class Runs:
    """
    Bytes of the runs that are read and written, 0 for pieces as long as UB takes; `apart` where bytes that nobody reads
    lie between them.
    """

    read: float = 0.0
    written: float = 0.0
    apart: bool = False


def contiguous_runs(kernel: Kernel, rule: OpClass, *, joined: bool = False) -> Runs:
    """
    The runs of `kernel`: a slice reads parts of rows, gated activations and rotary positions halves of them, joining
    and splitting move each part's rows, and a transposition the dimensions that stay innermost.

    `joined` where kernels put short runs together in UB: rows whose parts are turned there lie together, parts have
    runs of their own, tiles that hold whole rows are written as they lie. Else the shortest run is that of all.
    """
    if not kernel.present or not kernel.outputs or (joined and turned_bytes(kernel, rule)):
        return Runs()
    source, result = kernel.present[0], kernel.outputs[0]
    if rule.kind == "slice":
        return Runs(read=_shared(source, result), apart=True)
    if rule.rule in ("swiglu", "swiglu_gradient", "swiglu_quant"):
        wide = max(kernel.operands, key=lambda operand: operand.shape[-1] if operand.shape else 0)
        half = _bytes(wide, wide.shape[-1] // 2) if wide.shape else 0.0
        return Runs(read=half, written=half if rule.rule == "swiglu_gradient" else 0.0)
    if rule.rule == "rotary" and source.shape:
        half = _bytes(source, source.shape[-1] // 2)
        return Runs(read=half, written=half)
    name = kernel.type.casefold()
    if name in _JOINS:
        return Runs(written=_run_of_parts(result, kernel.present, joined=joined))
    if name in _PARTS:
        return Runs(read=_run_of_parts(source, kernel.outputs, joined=joined))
    if name.startswith("transdata"):
        return _blocked_runs(source, result)
    if rule.kind == "transpose" and len(source.shape) == len(result.shape) > 1:
        return _transposed_runs(source, result, joined=joined)
    return Runs()


def _bytes(operand: Operand, elements: int) -> float:
    return elements * element_bytes(operand.dtype)


def _shared(whole: Operand, part: Operand) -> float:
    """Bytes of `part` that lie together in `whole`, 0 where all of it does."""
    if len(whole.shape) != len(part.shape):
        return 0.0
    run = 1
    for place in range(len(part.shape) - 1, -1, -1):
        run *= part.shape[place]
        if part.shape[place] != whole.shape[place]:
            outside = part.count // max(run, 1)
            return _bytes(part, run) if outside > 1 else 0.0
    return 0.0


def _run_of_parts(whole: Operand, parts: Sequence[Operand], *, joined: bool) -> float:
    """Bytes of a run of `parts` in `whole`, their mean or the least; 0 where all of them lie there in one."""
    runs = [(part.nbytes, run) for part in parts if (run := _shared(whole, part))]
    if not joined:
        return min((run for _, run in runs), default=0.0)
    return sum(size for size, _ in runs) / sum(size / run for size, run in runs) if runs else 0.0


_TURNED_ROW_BYTES, BLOCK_BYTES = 256, 32
"""Rows up to this long are turned in UB by sixteens, a block a cycle (CANN 8.1, strided_slice_for_last_dim.py)."""


def turned_bytes(kernel: Kernel, rule: OpClass) -> float:
    """
    Bytes that a kernel turns in UB, there and back, to take or give parts of short rows; 0 where it doesn't.

    Of joining and splitting those of equal parts of less than a block are turned (split_last_dim.py,
    concat_last_dim.py), others moved one by one.
    """
    if not kernel.present or not kernel.outputs:
        return 0.0
    source, result, name = kernel.present[0], kernel.outputs[0], kernel.type.casefold()
    parts: tuple[Operand, ...]
    if rule.kind == "slice":
        whole, parts = (source, (result,)) if source.count >= result.count else (result, (source,))
    elif name in _JOINS:
        whole, parts = result, kernel.present
    elif name in _PARTS:
        whole, parts = source, kernel.outputs
    else:
        return 0.0
    rows = {part.shape[-1:] for part in parts}
    cut = all(len(part.shape) == len(whole.shape) and part.shape[:-1] == whole.shape[:-1] for part in parts)
    if not whole.shape or not cut or rows == {whole.shape[-1:]} or _bytes(whole, whole.shape[-1]) > _TURNED_ROW_BYTES:
        return 0.0
    short = len(rows) == 1 and _bytes(parts[0], parts[0].shape[-1]) < BLOCK_BYTES
    return float(whole.nbytes + sum(part.nbytes for part in parts)) if short or rule.kind == "slice" else 0.0


def _blocked_runs(source: Operand, result: Operand) -> Runs:
    """Between (N, C, H, W) and blocks of channels: all of a channel of an image lies together, or all of a filter."""
    apart = 1 if "FRACTAL_Z" in (source.layout, result.layout) else 2
    if len(source.shape) == 4 and source.layout == "ND":
        return Runs(read=_bytes(source, prod(source.shape[apart:])))
    if len(result.shape) == 4 and result.layout == "ND":
        return Runs(written=_bytes(result, prod(result.shape[apart:])))
    return Runs()


def _transposed_runs(source: Operand, result: Operand, *, joined: bool) -> Runs:
    """
    Dimensions that are innermost before and behind move as they are; else tiles of both are turned.

    Of equal shapes the innermost dimensions that are of one size have changed places.
    """
    inner = _innermost_kept(source.shape, result.shape)
    if inner is None:
        return Runs()
    if inner > 1:
        return Runs(read=_bytes(source, inner))
    sides = [min(operand.shape[-1], _TILE) for operand in (source, result)]
    if joined:
        # A tile of few rows is as much longer, and what it holds of whole rows lies together.
        sides = [
            min(operand.shape[-1], _TILE * _TILE // other)
            for operand, other in zip((source, result), sides[::-1], strict=True)
        ]
        area = sides[0] * sides[1]
        whole = [side == operand.shape[-1] for operand, side in zip((source, result), sides, strict=True)]
        if whole[0] and source.shape[-2] == result.shape[-1]:
            sides[0] = area
        if whole[1] and result.shape[-2] == source.shape[-1]:
            sides[1] = area
    return Runs(read=_bytes(source, sides[0]), written=_bytes(result, sides[1]))


def _innermost_kept(before: Sequence[int], behind: Sequence[int]) -> int | None:
    """Elements of the dimensions behind the last one that changes its place, `None` where none can have changed it."""
    inner = 1
    for place in range(len(before) - 1, -1, -1):
        alike = before[place] > 1 and before[place] in before[:place]
        if before[place] != behind[place] or (before == behind and alike):
            return inner
        inner *= before[place]
    return None


@dataclass(frozen=True, slots=True)
class Relayout:
    """Cores that a layout change runs on, and cycles in which its busiest core moves blocks one by one."""

    cores: int
    cycles: float


def relayout_of(kernel: Kernel, machine: Machine) -> Relayout | None:
    """The cut of a layout change between images or filters (N, C, H, W) and blocks of channels, `None` for others."""
    if not kernel.type.casefold().startswith("transdata") or not kernel.present or not kernel.outputs:
        return None
    sides = (kernel.present[0], kernel.outputs[0])
    plain = next((side for side in sides if side.layout == "ND" and len(side.shape) == _IMAGE_DIMS), None)
    blocked = next((side for side in sides if side.layout in ("NC1HWC0", "FRACTAL_Z")), None)
    if plain is None or blocked is None or not plain.count or not blocked.shape or not blocked.count:
        return None
    cores = kernel.block_count or _cores(plain, blocked, machine)
    cycles = 0.0
    if blocked.layout == "FRACTAL_Z":
        # Each block of a filter's channels lies with those of other filters behind, so that each is moved on its own.
        cycles = blocked.count / blocked.shape[-1] * machine["mte2_instruction_cycles"]
    elif element_bytes(plain.dtype) == _WORD:
        # Cores that can't turn such blocks put each pixel's together on its own; others take no time for that.
        cycles = blocked.count / blocked.shape[-1] * machine["word_block_cycles"]
    return Relayout(cores, cycles / cores)


def _cores(plain: Operand, blocked: Operand, machine: Machine) -> int:
    """
    Images or filters are dealt out whole; where they are fewer than half of the cores, by blocks of channels, and by
    rows of pixels too where the library does so.
    """
    most, outer = machine.vectors, plain.shape[0]
    if 2 * outer < most and blocked.layout == "NC1HWC0":
        outer = prod(blocked.shape[: 3 if machine["deals_pixel_rows"] else 2])
    return ceil(outer / ceil(outer / most))
