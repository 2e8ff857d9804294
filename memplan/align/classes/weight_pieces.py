"""
The pieces in which a run may keep what a plan has as one weight: queries, keys and values, gate and up, experts.

What reads the product of a weight tells where it may be cut: a split into parts of certain widths, a gate that takes
two halves. A weight over several matrices (experts) may be one for each of them. Every op of the weight (its product,
both gradients, the sum of gradients, the update) may then run piece by piece, and a piece has sizes of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from memplan.align.classes.op_families import families_of, family_table
from memplan.graph import TensorKind
from memplan.schema import Plan, PlannedKernel, PlannedOp

Pieces = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
"""Elements of each input and of each output of every piece that differs in size from the others."""

_BIAS = ".bias"
"""The end of a bias's name; it is cut as its weight is."""
_SOFTMAX_SIDES = 4
"""Sides of what softmax keeps: sequences, heads, tokens, and the copies of each value."""
_MOST_SINGLE = 3
"""Tensors that an op on elements reads, as `addcdiv` does."""
_OF_FORWARD, _OF_DX, _OF_DW = (False, True, True), (True, True, False), (True, False, True)
"""Which of the two factors and the product have the side that is cut, by what of the weight the op makes."""


@dataclass(frozen=True, slots=True)
class WeightPiece:
    """A weight or a piece of one: its elements, and its rows where it is a matrix, else 0."""

    elements: int
    rows: int


def pieces_of_ops(plan: Plan) -> Mapping[int, Pieces]:
    """The pieces in which ops of `plan` may run, by op; ops that run whole are left out."""
    cuts = dict(_cuts(plan))
    found: dict[int, Pieces] = {}
    # A step of a million ops has some hundred kernels that differ.
    alike: dict[tuple[int, _Cut, tuple[bool, ...]], Pieces] = {}
    of_scope: dict[tuple[int | None, str], tuple[_Cut | None, tuple[bool, ...]]] = {}
    attention = {family_table().number(name) for name in ("attention", "attention_grad")}
    rotary = {family_table().number(name) for name in ("rotary", "rotary_grad")}
    vector_norm = family_table().number("vector_norm")
    heads = _head_widths(plan, attention)
    # How an op of a type, kernel and head runs, whatever its weights: () where no otherwise than whole.
    by_kind: dict[tuple[str, int, int], Pieces] = {}
    for op in plan.ops:
        if op.kernel is None:
            continue
        kind = op.type, op.kernel, heads.get(op.layer, 0)
        own = by_kind.get(kind)
        if own is None:
            own, family = (), families_of(op.type)[0]
            if family in rotary:
                own = _turned(plan.kernels[op.kernel], kind[2])
            if family in attention and (scores := _scores(plan.kernels[op.kernel])):
                own = (((scores, scores), (scores,)),)
            if not own and (family in family_table().keeping_size or family == vector_norm):
                own = _of_lists(plan.kernels[op.kernel])
            by_kind[kind] = own
        if own:
            found[op.index] = own
        if op.part is None:
            continue
        scope = op.layer, op.part
        how = of_scope.get(scope)
        if how is None:
            how = of_scope[scope] = _cut_of(cuts, *scope)
        cut, sides = how
        if cut is not None:
            key = op.kernel, cut, sides
            if key not in alike:
                alike[key] = _pieces(plan.kernels[op.kernel], cut, sides)
            found[op.index] = alike[key]
    return found


def _cut_of(
    cuts: Mapping[tuple[int | None, str], _Cut], layer: int | None, part: str
) -> tuple[_Cut | None, tuple[bool, ...]]:
    """How ops of a part may be cut, and which sides of them."""
    cut = cuts.get((layer, part))
    if cut is not None:
        return cut, _OF_FORWARD
    stem, _, end = part.rpartition(".")
    return cuts.get((layer, stem)), {"dx": _OF_DX, "dw": _OF_DW}.get(end, ())


