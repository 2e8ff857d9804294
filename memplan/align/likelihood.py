"""
How much more likely a kernel is where an op runs it than anywhere: ratios by pair of classes.

The sizes of operands tell most: products of dimensions, so that views and transposes don't count. The weights are
natural logarithms of likelihood ratios; they and the prices of `pair_model.json` are set on simulated runs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.op_families import UNKNOWN_FAMILY, family_table
from memplan.align.tokens import Bools, TokenClasses
from memplan.core.resources import table

Singles = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LoweringRule:
    """
    What runs an op of a family: families of the kernel itself (the usual one first) and of parts before and after it.

    `repeats` is whether several such kernels may run it, `written_out` whether parts alone may.
    """

    kernels: tuple[int, ...]
    parts: frozenset[int]
    repeats: bool
    written_out: bool


@cache
def lowering_rules() -> Mapping[int, LoweringRule]:
    """The rules of `lowering.json` by family."""
    known = family_table()
    found = {}
    for name, rule in table("memplan.align", "lowering.json")["ops"].items():
        found[known.number(name)] = LoweringRule(
            tuple(known.number(item) for item in rule["kernels"]),
            frozenset(known.number(item) for item in rule["parts"]),
            bool(rule.get("repeats", False)),
            bool(rule.get("written_out", False)),
        )
    return found


def rule_of(family: int) -> LoweringRule:
    """The rule of a family; one without its own is run by a kernel of that family and nothing else."""
    return lowering_rules().get(family) or LoweringRule((family,), frozenset(), False, False)


def pair_model() -> Mapping[str, Any]:
    """Weights and prices of the alignment."""
    return table("memplan.align", "pair_model.json")


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """
    Ratios by class of op and class of kernel.

    `core`: the kernel runs the op; `before`, `behind`: it is something before or after that; `again`: another kernel of
    an op that several run; `fused`: a kernel that ran the op before runs this one too.
    """

    core: Singles
    before: Singles
    behind: Singles
    again: Singles
    fused: Singles


def likelihoods(ops: TokenClasses, rules: Sequence[LoweringRule], kernels: TokenClasses) -> Likelihoods:
    """The ratios of every pair of classes; `rules` say what runs each class of ops."""
    weights = pair_model()["weights"]
    shape = len(ops), len(kernels)
    core, part, again, fused = (np.zeros(shape, dtype=np.float32) for _ in range(4))
    known = family_table()
    transfers = known.number("send_receive")
    movers = np.isin(kernels.main, list(known.movers))
    for row in range(len(ops)):
        rule = rules[row]
        relation = _relation(ops, row, kernels)
        sized = _shape_weight(ops, row, kernels, relation, weights)
        if not rule.kernels:
            continue  # the sentinel
        usual = kernels.families[:, rule.kernels[0]] & (rule.kernels[0] != UNKNOWN_FAMILY)
        other = kernels.families[:, list(rule.kernels[1:])].any(axis=1)
        runs = np.where(usual, weights["same_family"], np.where(other, weights["other_kernel"], -np.inf))
        core[row] = np.exp(runs + sized)
        helps = np.isin(kernels.main, list(rule.parts))
        near = np.select(
            [kernels.scalar, ~kernels.known, relation.kernel_share >= 1.0, relation.kernel_share > 0.0],
            [weights["part_scalar"], weights["part_unknown"], weights["part_related"], weights["part_half_related"]],
            weights["part_unrelated"],
        )
        moved = movers & (relation.kernel_share > 0.0)
        part[row] = np.exp(
            np.where(helps, near, np.where(moved, weights["mover_related"], weights["stranger"])).astype(np.float64)
        )
        repeated = runs + np.where(relation.piece, weights["piece"], -np.inf)
        if rule.repeats:
            repeated = np.maximum(repeated, runs + np.minimum(sized, 0.0) + weights["repeat"])
        again[row] = np.exp(repeated)
        both = kernels.families[:, rule.kernels[0]] & (kernels.families.sum(axis=1) > 1)
        joint = np.where(both & (relation.op_share > 0.0), weights["fused_families"], -np.inf)
        joint = np.where(usual & relation.covers, weights["fused_covers"], joint)
        if rule.kernels[0] == transfers:
            joint = np.where(usual, weights["fused_transfers"], joint)  # sent and received in one batch
        fused[row] = np.exp(joint)
    return Likelihoods(core, part, part, again, fused)


@dataclass(frozen=True, slots=True)
class _Relation:
    """
    How the operands of one class of ops compare with those of all classes of kernels.

    `kernel_share` is the share of a kernel's operands that the op has, `op_share` that of the op's that the kernel
    has, `output` whether the main output is among the op's; `piece` and `covers` are for products: one dimension is
    smaller or larger, the others equal.
    """

    kernel_share: NDArray[np.float64]
    op_share: NDArray[np.float64]
    output: Bools
    inputs_known: Bools
    piece: Bools
    covers: Bools


def _relation(ops: TokenClasses, row: int, kernels: TokenClasses) -> _Relation:
    mine = [size for size in ops.operands[row].tolist() if size > 0]
    made = [size for size in ops.outputs[row].tolist() if size > 0]
    operands = kernels.operands
    there = operands > 0
    count = there.sum(axis=1)
    hits = (np.isin(operands, mine) & there).sum(axis=1)
    kernel_share = np.where(count > 0, hits / np.maximum(count, 1), 0.0)
    found = [(operands == size).any(axis=1) for size in mine]
    op_share = np.mean(found, axis=0) if found else np.zeros(len(kernels))
    output = np.isin(kernels.outputs.max(axis=1), made) & (kernels.outputs.max(axis=1) > 0)
    nothing = np.zeros(len(kernels), dtype=np.bool_)
    piece = covers = nothing
    if family_table().names[int(ops.main[row])] in ("product", "grouped_product") and len(made) >= 1:
        piece, covers = _pieces(ops, row, kernels)
    return _Relation(kernel_share, op_share, output, kernels.inputs.any(axis=1), piece, covers)


def _pieces(ops: TokenClasses, row: int, kernels: TokenClasses) -> tuple[Bools, Bools]:
    """Products with one dimension cut or grown: two of the three sizes scale alike, the third is equal."""
    a, b = (float(size) for size in ops.inputs[row, :2])
    c = float(ops.outputs[row, 0])
    x, y, z = (
        kernels.inputs[:, 0].astype(float),
        kernels.inputs[:, 1].astype(float),
        kernels.outputs[:, 0].astype(float),
    )
    if min(a, b, c) <= 0:
        return np.zeros(len(kernels), dtype=np.bool_), np.zeros(len(kernels), dtype=np.bool_)
    piece, covers = np.zeros(len(kernels), dtype=np.bool_), np.zeros(len(kernels), dtype=np.bool_)
    for first, second in ((x, y), (y, x)):
        for equal, grown in (
            ((first, a), ((second, b), (z, c))),
            ((second, b), ((first, a), (z, c))),
            ((z, c), ((first, a), (second, b))),
        ):
            same = equal[0] == equal[1]
            ratios = [size / own for size, own in grown]
            alike = np.isclose(ratios[0], ratios[1], rtol=1e-9) & same & (z > 0)
            piece |= alike & (ratios[0] < 1.0) & (ratios[0] > 0.0)
            covers |= alike & (ratios[0] > 1.0)
    return piece, covers


def _shape_weight(
    ops: TokenClasses, row: int, kernels: TokenClasses, relation: _Relation, weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """What operand sizes and the output's dtype add to the weight of a family that fits."""
    if not ops.known[row]:
        return np.zeros(len(kernels))
    without = ~kernels.outputs.any(axis=1)  # the table leaves outputs out
    everything = (relation.kernel_share >= 1.0) & (relation.op_share >= 1.0)
    exact = everything & (relation.output | without)
    sized = np.select(
        [
            ~kernels.known,
            exact,
            (relation.output | without) & (relation.kernel_share >= 0.5),
            relation.piece | relation.covers,
            relation.output,
            relation.kernel_share >= 0.5,
            relation.kernel_share > 0.0,
        ],
        [
            0.0,
            weights["exact"],
            weights["mostly"],
            weights["piece"],
            weights["output_only"],
            weights["half"],
            weights["some"],
        ],
        weights["no_operand"],
    )
    if family_table().names[int(ops.main[row])] in ("product", "grouped_product"):
        # Which of the three sizes comes out tells the product from its two gradients.
        sized = np.where(everything & ~without & ~_same_output(ops, row, kernels), weights["other_output"], sized)
    bits = int(ops.bits[row])
    told = (kernels.bits > 0) & (bits > 0)
    weight: NDArray[np.float64] = sized + np.where(
        told, np.where(kernels.bits == bits, weights["same_bits"], weights["other_bits"]), 0.0
    )
    return weight


def _same_output(ops: TokenClasses, row: int, kernels: TokenClasses) -> Bools:
    same: Bools = kernels.outputs.max(axis=1) == int(ops.outputs[row].max())
    return same
