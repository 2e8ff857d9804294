"""
The way back through a part of a graph: for every op, last first, the ops that its gradient takes.

Each rule names what of the forward pass it reads; that is what keeps those tensors alive. Gradients of weights are
added to buffers, float32 or of their own 16 bits, that live as long as the weights (Megatron's `main_grad`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType

from memplan.graph import Op, TensorKind, dense_bytes
from memplan.models.steps.delta_rule_training import DELTA_RULE, delta_rule_back
from memplan.models.steps.emit import DROPOUT, StepEmitter
from memplan.models.steps.sparse_training import INDEXER_GRADIENTS, INDEXER_LOSS, SPARSE_ATTENTION
from memplan.models.training.step_recipe import Recipe

PRODUCTS = frozenset({"MatMul", "GroupedMatmul", "BatchMatMul"})
_CHEAP = MappingProxyType({"RmsNorm": True, "SwiGlu": False, "Relu": False})
"""Types of ops that a recipe may have made anew, and whether they are norms."""
_ATTENTION = frozenset({"FlashAttentionScore", SPARSE_ATTENTION})
_SYSTEM_WORKSPACE = 16 * 2**20
"""Workspace of every kernel of the high-level Ascend C API (asc-devkit platform_ascendc.cpp WORK_SPACE_SIZE_910B)."""
_FLOAT32 = 4

# What a gradient reads beside the gradient of the output: positions of inputs and of outputs of the forward op.
_READS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "RmsNorm": ((0, 1), (1,)),
        "SwiGlu": ((0,), ()),
        "Relu": ((), (0,)),
        DROPOUT: ((), (1,)),
        "SigmoidMul": ((0, 1), ()),
        "RotaryMul": ((1, 2), ()),
        "FlashAttentionScore": ((0, 1, 2), (0, 1, 2)),
        SPARSE_ATTENTION: ((0, 1, 2, 3, 4), (0, 1, 2)),
        "MoeGatingTopK": ((0,), (0,)),
        "MoeInitRouting": ((1,), ()),
        "MoeFinalizeRouting": ((0, 1, 2), ()),
        "MoeDistributeDispatch": ((1,), ()),
        # The gradient of a token's shares takes what its experts gave.
        "MoeDistributeCombine": ((0, 1, 2), ()),
        "CausalConv1d": ((0, 1), ()),
        "L2Norm": ((), (0, 1)),
        "GatedDeltaGates": ((0, 1, 2), ()),
        "RmsNormGated": ((0, 1, 2), (1,)),
    }
)
# What undoes an op, by name; those not here add `Grad` to theirs.
_UNDONE: Mapping[str, str] = MappingProxyType(
    {
        "SplitVD": "ConcatD",
        "ConcatD": "SplitVD",
        "AllGather": "ReduceScatter",
        "ReduceScatter": "AllGather",
        "MoeDistributeDispatch": "MoeDistributeCombine",
        "MoeDistributeCombine": "MoeDistributeDispatch",
        "MoeInitRouting": "MoeTokenPermuteGrad",
        "MoeFinalizeRouting": "MoeTokenUnpermuteGrad",
        "Relu": "ReluGrad",
        DROPOUT: DROPOUT,
        "SigmoidMul": "SwiGluGrad",
        "RepeatInterleave": "ReduceSum",
        # From the last token to the first.
        "ChunkLocalCumsum": "ChunkLocalCumsum",
    }
)


class Backward:
    """
    Emits gradients into an emitter's graph.

    As `recipe` says ops run again for what reads their output, and attention before its gradient, so that what it keeps
    of its softmax need not be kept; gradients of weights are added up in float32 or in their own 16 bits.
    """

    def __init__(self, e: StepEmitter, recipe: Recipe) -> None:
        self.e = e
        self._summed_in = e.dtype if recipe.sums_in_halves else "float32"
        self._made_anew = frozenset(kind for kind, norm in _CHEAP.items() if recipe.makes_anew(norm=norm))
        self.attention = recipe.recompute_attention
        self.buffers: dict[int, int] = {}
        self._gradients: dict[int, int] = {}

    def seed(self, tensor: int, gradient: int) -> None:
        """Let `gradient` be that of `tensor`."""
        self._gradients[self.e.graph.storage(tensor)] = gradient

    def take(self, tensor: int) -> int | None:
        """The gradient of `tensor`, if any came back to it; it is forgotten here."""
        return self._gradients.pop(self.e.graph.storage(tensor), None)

    def is_weight(self, tensor: int) -> bool:
        """Whether `tensor` is a weight, whose gradient is added up."""
        return self.e.graph.kinds[self.e.graph.storage(tensor)] is TensorKind.WEIGHT

    def learns(self, weight: int) -> bool:
        """Whether a weight has a gradient: all do."""
        return self.is_weight(weight)

    def current(self, tensor: int) -> int:
        """Where the way back reads what the way forward read as `tensor`."""
        return tensor

    def run(self, ops: Sequence[Op]) -> None:
        """Go back through `ops`."""
        made: dict[int, int] = {}
        producers = {index: op for op in ops if op.type in self._made_anew for index in op.outputs[:1]}
        made_by = {index: op for op in ops for index in op.outputs}
        for op in reversed(ops):
            if op.type == DELTA_RULE:
                self._delta_rule(op, made_by)
            elif op.type == INDEXER_LOSS:
                self._indexer_loss(op)
            else:
                self._back(op, producers, made)

    def _delta_rule(self, op: Op, made_by: Mapping[int, Op]) -> None:
        """Its kernels go back together, from the gradient of what the last of them makes."""
        gradient = self.take(op.outputs[0])
        if gradient is not None:
            for tensor, found in delta_rule_back(self.e, op, made_by, gradient):
                self._collect(op, tensor, found)

    def _indexer_loss(self, op: Op) -> None:
        """What the loss made of gradients on the way forward, times that of the loss."""
        for place, known in zip(INDEXER_GRADIENTS, op.outputs, strict=False):
            scaled = self.e.act(f"{self._short(op)}.scaled", self.e.shape(known))
            self.e.op(f"{self._short(op)}.{place}.scale", "Muls", (known,), (scaled,))
            self._collect(op, op.inputs[place], scaled)

    def _back(self, op: Op, producers: Mapping[int, Op], made: dict[int, int]) -> None:
        found = [self.take(index) for index in op.outputs]
        gradients = [gradient for gradient in found if gradient is not None]
        if not gradients:
            return
        if op.type == "Add" or (op.type == "AllReduce" and op.attrs.get("group") == "tp"):
            # A sum hands its gradient on as it is.
            for index in op.inputs:
                self._collect(op, index, gradients[0])
        elif op.type == "Embedding":
            self._embedding(op, gradients[0])
        elif op.type in PRODUCTS:
            self._product(op, gradients[0], producers, made)
        else:
            self._other(op, gradients)

    def _collect(self, op: Op, tensor: int, gradient: int) -> None:
        """Add `gradient`, which came back through `op`, to that of `tensor`."""
        e = self.e
        given = e.graph.kinds[e.graph.storage(tensor)] is TensorKind.INPUT
        if given or self.is_weight(tensor) or e.graph.dtypes[tensor] == "int32":
            return
        root = e.graph.storage(tensor)
        earlier = self._gradients.get(root)
        if earlier is None:
            self._gradients[root] = gradient
            return
        total = e.act("gradient.sum", e.shape(earlier))
        e.op(f"{self._short(op)}.sum", "Add", (earlier, gradient), (total,))
        self._gradients[root] = total

    def _product(self, op: Op, gradient: int, producers: Mapping[int, Op], made: dict[int, int]) -> None:
        e = self.e
        x, weight = op.inputs[0], self.current(op.inputs[1])
        back: int | None = None
        if not op.attrs.get("detached"):
            back = e.act(f"{self._short(op)}.dx", e.shape(x))
            attributes = {"transpose_a": False, "transpose_b": False, **_groups(op)}
            e.op(f"{self._short(op)}.dx", op.type, (gradient, weight), (back,), **attributes)
        if not self.learns(weight):
            if back is not None or not self.is_weight(weight):
                self._collect(op, x, gradient if back is None else back)
            return
        source = x
        if x in producers:
            source = self._again(producers[x], made)
        self._accumulate(op, weight, gradient, source)
        for bias in op.inputs[2:]:
            fresh = e.act(f"{self._short(op)}.dbias", e.shape(bias))
            e.op(f"{self._short(op)}.dbias", "BiasAddGrad", (gradient,), (fresh,))
            self.add_to_buffer(f"{self._short(op)}.bias", bias, fresh)
        if back is not None:
            self._collect(op, x, back)

    def _again(self, op: Op, made: dict[int, int]) -> int:
        """The first output of `op` made anew from its inputs."""
        first = op.outputs[0]
        if first not in made:
            e = self.e
            copies = [e.act(f"{self._short(op)}.again", e.shape(index), e.graph.dtypes[index]) for index in op.outputs]
            e.op(f"{self._short(op)}.again", op.type, [self.current(index) for index in op.inputs], copies)
            made[first] = copies[0]
        return made[first]

    def _accumulate(self, op: Op, weight: int, gradient: int, source: int) -> None:
        """The gradient of a weight in 16 bits, added to its buffer."""
        e = self.e
        fresh = e.act(f"{self._short(op)}.dw", e.shape(weight))
        attributes = {"transpose_a": True, "transpose_b": False, **_groups(op)}
        e.op(f"{self._short(op)}.dw", op.type, (gradient, source), (fresh,), **attributes)
        self.add_to_buffer(f"{self._short(op)}.add", weight, fresh)

    def add_to_buffer(self, name: str, weight: int, fresh: int) -> None:
        """Add `fresh` to the gradient of `weight`, of a part of one to the like part of its gradient."""
        e, buffer = self.e, self.buffer(weight)
        shape, dtype = e.shape(weight), e.graph.dtypes[buffer]
        if prod(shape) < prod(e.shape(buffer)):
            buffer = e.view("main_grad.part", buffer, shape, dense_bytes(shape, dtype))
        updated = e.view("main_grad", buffer, e.shape(buffer), e.graph.nbytes[buffer])
        e.op(name, "Add", (buffer, fresh), (updated,))

    def buffer(self, weight: int) -> int:
        """The buffer that the gradients of a weight are added up in."""
        root = self.e.graph.storage(weight)
        if root not in self.buffers:
            shape = self.e.shape(root)
            nbytes = dense_bytes(shape, self._summed_in)
            name = f"{self.e.graph.names[root]}.main_grad"
            self.buffers[root] = self.e.graph.tensor(name, shape, self._summed_in, nbytes, TensorKind.GRADIENT)
            self.e.inputs.append(self.buffers[root])
        return self.buffers[root]

    def _embedding(self, op: Op, gradient: int) -> None:
        """
        Scattered into float32, cast, and added to the buffer (EmbeddingDenseGradV2, Cast, Add).

        What rows of positions were added to, has the same gradient.
        """
        e, table, name = self.e, op.inputs[0], self._short(op)
        if not self.learns(table):
            return
        wide = e.act(f"{name}.dw.sum", e.shape(table), "float32")
        e.op(f"{name}.dw.sum", "EmbeddingDenseGrad", (gradient, op.inputs[1]), (wide,))
        fresh = e.act(f"{name}.dw", e.shape(table))
        e.op(f"{name}.dw", "Cast", (wide,), (fresh,))
        self.add_to_buffer(f"{name}.add", table, fresh)
        for index in op.inputs[2:]:
            self._collect(op, index, gradient)

    def _other(self, op: Op, gradients: Sequence[int]) -> None:
        e = self.e
        inputs, outputs = _READS.get(op.type, ((), ()))
        read = [self.current(op.inputs[i]) for i in inputs if i < len(op.inputs)]
        made = self._attend_again(op) if self.attention and op.type in _ATTENTION else op.outputs
        read += [made[i] for i in outputs if i < len(made)]
        kinds = e.graph.kinds
        targets = [
            index
            for index in op.inputs
            if kinds[e.graph.storage(index)] is TensorKind.ACTIVATION
            and not self.is_weight(index)
            and e.graph.dtypes[index] != "int32"
        ]
        if op.type == "RotaryMul":
            targets = targets[:1]
        source = list(gradients)
        if op.type == "RmsNorm" and e.tensor > 1 and ".norm." in op.name and not e.step.sequence_parallel:
            # Every rank has the gradient through its own columns only.
            source[0] = e.collective(
                f"{self._short(op)}.all_reduce", "AllReduce", source[0], e.shape(source[0]), e.tensor, "tp"
            )
        fresh = [e.act(f"{self._short(op)}.dx", e.shape(index)) for index in targets]
        small = [index for index in op.inputs if self.is_weight(index) and self.learns(index)]
        small_gradients = [e.act(f"{self._short(op)}.dgamma", e.shape(index), "float32") for index in small]
        kept = {key: value for key, value in op.attrs.items() if key != "fused"}
        e.graph.op(
            e.run + e.scope + f"{self._short(op)}.grad",
            _UNDONE.get(op.type, f"{op.type}Grad"),
            (*source, *read),
            (*fresh, *small_gradients),
            stream=op.stream,
            workspace_bytes=self._workspace(op),
            attrs=kept,
            scope=e.op_scope(e.scope + f"{self._short(op)}.grad"),
        )
        for place, (weight, gradient) in enumerate(zip(small, small_gradients, strict=True)):
            self.add_to_buffer(f"{self._short(op)}.gamma{f'.{place}' if place else ''}", weight, gradient)
        for index, gradient in zip(targets, fresh, strict=True):
            self._collect(op, index, gradient)

    def _attend_again(self, op: Op) -> Sequence[int]:
        """The outputs of attention, run again from its inputs."""
        e = self.e
        name, phase, e.run, e.phase = e.run, e.phase, f"{e.run}again.", "recompute"
        short = op.name.removeprefix(name + e.scope)
        made = [e.act(f"{short}.out", e.shape(index), e.graph.dtypes[index]) for index in op.outputs]
        e.op(short, op.type, op.inputs, made, **op.attrs)
        e.run, e.phase = name, phase
        return made

    def _short(self, op: Op) -> str:
        """An op's name within its layer and micro-batch."""
        return op.name.removeprefix(self.e.run + self.e.scope)

    def _workspace(self, op: Op) -> int:
        """Attention's gradients are summed in float32 before they are cast."""
        if op.type not in _ATTENTION:
            return 0
        whole = [index for index in op.inputs if self.e.graph.dtypes[index] != "int32"]
        return _SYSTEM_WORKSPACE + sum(_FLOAT32 * prod(self.e.shape(index)) for index in whole)


def _groups(op: Op) -> dict[str, object]:
    return {"groups": op.attrs["groups"]} if "groups" in op.attrs else {}
