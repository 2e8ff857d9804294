"""
Training steps as profiles of torch_npu have them: the kernels that Megatron-LM with MindSpeed launches.

What a run launches for an op is decided once (`trainer_run(plan, seed)`), as its options and version are: angles made
in every call or gathered once, copies of strided views, norms' gradients in one kernel and a cast, sums of gradients
within the product or apart, the loss over a vocabulary that is split, experts sent by all-to-all in several kernels,
updates one by one or in one, with norms, clipping, checks for NaN and copies of weights beside them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from math import prod

from memplan.schema import Plan, PlannedOp
from tests.align.launcher import Launcher, Made, moved, plain
from tests.align.simulated_runs import Disturbance, RunKernel, Shape, SimulatedRun, run_of

_HEAD = 128
_NOISE = Disturbance(noise=0.15)


def trainer_run(plan: Plan, seed: int, steps: int = 1) -> SimulatedRun:
    """So many steps of a run whose options are drawn with `seed`."""
    trainer = _Trainer(plan, random.Random(seed))
    return run_of(plan, [row for _ in range(steps) for row in trainer.step()], seed, _NOISE)


class _Trainer(Launcher):
    def step(self) -> Made:
        ops = [op for op in self.plan.ops if op.kernel is not None]
        rows = [self.other("ZerosLike", [(1 << 20,)], [(1 << 20,)])]
        place, updates = 0, False
        while place < len(ops):
            op = ops[place]
            if op.type == "ApplyAdamW" and not updates:
                rows += self.before_updates(ops[place:])
                updates = True
            count, made = self.at(ops, place)
            if op.phase == "grad_sync" and op.type in ("ReduceScatter", "AllReduce") and op.part != "embedding.tie":
                rows += self.before_exchange(op)
            rows += made
            place += count
        return [*rows, self.other("Add", [(1,), ()], [(1,)])]

    def at(self, ops: Sequence[PlannedOp], place: int) -> tuple[int, Made]:
        op = ops[place]
        name = op.part or op.name
        summed = name.endswith(".dw") and place + 1 < len(ops) and (ops[place + 1].part or "").endswith(".add")
        if summed and op.type == "MatMul" and self.option("summed in the product", (True, False)):
            types = ("MatmulAddFp32", "aclnnMatmulAdd_MatMulV3")
            read = [*self.shapes(op)[0], *self.shapes(op)[1]]
            return 2, [self.kernel(types, ops[place : place + 2], read, self.shapes(op)[1])]
        make = _ALONE.get(op.type)
        return 1, make(self, op) if make else [self.kernel(op.type, [op])]

    def before_exchange(self, op: PlannedOp) -> Made:
        """Checks of a bucket and its scaling."""
        size = (sum(prod(shape) for shape in self.shapes(op)[0]),)
        rows = [self.short("Mul", [size, ()], [size])]
        if self.option("checks", (True, False)):
            rows = [
                self.short("LpNormV2", [size], [()]),
                self.other("NotEqual", [(), ()], [()]),
                self.other("Abs", [()], [()]),
                self.other("Equal", [(), ()], [()]),
                *rows,
            ]
        return rows

    def before_updates(self, ops: Sequence[PlannedOp]) -> Made:
        """The norm of all gradients and what clips them."""
        sizes = [self.shapes(op)[0][0] for op in ops if op.type == "ApplyAdamW"]
        if self.option("foreach", (True, False)):
            rows = [self.short("ForeachNorm", sizes[:8], [() for _ in sizes[:8]]) for _ in range(0, len(sizes), 8)]
        else:
            rows = []
            for size in sizes:
                rows += [
                    self.short("LpNormV2", [size], [()]),
                    self.other("Pows", [(), ()], [()]),
                    self.other("Add", [(), ()], [()]),
                ]
        total = self.other("hcom_allReduce_", [], [])
        total.stream, total.shaped = 1, False
        rows += [
            total,
            self.other("Pows", [(), ()], [()]),
            self.other("Add", [(), ()], [()]),
            self.other("Reciprocal", [()], [()]),
        ]
        return [*rows, *(self.short("Mul", [size, ()], [size]) for size in sizes)]

    def short(self, type_: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> RunKernel:
        """A kernel in no plan that goes through all of its first operand."""
        row = self.other(type_, inputs, outputs)
        row.dtype, row.duration_ns = "float32", 2500 + prod(inputs[0]) * 4 // 1000
        return row


def _tokens_first(shape: Shape) -> Shape:
    return (shape[0], 1, *shape[1:])


def _heads(shape: Shape, head: int = _HEAD) -> Shape:
    return (shape[0], 1, shape[1] // head, head) if len(shape) == 2 and shape[1] % head == 0 else shape


def _product(run: _Trainer, op: PlannedOp) -> Made:
    types = ("MatMulV2", "MatMulV3", "aclnnMatmul_MatMulV3Common_MatMulV3", "aclnnMatmul_MatMulCommon_MatMulV2")
    first = run.shapes(op)[0]
    if (op.part or "").endswith(".dw") and len(first) > 1 and run.option("turned", (True, False, False)):
        turned = run.kernel("Transpose", [op], [first[0]], [first[0][::-1]], 0.05)
        return [turned, run.kernel(types, [op], [first[0][::-1], first[1]], None)]
    return [run.kernel(types, [op])]


def _norm(run: _Trainer, op: PlannedOp) -> Made:
    read, _ = run.shapes(op)
    weight = read[1][0]
    wide = _heads(read[0], weight) if read[0][-1] != weight else _tokens_first(read[0])
    if run.option("norm", ("fused", "fused", "written")) == "fused":
        return [run.kernel(("RmsNorm", "aclnnRmsNorm_RmsNorm_RmsNorm"), [op], [wide, read[1]], [wide, (*wide[:-1], 1)])]
    one = (*wide[:-1], 1)
    steps = (
        ("Cast", [wide], wide),
        ("Pows", [wide, ()], wide),
        ("ReduceMean", [wide, (1,)], one),
        ("Adds", [one], one),
        ("Rsqrt", [one], one),
        ("Mul", [wide, one], wide),
        ("Cast", [wide], wide),
        ("Mul", [read[1], wide], wide),
    )
    return [run.kernel(type_, [op], inputs, [output], 1 / 5) for type_, inputs, output in steps]


def _norm_grad(run: _Trainer, op: PlannedOp) -> Made:
    read, _ = run.shapes(op)
    weight = read[2][0]
    wide = _heads(read[0], weight) if read[0][-1] != weight else _tokens_first(read[0])
    if run.option("norm", ("fused",)) == "fused":
        grad = run.kernel("RmsNormGrad", [op], [wide, wide, (*wide[:-1], 1), read[2]], [wide, read[2]])
        return [grad, run.kernel("Cast", [op], [read[2]], [read[2]], 0.02)]
    one = (*wide[:-1], 1)
    steps = (
        ("Mul", [wide, wide], wide),
        ("ReduceSum", [wide, (3,)], read[2]),
        ("Mul", [wide, read[2]], wide),
        ("Cast", [wide], wide),
        ("Mul", [wide, wide], wide),
        ("ReduceSum", [wide, (1,)], one),
        ("Mul", [wide, one], wide),
        ("Pows", [one], one),
        ("Muls", [one], one),
        ("Mul", [one, one], one),
        ("Expand", [one], wide),
        ("Div", [wide, ()], wide),
        ("Pows", [wide], wide),
        ("Muls", [wide], wide),
        ("Mul", [wide, wide], wide),
        ("Add", [wide, wide], wide),
        ("Cast", [wide], wide),
    )
    return [run.kernel(type_, [op], inputs, [output], 1 / 9) for type_, inputs, output in steps]


def _angles(run: _Trainer, op: PlannedOp) -> Made:
    table = (run.shapes(op)[1][0][0], 1, 1, _HEAD)
    if run.option("angles", ("made", "gathered")) == "gathered":
        return []
    steps = (
        ("Cos", "Mul", "Cast", "Sin", "Mul", "Cast")
        if run.option("scaled", (True, False))
        else ("Cos", "Cast", "Sin", "Cast")
    )
    return [run.kernel(type_, [op], [table], [table], 1 / len(steps), "float32") for type_ in steps]


def _rotary(run: _Trainer, op: PlannedOp) -> Made:
    read, _ = run.shapes(op)
    wide, table = _heads(read[0]), (read[0][0], 1, 1, _HEAD)
    way = run.option("rotary", ("RotaryPositionEmbedding", "RotaryMul", "written"))
    if way != "written":
        rows = [run.kernel(str(way), [op], [wide, table, table], [wide], 0.8)]
        if run.option("rotary moved", (True, False)):
            rows.append(run.kernel("TensorMove", [op], [wide], [wide], 0.2))
        return rows
    half = (*wide[:-1], wide[-1] // 2)
    steps = (
        ("Mul", [wide, table], wide),
        ("SplitV", [wide], half),
        ("Neg", [half], half),
        ("ConcatD", [half, half], wide),
        ("Mul", [wide, table], wide),
        ("Add", [wide, wide], wide),
    )
    return [run.kernel(type_, [op], inputs, [output], 1 / 4) for type_, inputs, output in steps]


def _rotary_grad(run: _Trainer, op: PlannedOp) -> Made:
    read, _ = run.shapes(op)
    wide, table = _heads(read[0]), (read[0][0], 1, 1, _HEAD)
    way = run.option("rotary", ("RotaryPositionEmbedding",))
    if way != "written":
        rows = [run.kernel(f"{way}Grad", [op], [wide, table, table], [wide], 0.7)]
        if run.option("sliced", (True, False)):
            rows += [
                run.kernel("ZerosLike", [op], [wide], [wide], 0.1),
                run.kernel("Add", [op], [wide, wide], [wide], 0.2),
            ]
        return rows
    half = (*wide[:-1], wide[-1] // 2)
    steps = (
        ("Mul", [wide, table], wide),
        ("Mul", [wide, table], wide),
        ("SplitV", [wide], half),
        ("Neg", [half], half),
        ("ConcatD", [half, half], wide),
        ("Add", [wide, wide], wide),
    )
    return [run.kernel(type_, [op], inputs, [output], 1 / 4) for type_, inputs, output in steps]


def _attention(run: _Trainer, op: PlannedOp) -> Made:
    read, made = run.shapes(op)
    q, *rest = (_tokens_first(shape) for shape in read[:3])
    rows = [run.kernel("FlashAttentionScore", [op], [q, *rest, (2048, 2048)], [*made[1:3], _tokens_first(made[0])])]
    if run.option("layout", ("SBH", "BNSD")) == "BNSD":
        before = [run.kernel("Transpose", [op], [shape], [shape], 0.02) for shape in (q, *rest)]
        return [*before, *rows, run.kernel("Transpose", [op], [q], [q], 0.02)]
    return rows


def _attention_grad(run: _Trainer, op: PlannedOp) -> Made:
    read, made = run.shapes(op)
    rows = [
        run.kernel(
            "FlashAttentionScoreGrad",
            [op],
            [_tokens_first(shape) if len(shape) == 2 else shape for shape in read],
            made,
        )
    ]
    if run.option("layout", ("SBH",)) == "BNSD":
        return [*rows, *(run.kernel("Transpose", [op], [shape], [shape], 0.02) for shape in made)]
    return rows


def _split(run: _Trainer, op: PlannedOp) -> Made:
    read, made = run.shapes(op)
    if run.option("split", ("SplitVD", "Slice")) == "Slice":
        return [run.kernel("Slice", [op], [read[0], (3,), (3,)], [shape], 1 / 3) for shape in made]
    return [run.kernel(("SplitVD", "SplitV"), [op])]


def _embedded(run: _Trainer, op: PlannedOp) -> Made:
    made = run.shapes(op)[1][0]
    rows = [run.kernel(("GatherV2", "aclnnEmbedding_GatherV2AiCore_GatherV2"), [op])]
    if run.option("masked", (True, False)):
        rows.append(run.kernel("Muls", [op], [made], [made], 0.5))
    return rows


def _embedding_grad(run: _Trainer, op: PlannedOp) -> Made:
    read, made = run.shapes(op)
    ids = read[-1]
    return [
        run.kernel("Cast", [op], [read[0]], [read[0]], 0.05),
        run.kernel("Sort", [op], [ids], [ids, ids], 0.05),
        run.kernel("MemSet", [op], [made[0]], [made[0]], 0.1),
        run.kernel("EmbeddingDenseGradV2", [op], [read[0], ids, ids], made, 0.8),
    ]


def _loss(run: _Trainer, op: PlannedOp) -> Made:
    logits = run.shapes(op)[0][0]
    one = (logits[0],)
    if run.option("loss", ("fused", "written", "written")) == "fused":
        return [
            run.kernel("LogSoftmaxV2", [op], [logits], [logits], 0.7, "float32"),
            run.kernel("NLLLoss", [op], [logits, one], [one, ()], 0.3, "float32"),
        ]
    steps: Sequence[tuple[str, Sequence[Shape], Shape]] = (
        ("ReduceMax", [logits, (1,)], one),
        ("hcom", [], ()),
        ("Sub", [logits, (*one, 1)], logits),
        ("Less", [one, ()], one),
        ("GreaterEqual", [one, ()], one),
        ("LogicalOr", [one, one], one),
        ("Sub", [one, ()], one),
        ("MaskedFill", [one, one], one),
        ("Range", [()], one),
        ("Index", [logits, one, one], one),
        ("MaskedFill", [one, one], one),
        ("hcom", [], ()),
        ("Exp", [logits], logits),
        ("ReduceSum", [logits, (1,)], one),
        ("hcom", [], ()),
        ("Log", [one], one),
        ("Sub", [one, one], one),
        ("RealDiv", [logits, (*one, 1)], logits),
    )
    rows: Made = []
    for type_, inputs, output in steps:
        if type_ != "hcom":
            rows.append(run.kernel(type_, [op], inputs, [output], 1 / 4 if logits in inputs else 0.01, "float32"))
        elif run.option("vocabulary split", (True, False)):
            row = run.collective("hcom_allReduce_", op, 0.01)
            row.ops = ()
            rows.append(row)
    return rows


def _loss_grad(run: _Trainer, op: PlannedOp) -> Made:
    logits = run.shapes(op)[0][0]
    one = (logits[0],)
    if run.option("loss", ("fused",)) == "fused":
        return [
            run.kernel("NLLLossGrad", [op], [logits, one], [logits], 0.5, "float32"),
            run.kernel("LogSoftmaxGrad", [op], [logits, logits], [logits], 0.5, "float32"),
        ]
    steps = (
        ("Range", [()], one),
        ("Index", [logits, one], one),
        ("Sub", [one, one], one),
        ("IndexPutV2", [logits, one], logits),
        ("Mul", [logits, (*one, 1)], logits),
        ("Cast", [logits], logits),
    )
    return [
        run.kernel(type_, [op], inputs, [output], 1 / 3 if logits in inputs else 0.01, "float32")
        for type_, inputs, output in steps
    ]


def _gating(run: _Trainer, op: PlannedOp) -> Made:
    logits, chosen = run.shapes(op)[0][0], run.shapes(op)[1][0]
    rows = [run.kernel("Cast", [op], [logits], [logits], 0.1, "float32")]
    if run.option("gating", ("written", "MoeGatingTopK")) == "MoeGatingTopK":
        return [run.kernel("MoeGatingTopK", [op], [logits], [chosen, chosen, logits], 0.9, "float32")]
    for type_, inputs, output in (
        ("SoftmaxV2", [logits], logits),
        ("TopKV2", [logits, ()], chosen),
        ("ReduceSum", [chosen, (1,)], (chosen[0], 1)),
        ("RealDiv", [chosen, (chosen[0], 1)], chosen),
        ("ZerosLike", [logits], logits),
        ("ScatterElementsV2", [logits, chosen, chosen], logits),
        ("ReduceSum", [logits, (1,)], (logits[1],)),
    ):
        rows.append(run.kernel(type_, [op], inputs, [output], 1 / 7, "float32"))
    return rows


def _gating_grad(run: _Trainer, op: PlannedOp) -> Made:
    read, made = run.shapes(op)
    logits, chosen = made[0], read[0]
    steps = (
        ("GatherElementsV2", [logits, chosen], chosen),
        ("RealDiv", [chosen, (chosen[0], 1)], chosen),
        ("ScatterElementsV2", [logits, chosen, chosen], logits),
        ("SoftmaxGrad", [logits, logits], logits),
        ("Cast", [logits], logits),
    )
    return [run.kernel(type_, [op], inputs, [output], 1 / 5, "float32") for type_, inputs, output in steps]


def _dispatch(run: _Trainer, op: PlannedOp) -> Made:
    """Tokens to experts: forward from `tokens` to `routed`, and the way back of what brought them home."""
    read, made = run.shapes(op)
    back = op.phase == "backward"
    routed = made[0]
    tokens = read[0]
    first = "MoeTokenUnpermuteGrad" if back else "MoeTokenPermute"
    if run.option("permute", ("fused", "written")) == "written":
        first = "IndexSelect"
    rows = [run.kernel(first, [op], [tokens, (routed[0],)], [routed], 0.15)]
    if not back:
        rows.append(run.collective("hcom_allGather_", op, 0.02))
        rows[-1].ops = ()
    rows.append(run.collective("hcom_alltoallv_", op, 0.6))
    if run.option("chunks", (True, False)):
        rows += [
            run.kernel("SplitV", [op], [routed], [routed], 0.1),
            run.kernel("ConcatD", [op], [routed], [routed], 0.15),
        ]
    return rows


def _combine(run: _Trainer, op: PlannedOp) -> Made:
    read, made = run.shapes(op)
    back = op.phase == "backward"
    routed, tokens = read[0], made[0]
    rows: Made = []
    if run.option("chunks", (True, False)):
        rows += [
            run.kernel("SplitV", [op], [routed], [routed], 0.1),
            run.kernel("ConcatD", [op], [routed], [routed], 0.15),
        ]
    rows.append(run.collective("hcom_alltoallv_", op, 0.6))
    if run.option("permute", ("fused",)) == "fused":
        rows.append(
            run.kernel("MoeTokenPermuteGrad" if back else "MoeTokenUnpermute", [op], [routed, read[-1]], [tokens], 0.15)
        )
    else:
        rows += [
            run.kernel("ZerosLike", [op], [tokens], [tokens], 0.05),
            run.kernel("ScatterAddV2", [op], [tokens, routed, routed], [tokens], 0.1),
        ]
    return rows


def _update(run: _Trainer, op: PlannedOp) -> Made:
    rows = [run.kernel(("ApplyAdamWV2", "ApplyAdamW"), [op])]
    if run.option("copied", (True, False)):
        size = run.shapes(op)[0][0]
        copy = run.kernel("Cast", [op], [size], [size], 0.1)
        copy.ops = ()
        rows.append(copy)
    return rows


_ALONE: Mapping[str, Callable[[_Trainer, PlannedOp], Made]] = {
    "MatMul": _product,
    "RmsNorm": _norm,
    "RmsNormGrad": _norm_grad,
    "Cos": _angles,
    "RotaryMul": _rotary,
    "RotaryMulGrad": _rotary_grad,
    "FlashAttentionScore": _attention,
    "FlashAttentionScoreGrad": _attention_grad,
    "SplitVD": _split,
    "Embedding": _embedded,
    "EmbeddingDenseGrad": _embedding_grad,
    "CrossEntropyLoss": _loss,
    "CrossEntropyLossGrad": _loss_grad,
    "MoeGatingTopK": _gating,
    "MoeGatingTopKGrad": _gating_grad,
    "MoeDistributeDispatch": _dispatch,
    "MoeDistributeCombine": _combine,
    "ApplyAdamW": _update,
    "Add": plain("Add", "aclnnAdd_AddAiCore_Add"),
    "SwiGlu": plain("SwiGlu"),
    "SwiGluGrad": plain("SwiGluGrad"),
    "GroupedMatmul": plain("GroupedMatmul", "GroupedMatmulV4"),
    "ConcatD": plain("ConcatD"),
    "AllReduce": moved("hcom_allReduce_"),
    "AllGather": moved("hcom_allGather_"),
    "ReduceScatter": moved("hcom_reduceScatter_"),
    "Send": moved("hcom_send_", "hcom_batchSendRecv_"),
    "Receive": moved("hcom_receive_", "hcom_batchSendRecv_"),
}