def _pieces(kernel: PlannedKernel, cut: _Cut, sides: Sequence[bool]) -> Pieces:
    widths = sorted({width for widths in cut.ways for width in widths})
    return tuple(dict.fromkeys(_piece(kernel, width, cut.width * cut.groups, sides) for width in widths))


def pieces_of_updates(plan: Plan, updates: Iterable[int]) -> Mapping[int, tuple[tuple[WeightPiece, ...], ...]]:
    """For each update of a weight the ways in which a run may keep it, whole first: all pieces, in order."""
    cuts = dict(_cuts(plan))
    found = {}
    for update in updates:
        op = plan.ops[update]
        if op.kernel is None:
            continue
        kernel = plan.kernels[op.kernel]
        shapes = [item.shape for item in (*kernel.outputs, *kernel.inputs) if item is not None]
        # Where a rank updates a share of a weight, what is made of it beside that may be the whole weight.
        size = max(counts, key=lambda size: (counts[size], size)) if (counts := Counter(map(prod, shapes))) else 1
        shape = max((shape for shape in shapes if prod(shape) == size), key=len, default=())
        ways: list[tuple[WeightPiece, ...]] = [(WeightPiece(size, shape[0] if len(shape) == 2 else 0),)]
        stem = (op.part or "").rpartition(".")[0]
        whole = _without_bias(stem)
        cut = cuts.get((op.layer, whole))
        if cut is not None and size % (cut.width * cut.groups) == 0:
            each = size // (cut.width * cut.groups)
            ways += [
                tuple(WeightPiece(width * each, width if whole == stem else 0) for width in widths)
                for widths in cut.ways
            ]
        found[update] = tuple(ways)
    return found


def weights_of_biases(plan: Plan, updates: Iterable[int]) -> Mapping[int, int]:
    """The update of its weight for each update of a bias: a run that keeps one in pieces keeps the other so."""
    of_weight: dict[tuple[int | None, str], int] = {}
    biases: dict[int, tuple[int | None, str]] = {}
    for update in updates:
        op = plan.ops[update]
        stem = (op.part or "").rpartition(".")[0]
        whole = _without_bias(stem)
        if whole == stem:
            of_weight[op.layer, whole] = update
        else:
            biases[update] = op.layer, whole
    return {update: of_weight[key] for update, key in biases.items() if key in of_weight}


