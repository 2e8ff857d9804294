"""
The pieces in which a run may keep what a plan has as one weight: queries, keys and values, gate and up, experts.

What reads the product of a weight tells where it may be cut: a split into parts of certain widths, a gate that takes
two halves. A weight over several matrices (experts) may be one for each of them. Every op of the weight (its product,
both gradients, the sum of gradients, the update) may then run piece by piece, and a piece has sizes of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from memplan.align.op_families import families_of, family_table
from memplan.graph import TensorKind
from memplan.schema import Plan, PlannedOp

Pieces = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
"""Elements of each input and of each output of every piece that differs in size from the others."""

_OF_FORWARD, _OF_DX, _OF_DW = (False, True, True), (True, True, False), (True, False, True)
"""Which of the two factors and the product have the side that is cut, by what of the weight the op makes."""


def pieces_of_ops(plan: Plan) -> Mapping[int, Pieces]:
    """The pieces in which ops of `plan` may run, by op; ops that run whole are left out."""
    shares = dict(_shares(plan))
    found: dict[int, Pieces] = {}
    for op in plan.ops:
        if op.kernel is None or op.part is None:
            continue
        stem, _, end = op.part.rpartition(".")
        cut = shares.get((op.layer, op.part))
        sides: Sequence[bool] = _OF_FORWARD
        if cut is None:
            cut, sides = shares.get((op.layer, stem)), {"dx": _OF_DX, "dw": _OF_DW}.get(end, ())
        if cut is not None:
            found[op.index] = tuple(dict.fromkeys(_piece(plan, op, share, sides) for share in cut))
    return found


def _shares(plan: Plan) -> Iterator[tuple[tuple[int | None, str], tuple[tuple[int, int], ...]]]:
    """Layer and part of every product whose weight may be cut, with the shares of its pieces as fractions."""
    products = family_table().number("product"), family_table().number("grouped_product")
    readers: dict[int, list[int]] = {}
    for op in plan.ops:
        for tensor in op.reads or ():
            readers.setdefault(tensor, []).append(op.index)
    for weight in plan.tensors:
        if weight.kind != TensorKind.WEIGHT.value or len(weight.shape) < 2 or not weight.uses:
            continue
        first = plan.ops[min(weight.uses)]
        if first.kernel is None or first.part is None or families_of(first.type)[0] not in products:
            continue
        made = plan.kernels[first.kernel].outputs
        if not made or not made[0].shape:
            continue
        groups = weight.shape[0] if len(weight.shape) == 3 else 1
        width = made[0].shape[-1]
        after = [plan.ops[op] for tensor in first.writes or () for op in readers.get(tensor, ()) if op != first.index]
        widths = next((found for op in after if len(found := _cut_by(plan, op, width)) > 1), (width,))
        shares = {(part, width * groups) for part in widths}
        if groups > 1:
            shares.add((width, width * groups))
        shares.discard((width, width))
        if shares:
            yield (first.layer, first.part), tuple(sorted(shares))


def _cut_by(plan: Plan, op: PlannedOp, width: int) -> tuple[int, ...]:
    """The widths into which `op` cuts what it reads."""
    if op.kernel is None:
        return ()
    family = families_of(op.type)[0]
    made = [item.shape[-1] for item in plan.kernels[op.kernel].outputs if item.shape]
    if family == family_table().number("split") and sum(made) == width:
        return tuple(made)
    if family == family_table().number("gate") and made and made[0] * 2 == width:
        return made[0], made[0]
    return ()


def _piece(
    plan: Plan, op: PlannedOp, share: tuple[int, int], sides: Sequence[bool]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Elements of inputs and outputs of a share of an op."""
    assert op.kernel is not None
    kernel = plan.kernels[op.kernel]
    shapes = [*(None if item is None else item.shape for item in kernel.inputs), *(item.shape for item in kernel.outputs)]
    count, whole = len(kernel.inputs), share[1]
    sizes = []
    for place, shape in enumerate(shapes):
        size = 1 if shape is None else prod(shape)
        side = place if place < 2 else 2 if place == count else -1
        cut = side < 0 or side >= len(sides) or sides[side]
        sizes.append(size * share[0] // whole if cut and size % whole == 0 and size >= whole else size)
    return tuple(sizes[:count]), tuple(sizes[count:])
