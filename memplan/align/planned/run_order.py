"""
The order in which a run does what a plan may do in any: updates of weights, and the two gradients of a product.

Updates come as planned, as weights were registered, or either reversed; every one has the size of its weight, and the
candidate whose sizes are most like those of the kernels between the last product of a step and the first of the next
is the run's. Of the two gradients of a product the one comes first that makes the sequence of products more like the
run's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from math import prod

import numpy as np

from memplan.align.classes.op_families import families_of, family_table, types_of_family
from memplan.align.classes.tokens import TokenClasses
from memplan.align.classes.weight_pieces import Pieces, WeightPiece, pieces_of_ops
from memplan.align.planned.branch_order import branches
from memplan.align.planned.time_ranks import likeness_of_times
from memplan.core.arrays import Float32s, Int32s, Int64s
from memplan.graph import TensorKind
from memplan.schema import Plan, PlannedOp

_Shape = tuple[int, ...]
_Product = tuple[tuple[_Shape, _Shape], _Shape]
"""Shapes of both factors and of what is made of them."""
_MOST = 20_000
"""Kernels looked at; a step's updates are fewer."""
_FEWEST = 3
"""Updates from which their order is asked for."""
_BIAS = ".dbias"
"""The end of the part that sums the gradient of a bias."""
_CLEARLY = 2
"""How much more often gradients must come the other way round than as planned."""
_BETTER, _BETTER_TIMED = 1.1, 1.3
"""By how much more of another order must be found than of the planned one, by sizes and by times."""


def ops_as_run(
    plan: Plan,
    kernels: TokenClasses,
    kernel_class: Int32s,
    times: Float32s,
    pieces: Mapping[int, Sequence[WeightPiece]],
    cut: Mapping[int, Pieces] | None = None,
) -> list[int]:
    """
    The ops of `plan` that launch something, by index, in the order of the run, whose kernels took `times` (ns).

    `pieces` are those in which the run updates weights, one kernel each; empty where that isn't known. `cut` is what
    `pieces_of_ops` says.
    """
    if pieces:
        updates = units_as_run(plan, kernels, kernel_class, pieces)
    else:
        updates = updates_as_run(plan, kernels, kernel_class, times)
    places, order = set(updates), iter(updates)
    ops = [next(order) if op.index in places else op.index for op in plan.ops if op.launches or op.kernel is not None]
    turned = _Gradients(plan, ops, _products_run(kernels, kernel_class), cut).turned()
    return [ops[place] for place in turned]


class _Gradients:
    """
    The two gradients of every product: which of them a run makes first.

    Frameworks differ in it between products with a bias and without (the nodes of autograd are others), so each kind
    is asked by itself, and where all sizes of a kind are equal, as of a square weight and as many tokens, all together.
    """

    def __init__(self, plan: Plan, ops: Sequence[int], ran: Sequence[int], cut: Mapping[int, Pieces] | None) -> None:
        self.plan, self.ops = plan, ops
        self.products, self.which = _products_planned(plan, ops)
        self.pieces = pieces_of_ops(plan) if cut is None else cut
        self.votes = Counter(pairwise(ran))
        self.biased = {(op.layer, op.part.rpartition(".")[0]) for op in plan.ops if op.part and op.part.endswith(_BIAS)}

    def turned(self) -> list[int]:
        """The places of all ops, with those of both gradients of a product as the run has them."""
        order = list(range(len(self.ops)))
        pairs: dict[bool, list[int]] = {True: [], False: []}
        alike: dict[tuple[int, int], bool] = {}
        for place, (first, second) in enumerate(pairwise(self.which)):
            if first < 0 or second < 0:
                continue
            if (first, second) not in alike:
                alike[first, second] = _both_gradients(self.products[first], self.products[second])
            if alike[first, second]:
                pairs[self._has_bias(self.ops[place])].append(place)
        counts = {kind: self._counts(places) for kind, places in pairs.items()}
        together = tuple(sum(column) for column in zip(*counts.values(), strict=True))
        for kind, places in pairs.items():
            planned, other = counts[kind] if any(counts[kind]) else together
            if other > planned * _CLEARLY:
                for place in places:
                    order[place], order[place + 1] = place + 1, place
        return order

    def _has_bias(self, number: int) -> bool:
        op = self.plan.ops[number]
        return op.part is not None and (op.layer, op.part.rpartition(".")[0]) in self.biased

    def _counts(self, places: Sequence[int]) -> tuple[int, int]:
        """How often the run has such gradients as planned, and how often the other way round."""
        told: set[tuple[int, int]] = set()
        for first, second in {(self.which[place], self.which[place + 1]) for place in places}:
            told.add((_told(self.products[first]), _told(self.products[second])))
        # Pieces that are alike are mostly one object.
        cut = [tuple(self.pieces.get(self.ops[place + side], ()) for side in (0, 1)) for place in places]
        for both in {(id(first), id(second)): (first, second) for first, second in cut}.values():
            told |= {(_sizes(first), _sizes(second)) for first, second in zip(*both, strict=False)}
        pairs = [(first, second) for first, second in told if first != second]  # others don't tell
        return sum(self.votes[pair] for pair in pairs), sum(self.votes[second, first] for first, second in pairs)


