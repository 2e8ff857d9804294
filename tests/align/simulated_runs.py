"""
Runs of a plan with the truth beside them: names gone, ops split and fused, kernels added and dropped, order disturbed.

What a run does to an op it mostly does in every layer, as frameworks do, and now and then to one alone. Kernel types
are spelt as CANN, torch_npu and ATen spell them; the recipes are written here, not read from memplan's tables.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

import memplan
from memplan.align import Alignment
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph, training_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.training.recipe_choices import Schedule
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan, PlannedKernel
from memplan.traces.profile import Kernels

Shape = tuple[int, ...]


@dataclass(slots=True)
class RunKernel:
    """A kernel of a run; `ops` are the planned ops it runs, none for one that no plan has."""

    type: str
    inputs: list[Shape]
    outputs: list[Shape]
    dtype: str
    duration_ns: int
    ops: tuple[int, ...]
    stream: int = 0
    shaped: bool = True


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """The kernel table, and for each of its rows the planned ops that it runs."""

    plan: Plan
    kernels: Kernels
    truth: tuple[frozenset[int], ...]


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Shares: ops split and fused, kernels added and dropped, kernels that change places with a neighbour."""

    split: float = 0.25
    fuse: float = 0.05
    alone: float = 0.03
    add: float = 0.1
    drop: float = 0.1
    swap: float = 0.03
    noise: float = 0.25
    steps: int = 1
    cut: float = 0.0


_TYPES: dict[str, tuple[str, ...]] = {
    "MatMul": ("MatMulV3", "MatMulV2", "BatchMatMulV2", "aclnnMatmul_MatMulV3Common_MatMulV3", "aten::mm"),
    "GroupedMatmul": ("GroupedMatmul", "GroupedMatmulV4"),
    "RmsNorm": ("RmsNorm", "aclnnRmsNorm_RmsNorm_RmsNorm"),
    "AddRmsNorm": ("AddRmsNorm", "InplaceAddRmsNorm"),
    "RotaryMul": ("RotaryPositionEmbedding", "RotaryMul", "ApplyRotaryPosEmb", "InterleaveRope"),
    "RotaryMulGrad": ("RotaryPositionEmbeddingGrad", "RotaryMulGrad"),
    "Embedding": ("GatherV2", "aten::embedding", "GatherV3"),
    "EmbeddingDenseGrad": ("EmbeddingDenseGradV2", "aten::embedding_dense_backward", "EmbeddingDenseGrad"),
    "SplitVD": ("SplitV", "SplitVD", "Split", "Slice", "StridedSlice"),
    "ConcatD": ("ConcatD", "Concat", "aten::cat", "Pack"),
    "ApplyAdamW": ("ApplyAdamWV2", "ApplyAdamW", "ApplyAdamD"),
    "Add": ("Add", "AddV2", "aten::add_", "aclnnAdd_AddAiCore_Add"),
    "CrossEntropyLoss": ("CrossEntropyLoss", "SparseSoftmaxCrossEntropyWithLogits", "NLLLoss"),
    "CrossEntropyLossGrad": ("CrossEntropyLossGrad", "SparseSoftmaxCrossEntropyWithLogitsGrad", "NLLLossGrad"),
    "Cos": ("Cos", "aten::cos"),
    "AllReduce": ("hcom_allReduce_", "HcclAllReduce", "AllReduce"),
    "AllGather": ("hcom_allGather_", "HcclAllGather", "AllGather"),
    "ReduceScatter": ("hcom_reduceScatter_", "ReduceScatter"),
    "Send": ("hcom_send_", "hcom_batchSendRecv_", "Send"),
    "Receive": ("hcom_receive_", "hcom_batchSendRecv_", "Receive"),
    "MoeDistributeDispatch": ("MoeDistributeDispatchV2", "MoeDistributeDispatch"),
    "MoeDistributeCombine": ("MoeDistributeCombineV2", "MoeDistributeCombine"),
    "FusedInferAttentionScore": ("FusedInferAttentionScore", "IncreFlashAttention", "PagedAttentionMaskNdKernel"),
}
_COLLECTIVES = ("AllReduce", "AllGather", "ReduceScatter", "Send", "Receive")
# Written out: types in order, the size of each being that of the op's `n`-th largest operand.
_WRITTEN: dict[str, tuple[tuple[str, ...], ...]] = {
    "RmsNorm": (
        ("Cast", "Pows", "ReduceMean", "Adds", "Rsqrt", "Mul", "Cast", "Mul"),
        ("Square", "aten::mean", "Add", "Rsqrt", "Mul", "Mul"),
    ),
    "RotaryMul": (("Slice", "Slice", "Neg", "ConcatD", "Mul", "Mul", "Add"), ("Cast", "RotaryMul", "TensorMove")),
    "SwiGlu": (("Slice", "Slice", "Swish", "Mul"), ("aten::silu", "aten::mul")),
    "SwiGluGrad": (("SwishGrad", "Mul", "Mul", "ConcatD"),),
    "Cos": (("Cos", "Mul", "Cast", "Sin", "Mul", "Cast"), ("Cos", "Sin"), ("Cos", "Cast", "Sin", "Cast")),
    "CrossEntropyLoss": (
        ("ReduceMax", "Sub", "Exp", "ReduceSum", "Log", "GatherElements", "Sub", "RealDiv"),
        ("LogSoftmaxV2", "NLLLoss"),
    ),
    "CrossEntropyLossGrad": (("ScatterElements", "Mul", "Sub", "Cast"),),
    "EmbeddingDenseGrad": (("Cast", "Cast", "Sort", "MemSet", "EmbeddingDenseGradV2"),),
    "RmsNormGrad": (("RmsNormGrad", "Cast"), ("Mul", "Mul", "ReduceSum", "Mul", "Sub", "Cast")),
    "RotaryMulGrad": (("RotaryMulGrad", "ZerosLike", "Add"), ("Mul", "Neg", "ConcatD", "Mul", "Add")),
    "Embedding": (("GatherV2", "Muls"),),
    "SplitVD": (("Slice", "Slice", "Slice"), ("StridedSlice", "TensorMove", "StridedSlice")),
    "ApplyAdamW": (("Subs", "ApplyAdamWV2"), ("Mul", "Mul", "Add", "Addcmul", "Sqrt", "Addcdiv")),
    "MatMul": (("TransData", "MatMulV3", "TransData"), ("Transpose", "MatMulV3"), ("MatMulV3", "Add")),
    "FlashAttentionScore": (
        ("FlashAttentionScore", "TensorMove"),
        ("BatchMatMulV2", "Muls", "MaskedFill", "SoftmaxV2", "BatchMatMulV2"),
    ),
    "FlashAttentionScoreGrad": (("FlashAttentionScoreGrad", "Cast"),),
}
_STRANGERS = (
    "Add", "Cast", "TensorMove", "Fill", "Equal", "NotEqual", "Abs", "IsFinite", "LpNormV2", "Muls", "Range",
    "NonZero", "ZerosLike", "ReduceSum", "Slice", "Pows", "Greater", "hcom_allReduce_",
)  # fmt: skip


