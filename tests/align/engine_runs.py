"""
Steps of serving engines as their profiles have them: the kernels that vllm-ascend launches, with the planned ops.

What an engine launches for an op is decided once a run (`engine_run(plan, seed)`), as its options and version are:
norms that add, rotary embeddings with or without the split and the norms before them, attention by any of its kernels,
experts exchanged or gathered, products with their sums over ranks in one kernel, sampling. Types and operands are those
of its model runner, layers and custom ops (vllm_ascend/ops, vllm_ascend/attention, csrc), written here, not read from
memplan's tables.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from memplan.schema import Plan, PlannedOp
from tests.align.launcher import Launcher, Made, moved, plain
from tests.align.simulated_runs import Disturbance, Shape, SimulatedRun, run_of

BLOCK, _HEAD, _POSITIONS, BLOCKS = 128, 128, 40960, 2307
NOISE = Disturbance(noise=0.15)


def engine_run(plan: Plan, seed: int, steps: int = 4) -> SimulatedRun:
    """So many steps of an engine whose options are drawn with `seed`."""
    engine = Engine(plan, random.Random(seed))
    return run_of(plan, [row for _ in range(steps) for row in engine.step()], seed, NOISE)


class Engine(Launcher):
    """Kernels of a step, op by op and of what stands in `together`."""

    def __init__(self, plan: Plan, chance: random.Random) -> None:
        super().__init__(plan, chance)
        self.together, self.alone = _TOGETHER, _ALONE

    def ordered(self) -> list[PlannedOp]:
        """The ops in the order in which the engine runs them."""
        return [op for op in self.plan.ops if op.kernel is not None]

    def step(self) -> Made:
        ops = self.ordered()
        rows = self.before()
        place = 0
        while place < len(ops):
            count, made = self.at(ops, place)
            rows += made
            place += count
        return rows + self.after(ops[-1])

    def before(self) -> Made:
        """Inputs of the step: positions, slots, lengths, rows of the table of angles."""
        tokens = self.tokens()
        rows = [
            self.other("TensorMove", [(tokens,)], [(tokens,)]) for _ in range(int(str(self.option("moves", "237"))))
        ]
        if self.option("slots", (True, False)):
            rows += [self.other("_compute_slot_mapping_kernel", [(tokens,)], [(tokens,)])]
        else:
            rows += [
                self.other("FloorDiv", [(tokens,), ()], [(tokens,)]),
                self.other("Mul", [(tokens,), ()], [(tokens,)]),
                self.other("GatherV2", [(8192,), (tokens,)], [(tokens,)]),
                self.other("Add", [(tokens,)] * 2, [(tokens,)]),
            ]
        if self.option("angles", (True, False)):
            rows += [self.other("GatherV2", [(_POSITIONS, _HEAD), (tokens,)], [(tokens, _HEAD)]) for _ in "cs"]
        return rows

    def after(self, last: PlannedOp) -> Made:
        """What follows the choice of the next tokens."""
        tokens = self.tokens()
        return [self.other(type_, [(tokens,)], [(tokens,)]) for type_ in ("Cast", "TensorMove")]

    def tokens(self) -> int:
        """Rows of the step's first result."""
        op = next(op for op in self.plan.ops if op.kernel is not None)
        return self.shapes(op)[1][0][0]

    def at(self, ops: Sequence[PlannedOp], place: int) -> tuple[int, Made]:
        """How many ops from `place` on are run together, and by which kernels."""
        for parts, way, count in self.together:
            some = ops[place : place + count]
            if len(some) == count and all(is_part(op, part) for op, part in zip(some, parts, strict=True)):
                made = way(self, some)
                if made is not None:
                    return count, made
        op = ops[place]
        make = self.alone.get(op.type)
        return 1, make(self, op) if make else [self.kernel(op.type, [op])]


def is_part(op: PlannedOp, part: str) -> bool:
    """Whether an op is that part: a type, the end of a part's name after `.`, or its whole name."""
    name = op.part or op.name
    return (
        op.type == part
        or name == part
        or (part.startswith(".") and name.endswith(part))
        or (part.endswith("*") and name.startswith(part[:-1]))
    )


