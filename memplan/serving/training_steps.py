"""What a training step launches one by one where no fused kernel does it: experts, attention, norms, the optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from memplan.cost import Kernel, Machine, Operand, kernel_cost
from memplan.cost.kernels.op_kernels import kernel_of_op
from memplan.cost.limits import KernelCost
from memplan.graph import Graph, Op
from memplan.models.architecture import ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.training.step_recipe import Recipe
from memplan.serving.eager_kernels import kernels_in_steps, op_phase

_EXPERTS = "experts."
_GROUPED = "GroupedMatmul"
_ROUTING = frozenset({"MoeInitRouting", "MoeFinalizeRouting", "MoeTokenPermuteGrad", "MoeTokenUnpermuteGrad"})
_ATTENTION, _GRADIENT = "FlashAttentionScore", "FlashAttentionScoreGrad"
_UPDATE = "ApplyAdamW"
_GATED = 2
"""Matrices that gate and up of a gated expert are, which a model without fused kernels has one by one."""


@dataclass(frozen=True, slots=True)
class StepKernel:
    """A kernel in the place of an op: its cost, and whether the host waits for all before it."""

    cost: KernelCost
    waits: bool = False


class OneByOne:
    """
    What `engine` launches for ops of `graph` that `recipe` has no fused kernels for.

    With `grouped_experts` off an expert's tokens are looked for, which the host waits for, taken out, multiplied and
    added back before the next one's. With `attention_in_steps` scores of every pair are there; with `norms_in_steps`
    norms are float32 op by op. An engine without a fused optimiser updates every parameter op by op.
    """

    def __init__(self, engine: str, model: ModelConfig, graph: Graph, recipe: Recipe, machine: Machine) -> None:
        self.engine, self.graph, self.recipe, self.machine = engine, graph, recipe, machine
        self._experts = {} if recipe.grouped_experts else dict(_groups(graph))
        parts = {layer.index: layer.ffn for layer in (*model.layers, *model.mtp_layers)}
        self._gated = {index for index, ffn in parts.items() if isinstance(ffn, MoeFfn) and ffn.gated}

    def kernels(self, op: Op) -> list[StepKernel] | None:
        """The kernels in the place of `op`, `None` where it is one of its own."""
        count = self._count(op)
        if count and op.type == _GROUPED:
            each = _products(kernel_of_op(op, self.graph), count, self._matrices(op))
            return [self._cost(kernel) for kernel in each] * count
        if count:
            listed = self._listed("one_expert", op, count)
            return None if listed is None else listed * count
        if self.recipe.attention_in_steps and op.type in (_ATTENTION, _GRADIENT):
            return list(self._attention_kernels(op))
        if self.recipe.norms_in_steps and op.type in ("RmsNorm", "RmsNormGrad"):
            return self._listed("norms_in_steps", op)
        if op.type == _UPDATE:
            count = self._parameters(op)
            listed = self._listed("optimizer_in_steps", op, count)
            return None if listed is None else listed * count
        return None

    def _listed(self, table: str, op: Op, parts: int = 1) -> list[StepKernel] | None:
        found = kernels_in_steps(self.engine, table, kernel_of_op(op, self.graph), parts)
        return None if found is None else [self._cost(kernel) for kernel in found]

    def _cost(self, kernel: Kernel) -> StepKernel:
        return StepKernel(kernel_cost(kernel, self.machine), waits=kernel.type == "NonZero")

    def _count(self, op: Op) -> int:
        """Experts that `op` works for one after the other, 0 where it is no part of experts."""
        if op.scope is None or op.scope.layer not in self._experts:
            return 0
        own = op.type in _ROUTING or (op.scope.part.startswith(_EXPERTS) and op_phase(op) != "optimizer")
        return self._experts[op.scope.layer] if own else 0

    def _attention_kernels(self, op: Op) -> Iterator[StepKernel]:
        told = {name: value for name, value in op.attrs.items() if isinstance(value, int)}
        batch, heads, queries, keys = (told[name] for name in ("batch", "heads", "q_len", "kv_len"))
        copies = heads // told["kv_heads"]
        kind = self.graph.tensors[op.inputs[0]].dtype
        query = Operand((batch * heads, queries, told["d_qk"]), kind)
        key = Operand((batch * heads, keys, told["d_qk"]), kind)
        value = Operand((batch * heads, keys, told["d_v"]), kind)
        out = Operand((batch * heads, queries, told["d_v"]), kind)
        scores, wide = (Operand((batch * heads, queries, keys), name) for name in (kind, "float32"))
        own = Operand((batch * heads // copies, keys, told["d_qk"]), kind)

        def product(first: Operand, second: Operand, made: Operand) -> Kernel:
            return Kernel("BatchMatMul", (first, second), (made,), (("transpose_a", False), ("transpose_b", False)))

        spread = [Kernel("Tile", (own,), (key,))] * 2 if copies > 1 else []
        across = Operand((key.shape[0], key.shape[2], key.shape[1]), kind)
        if op.type == _ATTENTION:
            yield from map(self._cost, spread)
            yield self._cost(product(query, across, scores))
            for kernel in (Kernel("Muls", (scores,), (scores,)), Kernel("Add", (scores, scores), (scores,)),
                           Kernel("Cast", (scores,), (wide,)), Kernel("SoftmaxV2", (wide,), (wide,)),
                           Kernel("Cast", (wide,), (scores,))):  # fmt: skip
                yield self._cost(kernel)
            yield self._cost(product(scores, value, out))
            yield self._cost(Kernel("Transpose", (out,), (out,)))
            return
        turned = Operand((batch * heads, keys, queries), kind)
        yield self._cost(Kernel("Transpose", (out,), (out,)))
        yield self._cost(product(out, Operand((value.shape[0], value.shape[2], value.shape[1]), kind), scores))
        yield self._cost(product(turned, out, value))
        for kernel in (Kernel("Cast", (scores,), (wide,)), Kernel("SoftmaxGrad", (wide, wide), (wide,)),
                       Kernel("Cast", (wide,), (scores,)), Kernel("Muls", (scores,), (scores,))):  # fmt: skip
            yield self._cost(kernel)
        yield self._cost(product(scores, key, query))
        yield self._cost(product(turned, query, key))
        if copies > 1:
            for _ in range(2):
                yield self._cost(Kernel("ReduceSum", (key,), (own,)))

    def _parameters(self, op: Op) -> int:
        """How many parameters the weight of `op` is: those that are multiplied as one, and experts by themselves."""
        part = "" if op.scope is None else op.scope.part
        if part.startswith(_EXPERTS) and op.scope is not None and op.scope.layer in self._experts:
            return self._experts[op.scope.layer] * self._matrices(op)
        return part.count("+") + 1

    def _matrices(self, op: Op) -> int:
        """How many matrices or biases of each expert the one that `op` works with holds: gate and up are one."""
        scope = op.scope
        return _GATED if scope is not None and scope.layer in self._gated and "up_proj" in scope.part else 1


def _groups(graph: Graph) -> Iterator[tuple[int, int]]:
    for op in graph.ops:
        groups = op.attrs.get("groups")
        if op.type == _GROUPED and isinstance(groups, int) and op.scope is not None and op.scope.layer is not None:
            yield op.scope.layer, groups


def _products(kernel: Kernel, count: int, pieces: int) -> list[Kernel]:
    """The products of one of `count` experts that a grouped product is made of, each of its `pieces` by itself."""
    attributes: Mapping[str, object] = dict(kernel.attributes)
    turned = bool(attributes.get("transpose_a"))
    first, second = kernel.present[:2]
    made = kernel.outputs[0]

    def rows(operand: Operand) -> Operand:
        return Operand((max(1, operand.shape[0] // count), *operand.shape[1:]), operand.dtype)

    told = tuple(item for item in kernel.attributes if item[0] != "groups")
    if turned:
        gradient = Operand((rows(first).shape[0], first.shape[1] // pieces), first.dtype)
        weight = Operand((made.shape[-2] // pieces, made.shape[-1]), made.dtype)
        return [Kernel("MatMul", (gradient, rows(second)), (weight,), told)] * pieces
    if attributes.get("transpose_b"):
        weight = Operand((second.shape[-2] // pieces, second.shape[-1]), second.dtype)
        out = Operand((rows(made).shape[0], made.shape[1] // pieces), made.dtype)
        return [Kernel("MatMul", (rows(first), weight), (out,), told)] * pieces
    gradient = Operand((rows(first).shape[0], first.shape[1] // pieces), first.dtype)
    weight = Operand((second.shape[-2] // pieces, second.shape[-1]), second.dtype)
    return [Kernel("MatMul", (gradient, weight), (rows(made),), told)] * pieces