def _without_bias(stem: str) -> str:
    """The name of a weight, or of the one whose bias that is."""
    return "+".join(name.removesuffix(_BIAS) for name in stem.split("+"))


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a weight of `groups` matrices with `width` rows each may be cut: the rows of all pieces, in each way."""

    width: int
    groups: int
    ways: tuple[tuple[int, ...], ...]


def _cuts(plan: Plan) -> Iterator[tuple[tuple[int | None, str], _Cut]]:
    """Layer and part of every product whose weight may be cut, and how."""
    products = family_table().matrix_products
    weights, kind = [], TensorKind.WEIGHT.value
    for weight in plan.tensors:
        if weight.kind != kind or len(weight.shape) < 2 or not weight.uses:
            continue
        first = plan.ops[min(weight.uses)]
        if first.kernel is None or first.part is None or families_of(first.type)[0] not in products:
            continue
        made = plan.kernels[first.kernel].outputs
        if made and made[0].shape:
            weights.append((first, first.part, made[0].shape[-1], weight.shape[0] if len(weight.shape) == 3 else 1))
    readers = _readers(plan, {tensor for first, *_ in weights for tensor in first.writes or ()})
    for first, part, width, groups in weights:
        after = [plan.ops[op] for tensor in first.writes or () for op in readers.get(tensor, ()) if op != first.index]
        widths = next((found for op in after if len(found := _cut_by(plan, op, width)) > 1), ())
        ways = [(width,) * groups] if groups > 1 else []
        if widths:
            ways.append(widths * groups)
        if ways:
            yield (first.layer, part), _Cut(width, groups, tuple(ways))


def _readers(plan: Plan, tensors: Collection[int]) -> Mapping[int, Sequence[int]]:
    """The ops that read each of `tensors`."""
    found: dict[int, list[int]] = {tensor: [] for tensor in tensors}
    for op in plan.ops:
        for tensor in op.reads or ():
            if tensor in found:
                found[tensor].append(op.index)
    return found


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


def _of_lists(kernel: PlannedKernel) -> Pieces:
    """
    What an op over lists of tensors does with each: one of every list; () for an op over single tensors.

    It reads one list behind another, each of so many tensors of the same sizes, and makes as many, or what it reads.
    """
    read = [1 if item is None else prod(item.shape) for item in kernel.inputs]
    made = [prod(item.shape) for item in kernel.outputs]
    if len(made) == 1 or len(read) <= _MOST_SINGLE:
        return ()
    count = next(
        (
            length
            for lists in range(_MOST_SINGLE, 0, -1)
            if len(read) % lists == 0
            and len(made) in (0, length := len(read) // lists)
            and read[:length] * lists == read
        ),
        0,
    )
    if not count:
        return ()
    each = ((tuple(read[place::count]), (made[place] if made else read[place],)) for place in range(count))
    return tuple(dict.fromkeys(each))


def _scores(kernel: PlannedKernel) -> int:
    """
    Elements of all scores of attention, 0 where unknown: what it works on where it is written out.

    The operands with what softmax keeps of each row of scores tell sequences, heads and tokens.
    """
    rows = _softmax_rows(kernel)
    return 0 if rows is None else rows[0] * rows[1] * rows[2] * rows[2]


def _softmax_rows(kernel: PlannedKernel) -> tuple[int, ...] | None:
    """The shape of what softmax keeps of each row of scores."""
    operands = [*kernel.inputs, *kernel.outputs]
    return next((item.shape for item in operands if item is not None and len(item.shape) == _SOFTMAX_SIDES), None)


def _head_widths(plan: Plan, attention: Collection[int]) -> Mapping[int | None, int]:
    """The width of a head by layer, where attention keeps what tells how many there are."""
    found: dict[int | None, int] = {}
    for op in plan.ops:
        if op.layer in found or op.kernel is None or families_of(op.type)[0] not in attention:
            continue
        kernel = plan.kernels[op.kernel]
        rows, queries = _softmax_rows(kernel), next((item.shape for item in kernel.inputs if item is not None), ())
        if rows is not None and len(queries) == 2 and queries[1] % rows[1] == 0:
            found[op.layer] = queries[1] // rows[1]
    return found


def _turned(kernel: PlannedKernel, head: int) -> Pieces:
    """What a rotary embedding turns where that is a part of every head: the rest of each passes it by."""
    shapes = [item.shape for item in kernel.inputs if item is not None]
    if not head or len(shapes) < 2 or len(shapes[0]) != 2 or shapes[0][1] % head or shapes[1][-1] >= head:
        return ()
    size = prod(shapes[0]) // head * shapes[1][-1]
    return (((size, *map(prod, shapes[1:])), (size,)),)


def _piece(
    kernel: PlannedKernel, width: int, whole: int, sides: Sequence[bool]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Elements of inputs and outputs of what runs an op with `width` of `whole` rows of its weight."""
    read = [None if item is None else item.shape for item in kernel.inputs]
    made = [item.shape for item in kernel.outputs]
    sizes = []
    for place, shape in enumerate([*read, *made]):
        size = 1 if shape is None else prod(shape)
        side = place if place < 2 else 2 if place == len(read) else -1
        cut = side < 0 or side >= len(sides) or sides[side]
        sizes.append(size * width // whole if cut and size % whole == 0 else size)
    return tuple(sizes[: len(read)]), tuple(sizes[len(read) :])
