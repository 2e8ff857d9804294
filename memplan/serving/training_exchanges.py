"""
What a training step waits for of exchanges: of tensor-parallel ranks, beside or within whose products they run, and of
ranks that gather weights and spread gradients layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from memplan.cost import Kernel, Machine, Operand, kernel_cost
from memplan.cost.kernels.op_kernels import kernel_of_op
from memplan.cost.limits import KernelCost
from memplan.graph import Graph, Op
from memplan.models.training.step_recipe import Recipe
from memplan.serving.eager_kernels import BesideProducts, op_phase
from memplan.serving.step_parts import BACKWARD_PHASES, FORWARD_PHASES

_GROUP = "tp"
_EXCHANGES = frozenset({"AllGather", "ReduceScatter", "AllReduce"})
_PRODUCT = "MatMul"
_REPLICAS = ("dp", "edp")
_WAYS = FORWARD_PHASES | BACKWARD_PHASES


@dataclass(frozen=True, slots=True)
class Exposed:
    """
    By the place of an op in its graph: nanoseconds that an exchange holds the device up, those it does once more behind
    the op (a gather repeated for a gradient), and exchanges that are part of another op's launch.
    """

    durations: dict[int, float] = field(default_factory=dict)
    repeated: dict[int, float] = field(default_factory=dict)
    within: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class WeightExchanges:
    """
    Exchanges that run beside other layers, by the place of their op, as the number that it is known by; and for each op
    that reads what some of them give, or what is a view of it, their numbers.
    """

    numbers: dict[int, int] = field(default_factory=dict)
    reads: dict[int, tuple[int, ...]] = field(default_factory=dict)


def exchanges_of_weights(graph: Graph, beside: BesideProducts | None) -> WeightExchanges:
    """The exchanges of weights and gradients in the ways forward and back; none where `beside` is `None`."""
    found = WeightExchanges()
    if beside is None:
        return found
    given: dict[int, int] = {}
    for place, op in enumerate(graph.ops):
        read = {given[root] for index in op.inputs if (root := graph.tensors[index].storage) in given}
        if read:
            found.reads[place] = tuple(sorted(read))
        if op.type in _EXCHANGES and op_phase(op) in _WAYS and str(op.attrs.get("group")).startswith(_REPLICAS):
            found.numbers[place] = place
            given.update((graph.tensors[index].storage, place) for index in op.outputs)
    return found


def exposed_exchanges(
    graph: Graph, costs: Sequence[KernelCost | None], recipe: Recipe, machine: Machine, beside: BesideProducts | None
) -> Exposed:
    """
    What is left of the tensor-parallel exchanges of `graph`, whose ops cost `costs`.

    On the way back of a column-parallel layer the input is gathered again beside the product that gives its gradient,
    and that gradient is exchanged beside the product that gives the weight's. With `recipe.fused_exchanges` or
    `recipe.exchange_pieces` all others are cut into pieces, each exchanged while the next one is multiplied, or the
    other way round. Nothing runs beside anything where `beside` is `None`.
    """
    found = Exposed()
    if beside is None:
        return found
    scan = _Scan(graph, costs, recipe, machine, beside)
    for place, op in enumerate(graph.ops):
        if op.type in _EXCHANGES and op.attrs.get("group") == _GROUP and costs[place] is not None:
            scan.exchange(place, op, found)
    return found


class _Scan:
    def __init__(
        self,
        graph: Graph,
        costs: Sequence[KernelCost | None],
        recipe: Recipe,
        machine: Machine,
        beside: BesideProducts,
    ) -> None:
        self.graph, self.costs, self.recipe, self.machine, self.beside = graph, costs, recipe, machine, beside
        self.made_by = {index: place for place, op in enumerate(graph.ops) for index in op.outputs}
        self.read_by: dict[int, list[int]] = {}
        for place, op in enumerate(graph.ops):
            for index in op.inputs:
                self.read_by.setdefault(index, []).append(place)
        told = recipe.exchange_pieces
        self.counts = range(1, beside.most_pieces + 1) if recipe.fused_exchanges else (told,)
        self.losses: dict[Kernel, list[float]] = {}

    def exchange(self, place: int, op: Op, found: Exposed) -> None:
        back = op_phase(op) == "backward"
        maker = self._product(self.made_by.get(op.inputs[0]))
        reader = next(
            (at for at in self.read_by.get(op.outputs[0], ()) if at > place and self._product(at) is not None), None
        )
        if back and maker is not None:
            other = self._beside(maker)
            if other is not None:
                found.durations[place] = max(0.0, self._grown(place) - self._ns(other))
                return
        partner = maker if op.type != "AllGather" else reader
        if partner is not None and (self.recipe.fused_exchanges or self.recipe.exchange_pieces):
            found.durations[place] = self._in_pieces(place, partner) - self._ns(partner)
            if self.recipe.fused_exchanges:
                found.within.add(place)
        if op.type == "AllGather" and not back and reader is not None:
            self._again(place, reader, found)

    def _again(self, place: int, reader: int, found: Exposed) -> None:
        """The input of a column-parallel layer is gathered once more for the gradient of its weight."""
        gathered = self.graph.ops[place].outputs[0]
        for at in self.read_by[gathered]:
            op = self.graph.ops[at]
            if at > reader and op_phase(op) == "backward" and op.type == _PRODUCT:
                first = self._first(at)
                if first is not None:
                    found.repeated[first] = max(0.0, self._grown(place) - self._ns(first))
                return

    def _first(self, second: int) -> int | None:
        """The product of the same gradient as `second`, by which the input's is found."""
        gradient = self.graph.ops[second].inputs[0]
        return next((at for at in self.read_by[gradient] if at < second and self._product(at) is not None), None)

    def _beside(self, first: int) -> int | None:
        """The product of the same gradient as `first` that comes behind it, by which the weight's is found."""
        gradient = self.graph.ops[first].inputs[0]
        return next((at for at in self.read_by[gradient] if at > first and self._product(at) is not None), None)

    def _product(self, place: int | None) -> int | None:
        if place is None or self.graph.ops[place].type != _PRODUCT or self.costs[place] is None:
            return None
        return place

    def _ns(self, place: int) -> float:
        cost = self.costs[place]
        return 0.0 if cost is None else float(cost.duration_ns)

    def _grown(self, place: int) -> float:
        return self._ns(place) * self.beside.growth

    def _in_pieces(self, place: int, partner: int) -> float:
        """
        Nanoseconds of a product and its exchange, piece by piece.

        A fused kernel is cut as takes least, up to the pieces that its tiling goes to.
        """
        return min(map(self._in_turn_ns, self._pieces_ns(partner), self._pieces_ns(place), self.counts))

    def _in_turn_ns(self, product: float, exchange: float, count: int) -> float:
        """Nanoseconds of `count` pieces of a product and of its exchange, each beside the other's next one."""
        exchange *= self.beside.growth if count > 1 else 1.0
        return product + exchange + (count - 1) * max(product, exchange)

    def _pieces_ns(self, place: int) -> list[float]:
        """Nanoseconds of one piece, for each of the numbers of pieces that an op may be cut into."""
        whole = kernel_of_op(self.graph.ops[place], self.graph)
        if whole not in self.losses:
            self.losses[whole] = [self._loss(whole, count) for count in self.counts]
        alone = self._ns(place)
        return [alone * loss / count for loss, count in zip(self.losses[whole], self.counts, strict=True)]

    def _loss(self, whole: Kernel, count: int) -> float:
        """How much longer a kernel takes in `count` pieces of its rows, one after the other, than `whole`."""
        if count == 1:
            return 1.0
        rows = whole.outputs[0].shape[0] if whole.type == _PRODUCT else None
        piece = replace(
            whole,
            inputs=tuple(None if item is None else _part(item, rows, count) for item in whole.inputs),
            outputs=tuple(_part(item, rows, count) for item in whole.outputs),
        )
        return count * kernel_cost(piece, self.machine).duration_ns / kernel_cost(whole, self.machine).duration_ns


def _part(operand: Operand, rows: int | None, count: int) -> Operand:
    """A part of the rows of `operand`; where `rows` are told, of one that has as many."""
    first, *rest = operand.shape
    return operand if rows is not None and first != rows else Operand((-(-first // count), *rest), operand.dtype)
