"""Attention of context-parallel ranks as training runs it: blocks of a ring, or heads exchanged for tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from memplan.cost import Kernel, Machine, Operand, kernel_cost
from memplan.cost.kernels.op_kernels import kernel_of_op
from memplan.cost.limits import KernelCost
from memplan.graph import Graph, Op
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe
from memplan.serving.eager_kernels import BesideProducts, listed_costs, op_phase

_ATTENTION, _GRADIENT = "FlashAttentionScore", "FlashAttentionScoreGrad"
_GROUP = "cp"


@dataclass(frozen=True, slots=True)
class ContextItem:
    """A kernel that is launched in the place of an op: its nanoseconds, and whether ranks exchange in it."""

    duration_ns: float
    exchange: bool = False


def context_items(
    engine: str,
    graph: Graph,
    costs: Sequence[KernelCost | None],
    layout: Layout,
    recipe: Recipe,
    machine: Machine,
    beside: BesideProducts | None,
) -> dict[int, tuple[ContextItem, ...]]:
    """
    What is launched in the place of attention and of the exchanges of its keys and values, by the place of an op.

    A graph has each rank gather all keys and attend at once to as many as a rank sees on average. In a ring, whose
    ranks have the first and the last parts of what is left of a sequence (zigzag), each attends to its own block, and
    then to half of every other rank's, which are sent on meanwhile; sums of softmax are brought together block by
    block. With `recipe.ulysses` ranks exchange heads for tokens and attend to whole sequences. With
    `recipe.whole_attention` every pair is computed; heads are as wide as `recipe.padded_heads` has them. Windows and
    chunks are left as they are.
    """
    ranks = layout.context
    found: dict[int, tuple[ContextItem, ...]] = {}
    if ranks == 1 and not recipe.whole_attention and not recipe.padded_heads:
        return found
    attending = [op for op in graph.ops if _attends(op)]
    taken = {index for op in attending for index in op.inputs}
    given = {index for op in attending for index in op.outputs}

    def moves_keys(op: Op) -> bool:
        own = op.attrs.get("group") == _GROUP and op_phase(op) != "grad_sync"
        return own and (op.outputs[0] in taken or op.inputs[0] in given)

    for place, op in enumerate(graph.ops):
        if costs[place] is None:
            continue
        if _attends(op):
            whole = _Attention(engine, kernel_of_op(op, graph), ranks, recipe, machine, beside)
            found[place] = tuple(whole.items())
        elif moves_keys(op):
            # The items of attention have it.
            found[place] = ()
    return found


def _attends(op: Op) -> bool:
    """Whether an op is attention without a window, or its gradient."""
    return op.type in (_ATTENTION, _GRADIENT) and not (op.attrs.get("window") or op.attrs.get("chunk"))


@dataclass(frozen=True, slots=True)
class _Attention:
    """`kernel` is attention, or its gradient, of a rank's own queries to the keys of all `ranks`."""

    engine: str
    kernel: Kernel
    ranks: int
    recipe: Recipe
    machine: Machine
    beside: BesideProducts | None

    def items(self) -> Iterator[ContextItem]:
        if self.ranks == 1:
            yield self._attend(self._length("kv_len"), causal=not self.recipe.whole_attention)
        elif self.recipe.ulysses:
            yield from self._heads_for_tokens()
        else:
            yield from self._ring()

    def _ring(self) -> Iterator[ContextItem]:
        own = self._length("q_len")
        general = self.recipe.whole_attention
        yield self._attend(own, causal=not general)
        block = self._attend(own if general else max(own // 2, 1), causal=False)
        sent = self._sent_ns()
        shared = replace(self.kernel, outputs=tuple(self._own(operand) for operand in self.kernel.outputs))
        behind = [ContextItem(cost.duration_ns) for cost in listed_costs(self.engine, "ring", shared, self.machine)]
        for _ in range(self.ranks - 1):
            yield ContextItem(max(0.0, sent - block.duration_ns), exchange=True)
            yield block
            yield from behind

    def _heads_for_tokens(self) -> Iterator[ContextItem]:
        places = self._keys()
        for operand in (*(self._own(self.kernel.present[place]) for place in places), self.kernel.outputs[0]):
            move = Kernel("Transpose", (operand,), (operand,))
            yield ContextItem(kernel_cost(move, self.machine).duration_ns)
            exchange = Kernel("AlltoAll", (operand,), (operand,), (("rank_size", self.ranks),))
            yield ContextItem(kernel_cost(exchange, self.machine).duration_ns, exchange=True)
        heads = {name: max(self._length(name) // self.ranks, 1) for name in ("heads", "kv_heads")}
        length = self._length("q_len") * self.ranks
        yield self._attend(length, causal=not self.recipe.whole_attention, q_len=length, **heads)

    def _sent_ns(self) -> float:
        """A rank's own keys and values to the next one, on the way back with the sums of their gradients."""
        growth = 1.0 if self.beside is None else self.beside.growth
        total = 0.0
        for place in self._keys()[1:]:
            operand = self._own(self.kernel.present[place])
            kernel = Kernel("Send", (operand,), (operand,), (("rank_size", 2),))
            total += kernel_cost(kernel, self.machine).duration_ns
        return total * growth * (2 if self.kernel.type == _GRADIENT else 1)

    def _keys(self) -> tuple[int, int, int]:
        """Places of queries, keys and values among the inputs; a gradient's first is that of what attention gave."""
        first = 1 if self.kernel.type == _GRADIENT else 0
        return first, first + 1, first + 2

    def _own(self, operand: Operand) -> Operand:
        """What a rank has of `operand`, which is queries of its own or keys of all ranks."""
        rows = self._length("q_len") * self._length("batch")
        heads = self._length("heads") // self._length("kv_heads") if self.recipe.repeat_kv else 1
        width = operand.shape[-1] * (heads if operand.shape[0] > rows else 1)
        return Operand((min(operand.shape[0], rows), width), operand.dtype)

    def _attend(self, keys: int, **told: int | bool) -> ContextItem:
        wide = {name: max(self._length(name), self.recipe.padded_heads) for name in ("d_qk", "d_v")}
        values = {**dict(self.kernel.attributes), **wide, "kv_len": keys, **told}
        kernel = replace(self.kernel, attributes=tuple(sorted(values.items())))
        return ContextItem(kernel_cost(kernel, self.machine).duration_ns)

    def _length(self, name: str) -> int:
        value = self.kernel.attribute(name)
        return int(value) if isinstance(value, (int, float)) else 1