def _both_gradients(first: _Product, second: _Product) -> bool:
    """Whether two products that follow one another are the gradients of what one product read."""
    (gradient, _), made = first
    (again, source), _ = second
    return gradient == again and made == source


def _products_planned(plan: Plan, ops: Sequence[int]) -> tuple[list[_Product], list[int]]:
    """Products of `ops` that differ, and which of them each op is, -1 for other ops."""
    index: dict[_Product, int] = {}
    known: dict[tuple[str, int | None], int] = {}
    which = []
    for number in ops:
        op = plan.ops[number]
        key = op.type, op.kernel
        if key not in known:
            product = _product(plan, op)
            known[key] = -1 if product is None else index.setdefault(product, len(index))
        which.append(known[key])
    return list(index), which


def _product(plan: Plan, op: PlannedOp) -> _Product | None:
    """Shapes of the factors and of the product; `None` for other ops."""
    if op.kernel is None or families_of(op.type)[0] not in family_table().matrix_products:
        return None
    shapes = [item.shape for item in plan.kernels[op.kernel].inputs if item is not None]
    made = plan.kernels[op.kernel].outputs
    return ((shapes[0], shapes[1]), made[0].shape) if len(shapes) > 1 and made else None


def _told(product: _Product) -> int:
    """What tells a planned product, as a number."""
    (first, second), made = product
    return hash((prod(first), prod(second), prod(made)))


def _sizes(piece: tuple[Sequence[int], Sequence[int]]) -> int:
    """The same of a piece of one."""
    read, made = piece
    return hash((*read[:2], *made[:1]))


def _products_run(kernels: TokenClasses, kernel_class: Int32s) -> list[int]:
    """The same of the products that ran."""
    chosen = kernel_class[kernels.among(family_table().matrix_products)[kernel_class]][:_MOST]
    told = [
        hash((int(row[0]), int(row[1]), int(made)))
        for row, made in zip(kernels.inputs, kernels.outputs.max(axis=1), strict=True)
    ]
    return [told[kind] for kind in chosen.tolist()]


def planned_updates(plan: Plan) -> list[int]:
    """The updates of weights of `plan`, ops by index."""
    optimizer = family_table().number("optimizer")
    types = types_of_family((op.type for op in plan.ops), optimizer)
    return [op.index for op in plan.ops if op.type in types and op.launches and op.kernel is not None]


