"""Putting a step's graph together: weights of one rank, matrix products, norms, collectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.graph import Graph, OpScope, TensorKind
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import DTYPE_BITS, dense_bytes
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout, rank_elements
from memplan.models.precision import Precision, precision
from memplan.models.steps.options import KV_DTYPES, Arithmetic, Phase, ServedStep, activation_dtype, arithmetic
from memplan.models.weight_shapes import Weight, WeightGroup
from memplan.models.weights import layer_weights

MAIN, SIDE = 0, 1
"""Streams: the chain of a layer, and work beside it that nothing waits for until it joins (shared experts)."""
DROPOUT = "DropOutDoMask"
"""Drops elements and makes the mask of those that stay."""


@dataclass(frozen=True, slots=True)
class RankWeight:
    """One weight on one rank: how many of its elements, how many bytes, and the types it is multiplied in."""

    weight: Weight
    elements: int
    nbytes: int
    types: Arithmetic


class StepEmitter:
    """
    A step's graph under construction, on one rank.

    `tokens` is how many tokens the rank computes in the part being emitted, `sequences` of how many sequences,
    `queries` of each. Names are prefixed by `scope`, those of ops and activations by `run` as well: a step that runs
    a layer several times (micro-batches, drafts) has its weights once. `kept` holds the caches of a layer by its index,
    for layers that read another's. `phase` and `micro_batch` go into the scope of
    every op. `training` keeps what the way back needs, `dropout` puts one before each sum with the residual.
    """

    def __init__(
        self,
        model: ModelConfig,
        layout: Layout,
        step: ServedStep,
        scheme: Precision | None = None,
        *,
        training: bool = False,
        dropout: bool = False,
    ) -> None:
        self.training, self.dropout = training, dropout
        self.run = ""
        self.phase = step.phase.value
        self.micro_batch: int | None = None
        self.model, self.layout, self.step = model, layout, step
        self.scheme = scheme or precision(step.precision, model)
        self.graph = GraphBuilder()
        self.dtype = activation_dtype(model)
        self.scope = ""
        self.stream = MAIN
        self.sequences = -(-step.batch // layout.data)
        self.queries = self._queries()
        self.inputs: list[int] = []
        self.kept: dict[int, tuple[int, ...]] = {}
        self._pool: dict[str, RankWeight] = {}
        self._kinds: dict[tuple[object, ...], Mapping[str, RankWeight]] = {}
        self._quantised: dict[tuple[int, str], int] = {}
        self._shared: dict[str, int] = {}
        self.picked: dict[tuple[int | None, int], int] = {}
        """The tokens that the indexer of a layer picked, by micro-batch and layer."""

    def _queries(self) -> int:
        if self.step.phase is Phase.DECODE:
            return 1 + self.step.speculative
        return -(-(self.step.context - self.step.cached) // self.layout.context)

    @property
    def tokens(self) -> int:
        """Tokens that the rank's attention computes."""
        return self.sequences * self.queries

    @property
    def residual_tokens(self) -> int:
        """Tokens of the residual stream on the rank."""
        return -(-self.tokens // self.layout.tensor) if self.step.sequence_parallel else self.tokens

    @property
    def layer_number(self) -> int:
        """The number of the layer whose weights are taken up."""
        return int(self.scope.split(".")[1])

    @property
    def tensor(self) -> int:
        """Ranks of tensor parallelism."""
        return self.layout.tensor

    @property
    def whole_shared(self) -> bool:
        """Whether each rank has the shared experts whole: engines do that only where routed ones are whole, too."""
        return self.step.whole_shared and self.layout.expert > 1

    def own(self, count: int, what: str) -> int:
        """What one rank of tensor parallelism has of `count`; key/value heads fewer than ranks are repeated."""
        if count % self.tensor == 0:
            return count // self.tensor
        if what == "key/value heads" and self.tensor % count == 0:
            return 1
        raise InputError(
            "{} {} can't be divided among {} ranks of tensor parallelism", count, Sentence(what), self.tensor
        )

    # --- tensors and ops

    def act(self, name: str, shape: tuple[int, ...], dtype: str | None = None) -> int:
        """A new activation."""
        kind = dtype or self.dtype
        return self.graph.tensor(self.run + self.scope + name, shape, kind, dense_bytes(shape, kind))

    def op(self, name: str, type_: str, inputs: Sequence[int], outputs: Sequence[int], **attrs: object) -> None:
        """A kernel."""
        scope = self.op_scope(self.scope + name)
        self.graph.op(
            self.run + self.scope + name, type_, inputs, outputs, stream=self.stream, attrs=attrs, scope=scope
        )

    def op_scope(self, name: str) -> OpScope:
        """What of the model the op `name` is; names of layers' ops begin with `layers.N.`."""
        head, _, rest = name.partition(".")
        number, _, part = rest.partition(".")
        if head == "layers" and number.isdigit():
            return OpScope(self.phase, part, self.micro_batch, int(number))
        return OpScope(self.phase, name, self.micro_batch)

    def view(self, name: str, of: int, shape: tuple[int, ...], nbytes: int | None = None) -> int:
        """Another shape of tensor `of`, or a part of it, over the same bytes."""
        builder = self.graph
        size = builder.nbytes[of] if nbytes is None else nbytes
        return builder.tensor(
            self.run + self.scope + name,
            shape,
            builder.dtypes[of],
            size,
            builder.kinds[of],
            storage=of,
            layout=builder.layouts[of],
        )

    def part(self, name: str, of: int, nbytes: int) -> int:
        """The `nbytes` of a cache that an op touches (all of it at most), as a tensor of one dimension."""
        size = max(1, min(nbytes, self.graph.nbytes[of]))
        return self.view(name, of, (max(1, size * 8 // DTYPE_BITS[self.graph.dtypes[of]]),), size)

    def cache(self, name: str, nbytes: int, dtype: str) -> int:
        """A cache that is there before the step and after it; runs of the same layer share it."""
        if self.scope + name in self._shared:
            return self._shared[self.scope + name]
        elements = nbytes * 8 // DTYPE_BITS[dtype]
        index = self.graph.tensor(self.scope + name, (elements,), dtype, nbytes, TensorKind.INPUT)
        self.inputs.append(index)
        self._shared[self.scope + name] = index
        return index

    @staticmethod
    def element_bytes(dtype: str) -> int:
        """Bytes of an element of `dtype`."""
        return DTYPE_BITS[dtype] // 8

    def constant(self, name: str, shape: tuple[int, ...]) -> int:
        """A fixed matrix, one for all layers."""
        if name not in self._shared:
            nbytes = dense_bytes(shape, self.dtype)
            self._shared[name] = self.graph.tensor(name, shape, self.dtype, nbytes, TensorKind.CONSTANT)
        return self._shared[name]

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.graph.shapes[tensor]

    # --- weights

    def hold(self, weights: Sequence[Weight]) -> Mapping[str, RankWeight]:
        """Weights of one rank by their local name."""
        found = {}
        for item in weights:
            whole = self.whole_shared and item.group is WeightGroup.SHARED_EXPERTS
            elements = rank_elements(item, replace(self.layout, tensor=1) if whole else self.layout)
            form = self.scheme.of(item)
            local = item.name if item.layer is None else item.name.split(".", 2)[2]
            found[local] = RankWeight(
                item,
                elements,
                self.scheme.bytes(item, elements),
                arithmetic(form, item.group, self.model, self.step.precision),
            )
        return found

    def enter(self, layer: Layer, scope: str) -> None:
        """Take up the weights of `layer`."""
        self._pool = dict(self.layer_held(layer))
        self.scope = scope

    def layer_held(self, layer: Layer) -> Mapping[str, RankWeight]:
        """Weights of `layer` on one rank; equal layers are measured once."""
        key = (layer.mixer, layer.ffn, layer.norms, layer.lookup)
        if key not in self._kinds:
            self._kinds[key] = self.hold(layer_weights(self.model, layer))
        return self._kinds[key]

    def leave(self) -> None:
        """Finish the weights that were taken up; raises `AssertionError` where an op was forgotten."""
        if self._pool:
            raise AssertionError(f"{self.scope}: nothing uses {', '.join(self._pool)}")
        self.scope = ""

    def add_weights(self, held: Mapping[str, RankWeight]) -> None:
        """Take up more weights."""
        self._pool.update(held)

    def has(self, name: str) -> bool:
        """Whether the layer has a weight called `name` that nothing uses yet."""
        return name in self._pool

    def types(self, name: str) -> Arithmetic:
        """Types that the weight `name` is multiplied in."""
        return self._pool[name].types

    def weight(self, names: Sequence[str], shape: tuple[int, ...], *, share: int = 1) -> int:
        """
        The weights `names` side by side as one tensor of `shape`; `share` ranks hold a part each.

        A second emission of the same layer (recomputation) finds the tensor again.
        """
        name = self.scope + "+".join(names)
        held = [self._pool.pop(item) for item in names]
        if name in self._shared:
            return self._shared[name]
        nbytes = sum(-(-item.nbytes // share) for item in held)
        dtype = held[0].types.weight
        layout = "NZ" if held[0].weight.linear and len(shape) > 1 else "ND"
        index = self.graph.tensor(name, shape, dtype, nbytes, TensorKind.WEIGHT, layout=layout)
        self._shared[name] = index
        return index

    def pass_over(self, name: str) -> None:
        """Leave out the weight `name`: it stands in another memory than the die's."""
        del self._pool[name]

    def spend(self, *names: str) -> list[int]:
        """Small weights (norms, biases, tables) as tensors of their own, those that the layer has."""
        return [self.weight((name,), (self._pool[name].elements,)) for name in names if name in self._pool]

    # --- common ops

    def quantise(self, x: int, dtype: str) -> int:
        """`x` as `dtype`, quantised at run time once for all its consumers."""
        if self.graph.dtypes[x] == dtype:
            return x
        key = (x, dtype)
        if key not in self._quantised:
            shape = self.shape(x)
            found = self.act("quantised", shape, dtype)
            scale = self.act("scale", shape[:-1] or (1,), "float32")
            self.op("quant", "DynamicQuant", (x,), (found, scale), fused=True)
            self._quantised[key] = found
        return self._quantised[key]

    def linear(
        self,
        x: int,
        names: Sequence[str],
        n: int,
        k: int,
        *,
        rows: int | None = None,
        fused: bool = False,
        share: int = 1,
        within: str | None = None,
        detached: bool = False,
    ) -> int:
        """
        `x` of `rows x k` times the weights `names` side by side, `n x k`; biases of the same names are added.

        `within` names the kernel that computes the product as a part of itself; `detached`, `x` gets no gradient.
        """
        types, weights = self.types(names[0]), [self._pool[name].weight for name in names]
        m = rows if rows is not None else prod(self.shape(x)[:-1])
        a = self.quantise(x, types.activation) if types.quantised else x
        if self.shape(a) != (m, k):
            a = self.view("in", a, (m, k))
        label = names[0] if len(names) == 1 else "+".join(names)
        biases = [f"{name}.bias" for name in names if self.has(f"{name}.bias")]
        weight = self.weight(names, (n, k), share=share)
        extra = [self.weight(biases, (n,))] if biases else []
        out = self.act(f"{label}.out", (m, n))
        kind = "MatMul"
        if types.quantised:
            kind = "QuantBatchMatmul"
        elif types.weight not in (self.dtype, "float32"):
            kind = "WeightQuantBatchMatmul"
        attributes: dict[str, object] = {"fused": fused} if within is None else {"within": within}
        attributes.update({"detached": True} if detached else {})
        self.op(label, kind, (a, weight, *extra), (out,), transpose_a=False, transpose_b=True, **attributes)
        return self.beside(label, weights, a, out)

    def beside(self, label: str, weights: Sequence[Weight], x: int, out: int) -> int:
        """What the product `out` of `x` and `weights` becomes by what is computed beside it: here nothing is."""
        del label, weights, x
        return out

    def norm(self, name: str, x: int, *weights: str, residual: int | None = None, fused: bool = False) -> int:
        """RMS norm of `x`, of the sum with `residual` where there is one (which then is kept in its place)."""
        out = self.act(f"{name}.out", self.shape(x))
        gamma = self.spend(*weights, *(f"{weight}.bias" for weight in weights))
        if self.training:
            # One value for each row that is as wide as the weight: a norm of heads has one for each head.
            width = prod(self.shape(gamma[0])) if gamma else self.shape(x)[-1]
            statistics = self.act(f"{name}.rstd", (prod(self.shape(x)) // width, 1), "float32")
            self.op(name, "RmsNorm", (x, *gamma), (out, statistics))
        elif residual is None:
            self.op(name, "RmsNorm", (x, *gamma), (out,), fused=fused)
        else:
            kept = self.view(f"{name}.sum", residual, self.shape(residual))
            self.op(name, "AddRmsNorm", (x, residual, *gamma), (out, kept), fused=fused)
        return out

    def dropped(self, name: str, x: int) -> int:
        """`x` behind a dropout whose mask, a byte an element, waits for the way back; `x` itself in steps without."""
        if not self.dropout:
            return x
        out = self.act(f"{name}.out", self.shape(x))
        self.op(name, DROPOUT, (x,), (out, self.act(f"{name}.mask", self.shape(x), "uint8")))
        return out

    def collective(self, name: str, type_: str, x: int, shape: tuple[int, ...], ranks: int, group: str) -> int:
        """A collective of `x` over `ranks` ranks of `group`; nothing where there is one rank."""
        if ranks <= 1:
            return x
        out = self.act(f"{name}.out", shape, self.graph.dtypes[x])
        self.op(name, type_, (x,), (out,), rank_size=ranks, group=group)
        return out

    def gather_tokens(self, x: int) -> int:
        """All tokens of the residual stream on every rank before a split layer."""
        if not self.step.sequence_parallel:
            return x
        return self.collective("all_gather", "AllGather", x, (self.tokens, self.shape(x)[-1]), self.tensor, "tp")

    def reduce_tokens(self, x: int) -> int:
        """The sum over the tensor-parallel ranks after a split layer, of all tokens or of the rank's own."""
        if self.step.sequence_parallel:
            shape = (self.residual_tokens, self.shape(x)[-1])
            return self.collective("reduce_scatter", "ReduceScatter", x, shape, self.tensor, "tp")
        return self.collective("all_reduce", "AllReduce", x, self.shape(x), self.tensor, "tp")

    def attention(
        self,
        name: str,
        type_: str,
        query: int,
        cache: int,
        out_shape: tuple[int, ...],
        touched: int,
        *,
        picked: Sequence[int] = (),
        **problem: object,
    ) -> int:
        """
        An attention kernel; `problem` holds the fields of the cost model's attention problem.

        `touched` bytes of `cache` are read, of what an indexer `picked` where one did.
        """
        out = self.act(f"{name}.out", out_shape)
        self.op(name, type_, (query, self.part("touched", cache, touched), *picked), (out,), **problem)
        return out

    def picked_last(self) -> tuple[int, ...]:
        """What the last indexer before picked for the micro-batch; empty where none did, as on an earlier stage."""
        return tuple([of for (batch, _), of in self.picked.items() if batch == self.micro_batch][-1:])

    @property
    def kv_dtype(self) -> str:
        """The type of a cached element."""
        return KV_DTYPES[self.step.kv]

    @property
    def kv_bytes(self) -> int:
        """Bytes of a cached element."""
        return DTYPE_BITS[self.kv_dtype] // 8

    def key_length(self, length: int | None = None) -> int:
        """
        Keys that the last of the rank's queries sees, of `length` (by default the context).

        Ranks of context parallelism share a prompt in a zigzag, which gives each the queries of the middle on
        average; when decoding each holds its share of the keys.
        """
        total = length if length is not None else self.step.context
        ranks = self.layout.context
        if ranks == 1:
            return total
        if self.step.phase is Phase.DECODE:
            return -(-total // ranks)
        return self.step.cached + (self.step.context - self.step.cached + self.queries) // 2

    def finish(self, name: str, outputs: Sequence[int], notes: Sequence[str] = ()) -> Graph:
        """The frozen graph."""
        self.graph.notes += list(notes)
        return self.graph.finish(
            name, self.inputs, outputs, origin=self.model.origin or self.model.name, producer="memplan"
        )