def simulate_run(plan: Plan, seed: int, what: Disturbance = Disturbance()) -> SimulatedRun:
    """A run of `plan`; equal seeds give equal runs."""
    return _Simulator(plan, random.Random(seed), what).run()


@dataclass
class _Simulator:
    plan: Plan
    chance: random.Random
    what: Disturbance
    styles: dict[tuple[str, ...], object] = field(default_factory=dict)

    def run(self) -> SimulatedRun:
        rows: list[RunKernel] = []
        for step in range(self.what.steps):
            mine = self._disturbed(self._fused(self._lowered()))
            if step == 0 and self.what.cut:
                mine = mine[int(len(mine) * self.what.cut * self.chance.random()) :]
            rows += mine
        return SimulatedRun(self.plan, self._table(rows), tuple(frozenset(row.ops) for row in rows))

    def _style(self, key: tuple[str, ...], draw: Callable[[], object]) -> object:
        """What this run does to such ops: decided once, and now and then anew for one alone."""
        if self.chance.random() < self.what.alone:
            return draw()
        if key not in self.styles:
            self.styles[key] = draw()
        return self.styles[key]

    def _lowered(self) -> list[RunKernel]:
        rows: list[RunKernel] = []
        for op in self.plan.ops:
            if op.kernel is None:
                continue
            launched = self.plan.kernels[op.kernel]
            part = op.part or op.name.rpartition(".")[2]
            rows += self._op(op.index, op.type, part, launched, op.duration_ns)
        return rows

    def _op(self, index: int, type_: str, part: str, launched: PlannedKernel, duration: int) -> list[RunKernel]:
        inputs = [item.shape for item in launched.inputs if item is not None]
        outputs = [item.shape for item in launched.outputs]
        dtype = launched.outputs[0].dtype if launched.outputs else "float32"
        stream = 1 if type_ in _COLLECTIVES else 0
        if type_ in _COLLECTIVES:
            return [RunKernel(self._type(type_, part), [], [], dtype, duration, (index,), stream, shaped=False)]

        def draw() -> object:
            if self.chance.random() >= self.what.split:
                return None
            if type_ == "MatMul" and "+" in part and self.chance.random() < 0.6:
                return part.count("+") + 1
            recipes = _WRITTEN.get(type_)
            return self.chance.choice(recipes) if recipes else None

        style = self._style(("split", type_, part), draw)
        if isinstance(style, int):
            return self._pieces(index, part, inputs, outputs, dtype, duration, style)
        if style is None or not isinstance(style, tuple):
            return [RunKernel(self._type(type_, part), inputs, outputs, dtype, duration, (index,))]
        return self._written(index, style, inputs, outputs, dtype, duration)

    def _type(self, type_: str, part: str) -> str:
        known = _TYPES.get(type_, (type_, f"aclnn{type_}", f"{type_}V2"))
        return str(self._style(("type", type_, part), lambda: self.chance.choice(known)))

    def _pieces(
        self, index: int, part: str, inputs: list[Shape], outputs: list[Shape], dtype: str, duration: int, count: int
    ) -> list[RunKernel]:
        """A product of several weights side by side as a product of each."""
        rows, columns, inner = outputs[0][0], outputs[0][-1], inputs[0][-1]
        if len(inputs) < 2 or inputs[1] != (columns, inner) or columns % (2 * count):
            return [RunKernel(self._type("MatMul", part), inputs, outputs, dtype, duration, (index,))]
        first = columns // 2 if count == 3 else columns // count
        widths = [first, *[(columns - first) // (count - 1)] * (count - 1)]
        return [
            RunKernel(
                self._type("MatMul", part), [inputs[0], (width, inner)], [(rows, width)], dtype,
                duration * width // columns, (index,),
            )
            for width in widths
        ]  # fmt: skip

    def _written(
        self, index: int, types: Sequence[str], inputs: list[Shape], outputs: list[Shape], dtype: str, duration: int
    ) -> list[RunKernel]:
        shapes = [shape for shape in [*outputs, *inputs] if _size(shape) > 1] or [(1,)]
        main = max(shapes, key=_size)
        rows = []
        heavy = sum(
            type_ in ("MatMulV3", "FlashAttentionScore", "FlashAttentionScoreGrad", "BatchMatMulV2") for type_ in types
        )
        for type_ in types:
            if type_ in (
                "MatMulV3",
                "FlashAttentionScore",
                "FlashAttentionScoreGrad",
                "RmsNormGrad",
                "RotaryMulGrad",
                "RotaryMul",
                "GatherV2",
                "EmbeddingDenseGradV2",
                "ApplyAdamWV2",
            ):
                read, made = inputs, outputs
            elif type_.startswith("Reduce") or type_ == "aten::mean":
                read, made = [main], [(*main[:-1], 1)]
            elif type_ in ("Slice", "StridedSlice"):
                made = [self.chance.choice([shape for shape in shapes if _size(shape) < _size(main)] or [main])]
                read = [main]
            elif type_ in ("Subs", "Adds") and types[0] == "Subs":
                read, made = [(), ()], [()]
            else:
                shape = self.chance.choice(shapes) if self.chance.random() < 0.3 else shapes[0]
                read, made = [shape] * (2 if type_ in ("Mul", "Add", "Sub") else 1), [shape]
            share = (
                duration // max(heavy, 1)
                if heavy and type_ in ("MatMulV3", "FlashAttentionScore", "BatchMatMulV2", "FlashAttentionScoreGrad")
                else max(duration // (8 if heavy else len(types)), 1000)
            )
            scalar = not any(_size(shape) > 1 for shape in (*read, *made))
            rows.append(RunKernel(type_, read, made, dtype, 2000 if scalar else share, (index,)))
        return rows

    def _fused(self, rows: list[RunKernel]) -> list[RunKernel]:
        """Neighbours in one kernel whose type tells both."""
        found: list[RunKernel] = []
        for row in rows:
            last = found[-1] if found else None
            if last is not None and row.stream == last.stream == 0 and len(last.ops) == 1 and last.ops != row.ops:
                key = ("fuse", self._part(last), self._part(row))
                if self._style(key, lambda: self.chance.random() < self.what.fuse):
                    names = [_bare(last.type), _bare(row.type)]
                    found[-1] = replace(
                        last, type="FusionOp_" + "_".join(names), inputs=[*last.inputs, *row.inputs],
                        outputs=row.outputs, ops=(*last.ops, *row.ops), duration_ns=last.duration_ns + row.duration_ns,
                    )  # fmt: skip
                    continue
            found.append(row)
        return found

    def _part(self, row: RunKernel) -> str:
        return (self.plan.ops[row.ops[0]].part or "") + row.type

    def _disturbed(self, rows: list[RunKernel]) -> list[RunKernel]:
        kept = [row for row in rows if self.chance.random() >= self.what.drop]
        sizes = [shape for row in kept[:200] for shape in row.outputs] or [(8,)]
        found: list[RunKernel] = []
        for row in kept:
            if self.chance.random() < self.what.add:
                found.append(self._stranger(sizes))
            found.append(row)
        for place in range(len(found) - 1):
            if self.chance.random() < self.what.swap and not set(found[place].ops) & set(found[place + 1].ops):
                found[place], found[place + 1] = found[place + 1], found[place]
        # Streams run ahead of one another by a few kernels; each keeps its own order.
        late: dict[int, float] = {}
        keys = []
        for place, row in enumerate(found):
            shift = self.chance.uniform(-2, 2) if row.stream else 0.0
            late[row.stream] = max(late.get(row.stream, -1.0), place + shift)
            keys.append(late[row.stream])
        return [found[place] for place in sorted(range(len(found)), key=lambda place: (keys[place], place))]

    def _stranger(self, sizes: Sequence[Shape]) -> RunKernel:
        type_ = self.chance.choice(_STRANGERS)
        if type_.startswith("hcom"):
            return RunKernel(type_, [], [], "float32", 5000, (), 1, shaped=False)
        shape = self.chance.choice([(), (1,), (8,), (self.chance.randrange(2, 5000),), self.chance.choice(sizes)])
        made = () if type_ in ("LpNormV2", "ReduceSum") else shape
        return RunKernel(type_, [shape], [made], "float32", self.chance.randrange(1000, 8000), ())

    def _table(self, rows: Sequence[RunKernel]) -> Kernels:
        count = len(rows)
        noisy = [max(1, int(row.duration_ns * self.chance.lognormvariate(0.0, self.what.noise))) for row in rows]
        duration = np.array(noisy, dtype=np.int64)
        start = np.concatenate(([0], np.cumsum(duration + 1000)[:-1])).astype(np.int64)
        unknown = np.full(count, -1, dtype=np.int64)
        names = [f"{_bare(row.type)}_{self.chance.randrange(10**6)}" for row in rows]
        return Kernels(
            start_ns=start, duration_ns=duration, wait_ns=np.zeros(count, dtype=np.int64), step=unknown,
            stream=np.array([row.stream for row in rows], dtype=np.int64), block_count=unknown, name=names,
            type=[row.type for row in rows],
            core=["COMMUNICATION" if row.stream else "AI_VECTOR_CORE" for row in rows],
            input_shapes=[self._text(row.inputs) if row.shaped else "N/A" for row in rows],
            input_dtypes=[";".join(_spelt(row.dtype) for _ in row.inputs) for row in rows],
            output_shapes=[self._text(row.outputs) if row.shaped else "N/A" for row in rows],
            output_dtypes=[";".join(_spelt(row.dtype) for _ in row.outputs) for row in rows],
            pmu={},
        )  # fmt: skip

    def _text(self, shapes: Sequence[Shape]) -> str:
        """Shapes as views of themselves: an extra dimension of one, a transpose."""
        texts = []
        for shape in shapes:
            dims = list(shape)
            if len(dims) == 2 and self._style(("ones", str(shape)), lambda: self.chance.random() < 0.5):
                dims = [dims[0], 1, dims[1]]
            texts.append(",".join(map(str, dims)))
        return ";".join(texts)


def run_of(plan: Plan, rows: Sequence[RunKernel], seed: int, what: Disturbance = Disturbance()) -> SimulatedRun:
    """A run of these kernels, in this order; `what` tells how noisy their durations are."""
    table = _Simulator(plan, random.Random(seed), what)._table(rows)
    return SimulatedRun(plan, table, tuple(frozenset(row.ops) for row in rows))


def _bare(type_: str) -> str:
    return type_.replace("aten::", "").replace("aclnn", "").split("_")[-1 if "_" in type_ else 0] or type_


def _spelt(dtype: str) -> str:
    return {"bfloat16": "DT_BF16", "float32": "FLOAT", "float16": "FLOAT16", "int32": "INT32"}.get(dtype, dtype.upper())


def _size(shape: Shape) -> int:
    size = 1
    for dim in shape:
        size *= dim
    return size


def disturbance(seed: int) -> Disturbance:
    """
    What is done to run `seed`: up to a tenth of the kernels added and dropped, in one to three steps.

    Every fourth run begins in the middle of a step.
    """
    strength = random.Random(seed).random()
    return Disturbance(
        add=0.1 * strength,
        drop=0.1 * strength,
        alone=0.03 * strength,
        swap=0.03 * strength,
        steps=1 + seed % 3,
        cut=0.5 if seed % 4 == 3 else 0.0,
    )


def right_share(run: SimulatedRun, found: Sequence[int]) -> float:
    """Share of kernel time for which `found`, the planned op of each kernel or -1, is right."""
    times = run.kernels.duration_ns.tolist()
    right = sum(
        time for time, op, truth in zip(times, found, run.truth, strict=True) if (op in truth if op >= 0 else not truth)
    )
    return float(right / sum(times))


def checked_claims(run: SimulatedRun, found: Alignment) -> tuple[list[tuple[float, bool]], list[tuple[float, bool]]]:
    """
    Probabilities given and whether that was right: of every pair that the kernel runs the op, and of every kernel that
    it is of the scope said, its phase, micro-batch, layer and part, or of no plan.
    """
    matches = found.matches
    pairs = [
        (chance, op in run.truth[kernel])
        for op, kernel, chance in zip(
            matches.op.tolist(), matches.kernel.tolist(), matches.probability.tolist(), strict=True
        )
    ]
    return pairs, list(zip(found.scopes.probability.tolist(), scopes_right(run, found), strict=True))


def scopes_right(run: SimulatedRun, found: Alignment) -> list[bool]:
    """For each kernel whether the scope of its op is that of one that it runs; of one in no plan whether it is."""
    scope = planned_scopes(run.plan)
    return [
        scope[op] in {scope[other] for other in truth} if op >= 0 else not truth
        for op, truth in zip(found.op_of_kernel().tolist(), run.truth, strict=True)
    ]


def planned_scopes(plan: Plan) -> list[tuple[str | None, int | None, int | None, str]]:
    """Phase, micro-batch, layer and part of every planned op."""
    return [(op.phase, op.micro_batch, op.layer, op.part or op.name) for op in plan.ops]


@cache
def model_plans(configs: Path) -> dict[str, Plan]:
    """Plans of small models of several kinds, layouts and phases; layers are those of the published ones."""
    found: dict[str, Plan] = {}

    def model(name: str, layers: int) -> ModelConfig:
        config = load_config(configs / f"{name}.json")
        return replace(config, layers=config.layers[:layers])

    trainings = {
        "qwen3 PP2 DP2": ("Qwen--Qwen3-0.6B", 6, Layout(pipeline=2, data=2), Recipe(4096, 1, 2), 0),
        "qwen3 last stage": ("Qwen--Qwen3-1.7B", 6, Layout(pipeline=2, data=2), Recipe(4096, 1, 3), 1),
        "llama TP2": ("meta-llama--Meta-Llama-3.1-8B", 3, Layout(tensor=2, data=2), Recipe(2048, 2, 2), 0),
        "llama recomputed": (
            "meta-llama--Meta-Llama-3.1-8B", 4, Layout(tensor=4),
            Recipe(4096, 1, 2, recompute_layers=4, sequence_parallel=True), 0,
        ),
        "qwen3 moe EP4": ("Qwen--Qwen3-30B-A3B", 3, Layout(data=4, expert=4), Recipe(2048, 1, 2), 0),
        "mixtral GPipe": (
            "mistralai--Mixtral-8x7B-v0.1", 4, Layout(tensor=2, pipeline=2),
            Recipe(2048, 1, 3, schedule=Schedule.GPIPE), 0,
        ),
    }  # fmt: skip
    for name, (config, layers, layout, recipe, stage) in trainings.items():
        graph = training_graph(model(config, layers), layout, recipe, stage=stage)
        found[name] = memplan.plan(graph, chip="910B2")
    served = {
        "qwen3 decode TP4": ("Qwen--Qwen3-32B", 12, Layout(tensor=4), ServedStep(Phase.DECODE, 32, 4096)),
        "qwen3 moe decode": ("Qwen--Qwen3-30B-A3B", 10, Layout(data=2, expert=2), ServedStep(Phase.DECODE, 64, 2048)),
        "llama prefill": ("meta-llama--Meta-Llama-3.1-8B", 16, Layout(tensor=2), ServedStep(Phase.PREFILL, 1, 2048)),
        "deepseek decode": (
            "deepseek-ai--DeepSeek-V3",
            8,
            Layout(data=8, expert=8),
            ServedStep(Phase.DECODE, 64, 4096),
        ),
    }
    for name, (config, layers, layout, step) in served.items():
        found[name] = memplan.plan(model_graph(model(config, layers), None, layout, step), chip="910B2")
    return found
