"""
Steps of engines that run a layer in a few kernels, with the planned ops.

What the newer fusions of vllm-ascend, omni-infer, SGLang and MindIE launch: all before attention of latents in one
kernel, norms with the sum before and the quantising behind them, products with exchanges, experts with dispatch and
combine, a combine with the norm behind it; shared experts between the choice of experts and their dispatch; the copies
that stand around; the kernels of drafts and of sampling. Types and operands are those of the ops' definitions
(vllm-ascend csrc, CANN ops-transformer), written here, not read from memplan's tables.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from memplan.schema import Plan, PlannedOp
from tests.align.engine_runs import BLOCK, BLOCKS, NOISE, Engine, Together, is_part
from tests.align.launcher import Made
from tests.align.simulated_runs import Shape, SimulatedRun, run_of

EITHER = -1
"""Among the ops of a kernel that a plan may as well not have."""
_LATENT, _TURNED = 512, 64
_CACHES: tuple[Shape, Shape] = ((BLOCKS, BLOCK, 1, _LATENT), (BLOCKS, BLOCK, 1, _TURNED))


def block_run(plan: Plan, seed: int, steps: int = 4) -> SimulatedRun:
    """So many steps of such an engine, whose options are drawn with `seed`."""
    engine = _BlockEngine(plan, random.Random(seed))
    return run_of(plan, [row for _ in range(steps) for row in engine.step()], seed, NOISE)


class _BlockEngine(Engine):
    def __init__(self, plan: Plan, chance: random.Random) -> None:
        super().__init__(plan, chance)
        self.together = (*_BLOCKS_OF_OPS, *self.together)

    def ordered(self) -> list[PlannedOp]:
        """With shared experts where the engine runs them."""
        ops = super().ordered()
        way = self.option("shared", ("planned", "before dispatch", "behind dispatch", "last"))
        place = {"before dispatch": ("dispatch", 0), "behind dispatch": ("dispatch", 1), "last": ("combine", 1)}
        if way not in place:
            return ops
        part, behind = place[str(way)]
        found: list[PlannedOp] = []
        held: list[PlannedOp] = []
        for number, op in enumerate(ops):
            if _of_shared(ops, number):
                held.append(op)
                continue
            if held and op.part == part:
                found += [op, *held] if behind else [*held, op]
                held = []
            else:
                found.append(op)
        return found + held

    def step(self) -> Made:
        """The rows; a copy between two ops of a layer may be taken for a part of either or for what no plan has."""
        rows = super().step()
        for number in range(1, len(rows) - 1):
            row, sides = rows[number], (rows[number - 1], rows[number + 1])
            ops = [op for side in sides for op in side.ops if op != EITHER]
            if not row.ops and all(side.ops for side in sides) and len({self.plan.ops[op].layer for op in ops}) == 1:
                row.ops = (EITHER, *ops)
        return rows

    def before(self) -> Made:
        tokens = self.tokens()
        rows = super().before()
        if self.option("drafts", (True, False)):
            types = ("prepare_inputs_padded_kernel", "CopyAndExpandEagleInputs", "expand_kernel")
            rows += [self.other(type_, [(tokens,)] * 2, [(tokens,)]) for type_ in types]
        return rows

    def after(self, last: PlannedOp) -> Made:
        tokens = self.tokens()
        rows: Made = []
        if self.option("drafts", (True, False)):
            types = (
                "rejection_greedy_sample_kernel",
                "rejection_random_sample_kernel",
                "sample_recovered_tokens_kernel",
            )
            rows.append(self.other(str(self.option("rejection", types)), [(tokens,)] * 3, [(tokens,)]))
        return rows + super().after(last)


def _of_shared(ops: Sequence[PlannedOp], number: int) -> bool:
    """Whether an op is of the shared expert, what quantises for it included."""
    part = ops[number].part or ""
    following = ops[number + 1].part or "" if number + 1 < len(ops) else ""
    mine = part.startswith("shared_experts") or part in ("shared_expert_gate", "shared.gate")
    return mine or (part == "quant" and following.startswith("shared_experts"))


def _normed(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """A sum, the norm of it and its quantising in one kernel."""
    if not engine.option("norm quantised", (True, False)):
        return None
    norm = next(op for op in ops if op.type == "RmsNorm")
    hidden, weight = engine.shapes(norm)[0][:2]
    if ops[0].type == "RmsNorm":
        return [engine.kernel(("RmsNormDynamicQuant", "RmsNormQuant"), ops, [hidden, weight], [hidden, hidden[:1]])]
    if engine.shapes(ops[0])[1][0] != hidden:
        return None
    types = ("AddRmsNormDynamicQuant", "AddRmsNormQuant", "AddRmsNormDynamicQuantAiCore")
    return [engine.kernel(types, ops, [hidden, hidden, weight], [hidden, hidden, hidden[:1]], dtype="int8")]


def _gathered_product(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    if not engine.option("exchange in product", (True, False)):
        return None
    read, weight = engine.shapes(ops[0])[0][0], engine.shapes(ops[1])[0][1]
    whole, made = engine.shapes(ops[0])[1][0], engine.shapes(ops[1])[1][0]
    if engine.shapes(ops[1])[0][0] != whole:  # others read what is gathered
        return None
    return [engine.kernel(("AllGatherMatmul", "AllGatherMatmulV2"), ops, [read, weight], [made, whole])]


def _summed_product(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    if not engine.option("exchange in product", (True, False)):
        return None
    types = ("MatmulReduceScatter", "MatmulReduceScatterV2") if ops[1].type == "ReduceScatter" else ("MatmulAllReduce",)
    return [engine.kernel(types, ops, engine.shapes(ops[0])[0][:2], engine.shapes(ops[1])[1][:1])]


def _dequantised_gate(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """A product that leaves sums of eight bits' products to the gate."""
    if not engine.option("gate dequantises", (True, False)):
        return None
    product, gate, quant = ops
    (read, weight, *_), (sums, *_) = engine.shapes(product)
    half = engine.shapes(gate)[1][0]
    return [
        engine.kernel("QuantBatchMatmulV3", [product], [read, weight, (weight[0],)], [sums], dtype="int32"),
        engine.kernel(
            ("DequantSwigluQuant", "_swiglu_quant_kernel"), [gate, quant],
            [sums, (weight[0],), read[:1]], [half, half[:1]], dtype="int8",
        ),
    ]  # fmt: skip