def units_as_run(
    plan: Plan, kernels: TokenClasses, kernel_class: Int32s, pieces: Mapping[int, Sequence[WeightPiece]]
) -> tuple[int, ...]:
    """The updates of `plan` in the order in which a run updates `pieces` of their weights, one kernel each."""
    updates = planned_updates(plan)
    if len(updates) < _FEWEST:
        return tuple(updates)
    optimizer = family_table().number("optimizer")
    chosen = kernel_class[(kernels.main == optimizer)[kernel_class]][: sum(map(len, pieces.values()))]
    told = {kind: hash((int(kernels.inputs[kind].max()), int(kernels.rows[kind]))) for kind in set(chosen.tolist())}
    ran = np.array([told[kind] for kind in chosen.tolist()], dtype=np.int64)

    def likeness(order: Sequence[int]) -> int:
        planned = [hash((piece.elements, piece.rows)) for op in order for piece in pieces[op]]
        best = np.zeros(len(ran) + 1, dtype=np.int64)
        for one in planned:
            best[1:] = np.maximum.accumulate(np.maximum(best[:-1] + (ran == one), best[1:]))
        return int(best[-1])

    orders = [updates, *_other_orders(plan, updates)]
    found = [likeness(order) for order in orders]
    return tuple(orders[found.index(max(found))])


def updates_as_run(plan: Plan, kernels: TokenClasses, kernel_class: Int32s, times: Float32s) -> tuple[int, ...]:
    """
    The updates of `plan`, ops by index, in the order of the run; as planned where that tells no other.

    Where no update has a shape, what kernels took (`times`, ns) tells it.
    """
    updates = planned_updates(plan)
    if len(updates) < _FEWEST:
        return tuple(updates)
    size = {op: _elements(plan, op) for op in updates}
    passes = _sizes_between_products(kernels, kernel_class, set(size.values()))
    ran = _updates_run(kernels, kernel_class, times)

    def likeness(order: Sequence[int]) -> float:
        if not passes:
            return likeness_of_times([plan.ops[op].duration_ns for op in order], ran)
        return sum(_common([size[op] for op in order], ran) for ran in passes)

    best, most = updates, likeness(updates) * (_BETTER if passes else _BETTER_TIMED)
    for order in _other_orders(plan, updates):
        found = likeness(order)
        if found > most:
            best, most = order, found
    return tuple(best)


def _elements(plan: Plan, op: int) -> int:
    kernel = plan.ops[op].kernel
    shapes = [] if kernel is None else [item.shape for item in plan.kernels[kernel].inputs if item is not None]
    return max((int(np.prod(shape)) for shape in shapes), default=0)


def _other_orders(plan: Plan, updates: Sequence[int]) -> list[list[int]]:
    """
    The orders that frameworks have, each once: of registration, which is mostly that of first use, or matrices first.

    In HuggingFace transformers a layer of GPT-NeoX registers its norms before attention and feed-forward part, one of
    Llama or Qwen2 behind them.
    """
    wanted = set(updates)
    first: dict[int, int] = {}
    matrix: dict[int, bool] = {}
    tensor_of: dict[int, int] = {}
    kind = TensorKind.WEIGHT.value
    for number, tensor in enumerate(plan.tensors):
        if tensor.kind == kind:
            for op in wanted.intersection(tensor.uses):
                first[op], matrix[op], tensor_of[op] = min(tensor.uses), len(tensor.shape) > 1, number
    uses = {op: first.get(op, op) for op in updates}
    # Of what one op uses, as the weight and the bias of a norm, the first operand is registered first.
    registered = sorted(updates, key=lambda op: (uses[op], tensor_of.get(op, -1)))
    later = _beside_experts(plan, set(uses.values()))
    experts_first = sorted(registered, key=lambda op: later.get(uses[op], (uses[op], 0)))
    grouped = sorted(registered, key=lambda op: not matrix.get(op, False))
    begins: dict[int | None, int] = {}
    for place, op in enumerate(registered):
        begins.setdefault(plan.ops[op].layer, place)
    place_of = {op: place for place, op in enumerate(registered)}

    def layer(op: int) -> int:
        number = plan.ops[op].layer
        return place_of[op] if number is None else begins[number]

    norm = family_table().number("norm")
    norms = {op for op, use in uses.items() if families_of(plan.ops[use].type)[0] == norm}
    matrices_first = sorted(registered, key=lambda op: (layer(op), not matrix.get(op, False)))
    vectors_first = sorted(registered, key=lambda op: (layer(op), matrix.get(op, False)))
    # Biases stand beside their matrices, and norms before or behind all of a layer's products.
    norms_first = sorted(registered, key=lambda op: (layer(op), op not in norms))
    norms_last = sorted(registered, key=lambda op: (layer(op), op in norms))
    orders = (
        experts_first, registered, list(reversed(updates)), list(reversed(registered)), grouped, matrices_first,
        vectors_first, norms_first, norms_last,
    )  # fmt: skip
    return [list(order) for order in dict.fromkeys(map(tuple, orders))]