def _added_norm(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    add, norm = ops
    (hidden, *_), (_, weight) = engine.shapes(add)[1], engine.shapes(norm)[0][:2]
    types = ("AddRmsNorm", "AddRmsNormBias", "AddRmsNorm")
    if engine.shapes(norm)[1][0] != hidden:  # the last norm is of the last tokens alone
        return None
    return [engine.kernel(types, ops, [hidden, hidden, weight], [hidden, (hidden[0], 1), hidden])]


def _summed_product(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """A product with its sum over ranks, the residual sum and the norm in one kernel."""
    if engine.option("summed", (True, False, False)) is not True or not is_part(ops[-1], "RmsNorm"):
        return None
    read, made = engine.shapes(ops[0])[0][:2], engine.shapes(ops[-1])[1][0]
    return [engine.kernel("MatmulAllReduceAddRmsNorm", ops, [*read, made, (made[-1],)], [made, made])]


def _heads(shape: Shape) -> Shape:
    return (shape[0], shape[1] // _HEAD, _HEAD)


def _normed_rotary(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """What stands between the product of queries, keys and values and the cache."""
    first, queries, keys, rotary = ops
    joined, (q, k) = engine.shapes(first)[1][0], engine.shapes(rotary)[1][:2]
    product = _product(engine, first)
    tokens, angles = q[0], (q[0], _HEAD)
    if engine.option("joined rotary", (True, False, False)):
        return [
            *product,
            engine.kernel("split_qkv_rmsnorm_rope_kernel", ops[1:], [joined, (_HEAD,), (_HEAD,), angles], [q, k, k]),
        ]
    split = engine.kernel(("SplitVD", "SplitV", "Slice"), [first], [joined], [q, k, k], 0.1)
    split.ops = ()
    parts = [split]
    if split.type == "Slice":
        parts = [engine.kernel("Slice", [first], [joined], [shape], 0.1) for shape in (q, k, k)]
        for row in parts:
            row.ops = ()
    rows = [
        engine.kernel(
            "RmsNorm", [op], [(tokens * shape[1] // _HEAD, _HEAD), (_HEAD,)], [(tokens * shape[1] // _HEAD, _HEAD)]
        )
        for op, shape in ((queries, q), (keys, k))
    ]
    return [*product, *parts, *rows, *_rotary(engine, rotary)]


def _split_rotary(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    first, rotary = ops
    joined, (q, k) = engine.shapes(first)[1][0], engine.shapes(rotary)[1][:2]
    split = engine.kernel(("SplitVD", "SplitV"), [first], [joined], [q, k, k], 0.1)
    split.ops = ()
    return [*_product(engine, first), split, *_rotary(engine, rotary)]


def _rotary(engine: Engine, op: PlannedOp) -> Made:
    shapes = engine.shapes(op)[1]
    q, k = shapes[0], shapes[-1]
    turned = (q, k) if len(shapes) > 1 else (q,)
    types = ("RopeWithSinCosCache", "ApplyRotaryPosEmb", "AtbRopeKernel", "RotaryMul", "written")
    way = engine.option("rotary", types)
    if q[1] % _HEAD or k[1] % _HEAD:
        return [engine.kernel("InterleaveRope", [op])]
    angles = (1, q[0], 1, _HEAD)
    if way == "RotaryMul":
        return [
            engine.kernel("RotaryMul", [op], [(1, *_heads(x)), angles, angles], [(1, *_heads(x))], 0.5) for x in turned
        ]
    if way == "written":
        # No kernel for these heads: halves, one of them negated, side by side, two products and their sum.
        rows: Made = []
        for x in turned:
            half = (*_heads(x)[:2], _HEAD // 2)
            whole = _heads(x)
            for type_, read, made in (
                ("Slice", [whole], half),
                ("Slice", [whole], half),
                ("Neg", [half], half),
                ("ConcatD", [half, half], whole),
                ("Mul", [whole, angles], whole),
                ("Mul", [whole, angles], whole),
                ("Add", [whole, whole], whole),
            ):
                rows.append(engine.kernel(type_, [op], read, [made], 1 / 12))
        return rows
    table = [(_POSITIONS, _HEAD)] if way == "RopeWithSinCosCache" else [angles, angles]
    return [engine.kernel(str(way), [op], [q, k, *table], [q, k])]


def _product(engine: Engine, op: PlannedOp) -> Made:
    read, made = engine.shapes(op)
    weight = read[1]
    inputs = list(read)
    if engine.option("NZ", (True, False)) and len(weight) == 2 and not (weight[0] % 16 or weight[1] % 16):
        inputs = [read[0], (weight[1] // 16, weight[0] // 16, 16, 16), *read[2:]]
    types = ("MatMulV2", "MatMulV3", "aclnnMatmul_MatMulV3Common_MatMulV3", "aclnnMm_MatMulV2Common_MatMulV2")
    return [engine.kernel(types, [op], inputs, made[:1])]


def _quantised(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """Activations of eight bits and their product."""
    quant, product = ops
    read, made = engine.shapes(quant)[0][0], engine.shapes(product)[1][0]
    weight = engine.shapes(product)[0][1]
    return [
        engine.kernel("DynamicQuant", [quant], [read], [read, read[:1]], dtype="int8"),
        engine.kernel("QuantBatchMatmulV3", [product], [read, weight, (weight[0],), read[:1]], [made]),
    ]


def _attention(engine: Engine, op: PlannedOp) -> Made:
    out = engine.shapes(op)[1][0]
    heads = _heads(out) if len(out) == 2 and out[1] % _HEAD == 0 else out
    cache = (BLOCKS, BLOCK, 2, _HEAD)
    types = (
        "FusedInferAttentionScore",
        "PagedAttentionMaskNdKernel",
        "IncreFlashAttention",
        "FusedInferAttentionScore",
    )
    rows = [engine.kernel(types, [op], [heads, cache, cache, (out[0],)], [heads])]
    if engine.option("attention copied", (True, False)):
        copied = engine.kernel("TensorMove", [op], [out], [out], 0.03)
        copied.ops = ()
        rows.append(copied)
    return rows


def _cache(engine: Engine, op: PlannedOp) -> Made:
    read, _ = engine.shapes(op)
    cache = (BLOCKS, BLOCK, 2, _HEAD)
    types = ("ReshapeAndCacheNdKernel", "ScatterPaKvCache", "twice")
    if engine.option("cache", types) == "twice":
        return [engine.kernel("ScatterNdUpdateV2", [op], [cache, (x[0], 1), x], [cache], 0.5) for x in read[:2]]
    return [engine.kernel(types[:2], [op], [*read[:2], cache, cache, (read[0][0],)], [cache, cache])]


def _reduced(engine: Engine, op: PlannedOp) -> Made:
    if op.layer is not None and engine.option("reduced", ("whole", "whole", "apart")) == "apart":
        # Sequences kept apart between the products: what one sums is scattered and gathered again.
        return [engine.collective("hcom_reduceScatter_", op, 0.5), engine.collective("hcom_allGather_", op, 0.5)]
    return [engine.collective("hcom_allReduce_", op)]


def _gating(engine: Engine, op: PlannedOp) -> Made:
    logits, chosen = engine.shapes(op)[0][0], engine.shapes(op)[1][0]
    way = engine.option("gating", ("MoeGatingTopK", "MoeGatingTopKSoftmax", "written"))
    if way == "MoeGatingTopK":
        return [engine.kernel("MoeGatingTopK", [op], [logits], [chosen, chosen, logits], dtype="float32")]
    rows = [engine.kernel("MoeGatingTopKSoftmax", [op], [logits], [chosen, chosen, chosen], 0.6, "float32")]
    if way == "written":
        rows = [
            engine.kernel("SoftmaxV2", [op], [logits], [logits], 0.3, "float32"),
            engine.kernel("TopKV2", [op], [logits, ()], [chosen, chosen], 0.3, "float32"),
        ]
    return [
        *rows,
        engine.kernel("ReduceSum", [op], [chosen], [(chosen[0], 1)], 0.2, "float32"),
        engine.kernel("RealDiv", [op], [chosen, (chosen[0], 1)], [chosen], 0.2, "float32"),
    ]


def _exchange(engine: Engine) -> object:
    return engine.option("exchange", ("dispatch", "all to all", "gathered"))


def _dispatch(engine: Engine, op: PlannedOp) -> Made:
    read, made = engine.shapes(op)
    tokens, chosen, routed = read[0], read[1], made[0]
    way = _exchange(engine)
    if way == "dispatch":
        row = engine.kernel(
            ("MoeDistributeDispatchV2", "MoeDistributeDispatch"), [op], [tokens, chosen], [routed, routed[:1]]
        )
        return [row]
    mine = (tokens[0] * chosen[1], tokens[1])
    if way == "all to all":
        return [
            engine.kernel(("MoeInitRoutingV2", "MoeTokenPermute"), [op], [tokens, chosen], [mine, mine[:1]], 0.2),
            engine.collective("hcom_alltoallv_", op, 0.1),
            engine.collective("hcom_alltoallv_", op, 0.5),
            engine.kernel(("MoeReRouting", "MoeTokenPermute"), [op], [routed, mine[:1]], [routed, routed[:1]], 0.2),
        ]
    return [
        engine.collective("hcom_allGather_", op, 0.5),
        engine.kernel(
            ("MoeInitRoutingV2", "MoeInitRoutingCustom", "MoeTokenPermute"),
            [op],
            [tokens, chosen],
            [routed, routed[:1]],
            0.5,
        ),
    ]


def _combine(engine: Engine, op: PlannedOp) -> Made:
    read, made = engine.shapes(op)
    routed, weights, out = read[0], read[-1], made[0]
    way = _exchange(engine)
    if way == "dispatch":
        return [engine.kernel(("MoeDistributeCombineV2", "MoeDistributeCombine"), [op], [routed, weights], [out])]
    mine = (out[0] * weights[1], out[1])
    merge = engine.kernel(("MoeTokenUnpermute", "MoeFinalizeRoutingV2"), [op], [mine, weights], [out], 0.3)
    if way == "all to all":
        back = engine.kernel(
            "IndexSelect" if engine.option("back", (True, False)) else "MoeTokenUnpermute",
            [op],
            [routed, routed[:1]],
            [routed],
            0.2,
        )
        return [back, engine.collective("hcom_alltoallv_", op, 0.5), merge]
    return [merge, engine.collective("hcom_reduceScatter_", op, 0.6)]


def _experts(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """Two grouped products and the gate between them, quantised ones with it in the first."""
    up, down = ops[0], ops[-1]
    gate = next(op for op in ops if op.type == "SwiGlu")
    read, made = engine.shapes(up)[0], engine.shapes(up)[1][0]
    weight, half = read[1], engine.shapes(gate)[1][0]
    out = engine.shapes(down)[1][0]
    count = (weight[0],)
    quantised = any(op.type == "DynamicQuant" for op in ops)
    last = engine.kernel(("GroupedMatmul", "GroupedMatmulV4"), [down], [half, engine.shapes(down)[0][1], count], [out])
    if quantised and engine.option("gated", (True, False)):
        return [
            engine.kernel(
                "GroupedMatmulSwigluQuant", ops[:-1], [read[0], weight, count], [half, half[:1]], dtype="int8"
            ),
            last,
        ]
    first = engine.kernel(("GroupedMatmul", "GroupedMatmulV4"), [up], [read[0], weight, count], [made])
    if quantised:
        quant = next(op for op in ops if op.type == "DynamicQuant")
        return [
            first,
            engine.kernel("DequantSwigluQuant", [gate, quant], [made, made[:1]], [half, half[:1]], dtype="int8"),
            last,
        ]
    return [first, engine.kernel("SwiGlu", [gate], [made], [half]), last]


def _latent(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """All before attention of latents in one kernel."""
    if not engine.option("prologue", (True, False)):
        return None
    first = next(op for op in ops if "q_a_proj" in (op.part or ""))
    hidden = engine.shapes(first)[0][0]
    weights = [engine.shapes(op)[0][1] for op in ops if op.type in ("MatMul", "QuantBatchMatmul", "BatchMatMul")]
    absorbed = next(engine.shapes(op)[1][0] for op in ops if op.part == "q_absorb")
    types = ("MlaPrologV3", "MlaPreprocess", "MlaPrologV2")
    return [
        engine.kernel(
            types, ops, [hidden, *weights], [(absorbed[1], absorbed[0], absorbed[2]), (absorbed[1], absorbed[0], 64)]
        )
    ]


def _absorbed(engine: Engine, op: PlannedOp) -> Made:
    read, made = engine.shapes(op)
    return [engine.kernel(("TransposeBatchMatMul", "BatchMatMulV2", "batch_matmul_transpose"), [op], read, made)]


def _sampled(engine: Engine, op: PlannedOp) -> Made:
    logits, token = engine.shapes(op)[0][0], engine.shapes(op)[1][0]
    if engine.option("greedy", (True, False)):
        return [engine.kernel(("ArgMaxV2", "ArgMaxWithValue"), [op], [logits], [token], dtype="int32")]
    chance = [
        engine.kernel("Cast", [op], [logits], [logits], 0.5),
        engine.kernel("RealDiv", [op], [logits, ()], [logits], 0.5),
    ]
    chance += [
        engine.kernel(type_, [op], [logits], [logits], 0.5)
        for type_ in ("ApplyTopKTopP", "SoftmaxV2", "DSARandomUniform", "RealDiv")
    ]
    for row in chance:
        row.ops = ()
    return [*chance, engine.kernel("ArgMaxV2", [op], [logits], [token], dtype="int32")]


def _embedded(engine: Engine, op: PlannedOp) -> Made:
    return [engine.kernel(("GatherV2", "GatherV3", "aclnnEmbedding_GatherV2AiCore_GatherV2"), [op])]


Alone = Mapping[str, Callable[[Engine, PlannedOp], Made]]
Together = Sequence[tuple[tuple[str, ...], Callable[[Engine, Sequence[PlannedOp]], Made | None], int]]
_ALONE: Alone = {
    "MatMul": _product,
    "BatchMatMul": _absorbed,
    "Embedding": _embedded,
    "RotaryMul": _rotary,
    "InterleaveRope": _rotary,
    "ReshapeAndCache": _cache,
    "FusedInferAttentionScore": _attention,
    "AllReduce": _reduced,
    "AllGather": moved("hcom_allGather_"),
    "ReduceScatter": moved("hcom_reduceScatter_"),
    "AllToAll": moved("hcom_alltoallv_", "hcom_alltoall_"),
    "MoeGatingTopK": _gating,
    "MoeDistributeDispatch": _dispatch,
    "MoeDistributeCombine": _combine,
    "ArgMax": _sampled,
    "SwiGlu": plain("SwiGlu", "aclnnSwiGlu_SwiGlu_SwiGlu"),
    "Add": plain("Add", "aclnnAdd_AddAiCore_Add"),
    "RmsNorm": plain("RmsNorm", "aclnnRmsNorm_RmsNorm_RmsNorm"),
    "QuantBatchMatmul": plain("QuantBatchMatmulV3"),
    "KvRmsNormRopeCache": plain("KvRmsNormRopeCache"),
    "GroupedMatmul": plain("GroupedMatmul", "GroupedMatmulV4"),
}
_TOGETHER: Together = (
    (("MatMul", "AllReduce", "Add", "RmsNorm"), _summed_product, 4),
    (("q_a_proj*", "RmsNorm", "MatMul", "KvRmsNormRopeCache", "q_absorb", "InterleaveRope"), _latent, 6),
    (
        (
            "DynamicQuant",
            "q_a_proj*",
            "RmsNorm",
            "DynamicQuant",
            "QuantBatchMatmul",
            "KvRmsNormRopeCache",
            "q_absorb",
            "InterleaveRope",
        ),
        _latent,
        8,
    ),
    (("q_proj*", "q_norm", "k_norm", "rotary"), _normed_rotary, 4),
    (("q_proj*", "rotary"), _split_rotary, 2),
    (("GroupedMatmul", "SwiGlu", "GroupedMatmul"), _experts, 3),
    (("QuantGroupedMatmul", "SwiGlu", "DynamicQuant", "QuantGroupedMatmul"), _experts, 4),
    (("DynamicQuant", "QuantBatchMatmul"), _quantised, 2),
    (("Add", "RmsNorm"), _added_norm, 2),
)
"""Ops that engines run together, the most first: which, how, and how many they are."""