def _prologue(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    if not engine.option("prologue", (True, False)):
        return None
    down = next(op for op in ops if "q_a_proj" in (op.part or ""))
    absorb = next(op for op in ops if op.part == "q_absorb")
    hidden = engine.shapes(down)[0][0]
    weights = [engine.shapes(op)[0][1] for op in ops if op.type in ("MatMul", "QuantBatchMatmul", "BatchMatMul")]
    heads, tokens, latent = engine.shapes(absorb)[1][0]
    types = ("MlaPrologV3", "mla_preprocess_0_mix_aic", "MlaPrologV2WeightNz")
    read = [hidden, *map(_blocked, weights), (weights[1][1],), (_LATENT,), (tokens, _TURNED), (tokens, _TURNED)]
    made: list[Shape] = [(tokens, heads, latent), (tokens, heads, _TURNED), *_CACHES]
    return [engine.kernel(types, ops, [*read, *_CACHES, (tokens,)], made)]


def _blocked(weight: Shape) -> Shape:
    """A weight in the layout of the cube's blocks, where it has whole ones."""
    if len(weight) != 2 or weight[0] % 32 or weight[1] % 16:
        return weight
    return (weight[0] // 32, weight[1] // 16, 16, 32)


def _cached_latents(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """Queries are lifted and turned before the cache is written."""
    write, absorb, turn = ops
    tokens = engine.shapes(write)[0][0][0]
    (bare, weight), (lifted, *_) = engine.shapes(absorb)[0][:2], engine.shapes(absorb)[1]
    heads = lifted[0]
    entry, angles, turned = (tokens, 1, 1, _LATENT + _TURNED), (tokens, 1, 1, _TURNED), (tokens, heads, 1, _TURNED)
    rows: Made = []
    if engine.option("copied queries", (True, False)):
        rows.append(engine.other("AsStrided", [(bare[0] * bare[1] * bare[2],)], [(tokens, heads, bare[2])]))
    rows.append(engine.kernel(("BatchMatMulV2", "TransposeBatchMatMul"), [absorb], [bare, weight], [lifted]))
    if rows[-1].type == "BatchMatMulV2":
        rows.append(engine.kernel("Transpose", [absorb], [lifted, (3,)], [(tokens, heads, _LATENT)], 0.4))
    rows.append(engine.kernel("InterleaveRope", [turn], [turned, angles, angles], [turned]))
    read = [entry, (_LATENT,), angles, angles, (tokens,), *reversed(_CACHES)]
    made = [*reversed(_CACHES), angles, (tokens, 1, 1, _LATENT)]
    return [*rows, engine.kernel("KvRmsNormRopeCache", [write], read, made)]


def _whole_experts(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """Experts with what goes to other ranks and comes back."""
    if engine.option("experts", ("block", "apart")) != "block":
        return None
    types = ("DispatchFFNCombine", "DispatchGmmCombineDecode", "FusedDeepMoe")
    products = [op for op in ops if op.type.endswith("GroupedMatmul")]
    tokens, chosen = engine.shapes(ops[0])[0][:2]
    weights = [engine.shapes(op)[0][1] for op in products]
    return [engine.kernel(types, ops, [tokens, *weights, chosen, chosen], [tokens])]


def _combined_norm(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    """What comes back, the sums behind it and the norm before the next layer."""
    if not engine.option("combined norm", (True, False)) or engine.option("experts", ("block", "apart")) == "block":
        return None
    if engine.option("exchange", ("dispatch", "all to all", "gathered")) != "dispatch":
        return None
    routed, chosen = engine.shapes(ops[0])[0][:2]
    hidden, weight = engine.shapes(ops[-1])[0][:2]
    if engine.shapes(ops[-2])[1][0] != hidden:
        return None
    read = [routed, chosen, chosen, hidden, weight, *([hidden] if is_part(ops[1], "add_shared") else [])]
    made = [hidden, (hidden[0], 1), hidden]
    return [engine.kernel("MoeDistributeCombineAddRmsNorm", ops, read, made)]


def _finalised(engine: Engine, ops: Sequence[PlannedOp]) -> Made | None:
    if not engine.option("finalised", (True, False)):
        return None
    down, merge = ops
    (read, weight, *_), out = engine.shapes(down)[0], engine.shapes(merge)[1][0]
    return [engine.kernel("GroupedMatmulFinalizeRouting", ops, [read, weight, weight[:1], read[:1]], [out])]


_LATENT_OPS = ("q_a_proj*", "RmsNorm", "MatMul", "KvRmsNormRopeCache", "q_absorb", "InterleaveRope")
_QUANTISED_LATENT_OPS = (
    "DynamicQuant", "q_a_proj*", "RmsNorm", "DynamicQuant", "QuantBatchMatmul", "KvRmsNormRopeCache", "q_absorb",
    "InterleaveRope",
)  # fmt: skip
_EXPERTS = ("GroupedMatmul", "SwiGlu", "GroupedMatmul")
_QUANTISED_EXPERTS = ("QuantGroupedMatmul", "SwiGlu", "DynamicQuant", "QuantGroupedMatmul")
_BLOCKS_OF_OPS: Together = (
    (("MoeDistributeDispatch", *_QUANTISED_EXPERTS, "MoeDistributeCombine"), _whole_experts, 6),
    (("MoeDistributeDispatch", *_EXPERTS, "MoeDistributeCombine"), _whole_experts, 5),
    (_QUANTISED_LATENT_OPS, _prologue, 8),
    (_LATENT_OPS, _prologue, 6),
    (("MoeDistributeCombine", "add_shared", "ffn.add", "RmsNorm"), _combined_norm, 4),
    (("MoeDistributeCombine", "ffn.add", "RmsNorm"), _combined_norm, 3),
    (("QuantGroupedMatmul", "MoeFinalizeRouting"), _finalised, 2),
    (("GroupedMatmul", "MoeFinalizeRouting"), _finalised, 2),
    (("KvRmsNormRopeCache", "q_absorb", "InterleaveRope"), _cached_latents, 3),
    (("QuantBatchMatmul", "SwiGlu", "DynamicQuant"), _dequantised_gate, 3),
    (("Add", "RmsNorm", "DynamicQuant"), _normed, 3),
    (("RmsNorm", "DynamicQuant"), _normed, 2),
    (("AllGather", "MatMul"), _gathered_product, 2),
    (("MatMul", "ReduceScatter"), _summed_product, 2),
    (("MatMul", "AllReduce"), _summed_product, 2),
)
"""Ops that such engines run together, tried in this order: which, how, and how many they are."""

__all__ = ["EITHER", "block_run"]