def _beside_experts(plan: Plan, using: set[int]) -> dict[int, tuple[int, int]]:
    """
    Where in the order of first use the ops of `using` stand that run beside experts, such as a shared one.

    A plan has them first, frameworks register their weights after those of the experts (HuggingFace transformers'
    DeepseekV3MoE and Qwen2MoeSparseMoeBlock, Megatron-LM core's MoELayer).
    """
    grouped = family_table().number("grouped_product")
    found: dict[int, tuple[int, int]] = {}
    forward = (op for op in plan.ops if op.phase == "forward" and op.layer is not None and op.launches)
    seen: set[int | None] = set()
    for (_, layer), group in groupby(forward, lambda op: (op.micro_batch, op.layer)):
        members = list(group)
        if layer in seen or not any(families_of(op.type)[0] == grouped for op in members):
            continue
        seen.add(layer)
        for begin, middle, end in branches(members):
            routed = [families_of(op.type)[0] == grouped for op in members[begin:end]]
            if any(routed[middle - begin :]) and not any(routed[: middle - begin]):
                last = members[end - 1].index
                found |= {op.index: (last, 1 + op.index) for op in members[begin:middle] if op.index in using}
    return found


def _between_products(kernels: TokenClasses, kernel_class: Int32s) -> slice:
    """The longest stretch of kernels without a product."""
    heavy = kernels.among(family_table().heavy)[kernel_class]
    edges = np.concatenate(([-1], np.flatnonzero(heavy), [len(kernel_class)]))
    widest = int(np.argmax(np.diff(edges)))
    begin = int(edges[widest]) + 1
    return slice(begin, min(int(edges[widest + 1]), begin + _MOST))


def _updates_run(kernels: TokenClasses, kernel_class: Int32s, times: Float32s) -> list[int]:
    """What the kernels took that update weights, between the same two products."""
    where = _between_products(kernels, kernel_class)
    updates = (kernels.main == family_table().number("optimizer"))[kernel_class[where]]
    return [int(time) for time in times[where][updates].tolist()]


def _sizes_between_products(kernels: TokenClasses, kernel_class: Int32s, sizes: set[int]) -> list[Int64s]:
    """
    Sizes that updates may have, of kernels in the longest stretch without a product; equal neighbours are one.

    Kernels of each family by themselves: norms of all gradients come before all of the updates.
    """
    stretch = kernel_class[_between_products(kernels, kernel_class)]
    largest = kernels.inputs.max(axis=1)[stretch]
    divides = {one: any(size % one == 0 for size in sizes) for one in np.unique(largest[largest > 0]).tolist()}
    chosen = np.array([divides.get(one, False) for one in largest.tolist()], dtype=np.bool_)
    found = []
    for family in np.unique(kernels.main[stretch]).tolist():
        mine = largest[chosen & (kernels.main[stretch] == family)]
        if len(mine):
            found.append(mine[np.concatenate(([True], np.diff(mine) != 0))])
    return found


def _common(planned: Sequence[int], ran: Int64s) -> float:
    """The heaviest common subsequence: large weights and whole ones tell more than small ones and pieces."""
    best = np.zeros(len(ran) + 1)
    weight = np.log2(np.maximum(ran, 1) + 1.0)
    for size in planned:
        fits = size % np.maximum(ran, 1) == 0
        worth = np.where(ran == size, weight, np.where(fits, weight / 2, 0.0))
        best[1:] = np.maximum.accumulate(np.maximum(best[:-1] + worth, best[1:]))
    return float(best[-1])
