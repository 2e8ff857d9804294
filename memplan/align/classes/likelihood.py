"""
How much more likely a kernel is where an op runs it than anywhere: ratios by pair of classes.

The sizes of operands tell most: products of dimensions, so that views and transposes don't count. The weights are
natural logarithms of likelihood ratios; where they and the prices of `pair_model.json` come from is said there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memplan.align.classes.lowering import LoweringRule
from memplan.align.classes.op_families import UNKNOWN_FAMILY, family_table
from memplan.align.classes.operand_relation import OperandRelation, operand_relation
from memplan.align.classes.tokens import TokenClass, TokenClasses, token_classes
from memplan.core.arrays import Float32s, Floats
from memplan.core.resources import table

_OF_MASKS = ("fill", "select", "compare", "logical", "add", "sub", "mul")
"""Families that make a mask of squares of tokens."""
_BLOCK = 4
"""Families from which a kernel runs a block of a layer, such as experts with their exchanges."""


def pair_model() -> Mapping[str, Any]:
    """Weights and prices of the alignment."""
    return table("memplan.align", "pair_model.json")


class Likelihoods(NamedTuple):
    """
    Ratios by class of op and class of kernel: what a kernel is to an op.

    Loops over kernels have them turned round (`turned`).
    """

    core: Float32s
    """It runs the op."""
    before: Float32s
    """It is a part before what runs the op."""
    behind: Float32s
    """It is a part behind that."""
    opens: Float32s
    """It is the first of the parts before that."""
    again: Float32s
    """It is another kernel of an op that several run."""
    fused: Float32s
    """What ran the op before runs this one too."""

    def turned(self) -> Likelihoods:
        """The ratios by class of kernel and class of op, those of one class of kernels side by side."""
        return Likelihoods(*(np.ascontiguousarray(ratio.T) for ratio in self))


def exact_ratio() -> float:
    """The logarithm of the ratio of a kernel of an op's family that fits it in all operands, told in other bits."""
    weights = pair_model()["weights"]
    return float(weights["same_family"] + weights["exact"] + weights["other_bits"])


def likelihoods(ops: TokenClasses, rules: Sequence[LoweringRule], kernels: TokenClasses) -> Likelihoods:
    """The ratios of every pair of classes; `rules` say what runs each class of ops."""
    weights = pair_model()["weights"]
    shape = len(ops), len(kernels)
    # Those of one class of kernels side by side, as the loops over kernels read them.
    core, part, again, fused = (np.zeros(shape, dtype=np.float32, order="F") for _ in range(4))
    known = family_table()
    every = {row: _logarithms(ops, row, rule, kernels) for row, rule in enumerate(rules) if rule.kernels}
    # What is all of one op is hardly a piece of another of which nothing tells in what pieces it may run.
    whole_of = np.max([item.core for item in every.values()], axis=0, initial=-np.inf)
    taken = whole_of >= weights["same_family"] + weights["exact"]
    for row, whole in every.items():
        rule = rules[row]
        runs, helps = whole.core, whole.part
        unlikely = taken & (runs < weights["same_family"] + weights["exact"])
        repeated = np.where(unlikely, whole.again + weights["piece_of_another"], whole.again)
        if rule.kernels[0] in known.heavy - known.matrix_products:  # of products all three sizes tell that already
            runs = np.where(unlikely, runs + weights["piece_of_another"], runs)
        pieces = _as_classes(ops, row)
        for piece in range(len(pieces)):
            cut = _logarithms(pieces, piece, rule, kernels)
            runs = np.maximum(runs, cut.core + weights["known_piece"])
            helps = np.maximum(helps, cut.part + weights["known_piece"])
            repeated = np.maximum(repeated, cut.core + weights["known_piece"])
        core[row], part[row], again[row], fused[row] = (np.exp(item) for item in (runs, helps, repeated, whole.fused))
    # Where nothing runs it, a kernel is in no plan; which what takes most time hardly ever is.
    rarely = np.where(kernels.among(known.heavy), np.exp(weights["heavy"]), 1.0).astype(np.float32)
    for table_ in (core, part, again):
        table_ *= rarely
    return Likelihoods(core, part, part, part, again, fused)


@dataclass(frozen=True, slots=True)
class _Logarithms:
    """Logarithms of the ratios of one class of ops with all classes of kernels."""

    core: Floats
    part: Floats
    again: Floats
    fused: Floats


def _as_classes(ops: TokenClasses, row: int) -> TokenClasses:
    """The pieces of a class of ops as classes; of products over several matrices, whose tokens differ, none."""
    main, bits = int(ops.main[row]), int(ops.bits[row])
    if main == family_table().number("grouped_product"):
        return token_classes([])
    # A piece is one of its own: a share of it is hardly another.
    cut = ops.pieces[row]
    return token_classes([TokenClass((main,), *sizes, bits, pieces=(sizes,)) for sizes in cut])


def _logarithms(ops: TokenClasses, row: int, rule: LoweringRule, kernels: TokenClasses) -> _Logarithms:
    weights, known = pair_model()["weights"], family_table()
    movers = kernels.among(known.movers)
    relation = operand_relation(ops, row, kernels)
    sized = _shape_weight(ops, row, kernels, relation, weights)
    usual = kernels.families[:, rule.kernels[0]]
    if rule.kernels[0] == UNKNOWN_FAMILY:  # an op that no table knows is run by what is called like it
        called = ops.unknown[row]
        usual = usual & np.array([bool(called) and own == called for own in kernels.unknown], dtype=np.bool_)
    # A kernel of many ops runs those that its type tells, and none that its main one could run instead.
    many = kernels.families.sum(axis=1) >= _BLOCK
    other = kernels.families[:, list(rule.kernels[1:])].any(axis=1) & ~many
    runs = np.where(usual, weights["same_family"], np.where(other, weights["other_kernel"], -np.inf))
    # An op that is several in one, as `KvRmsNormRopeCache`, is run by a kernel that is the same several.
    several = ops.families[row].sum() > 1
    alike = (kernels.families == ops.families[row]).all(axis=1) & several
    runs = np.where(alike, runs + weights["same_families"], runs)
    # What is run together is first of all what takes most of its time; but what is gathered is what a product reads.
    beside = kernels.among(known.heavy) & (rule.kernels[0] not in known.heavy)
    ahead = weights["fused_collective" if rule.kernels[0] == known.number("all_gather") else "beside_heavy"]
    runs = np.where(usual & beside & (kernels.main != rule.kernels[0]), runs + ahead, runs)
    # What is received isn't sent, nor a weight's gradient that of an input.
    runs = np.where(kernels.direction * ops.direction[row] < 0, -np.inf, runs)
    if ops.outputs[row].any():  # more than one number is made of more than one
        runs = np.where(kernels.single, -np.inf, runs)
    helps = kernels.among(rule.parts)
    near = np.select(
        [
            kernels.scalar,
            ~kernels.known,
            relation.aside & rule.first_alone,
            relation.kernel_share >= 1.0,
            relation.largest,
            relation.even & rule.piecewise,
            relation.reduced,
            (relation.kernel_share > 0.0) | relation.half,
            relation.some,
        ],
        [
            weights["part_scalar"],
            weights["part_unknown"],
            weights["part_unrelated"],
            weights["part_related"],
            weights["part_largest"],
            weights["part_piece"],
            weights["part_reduced"],
            weights["part_half_related"],
            weights["part_some_tokens"],
        ],
        weights["part_unrelated"],
    )
    near = near + np.where(kernels.among(rule.seldom), weights["part_seldom"], 0.0)
    near = np.where(_between_products(ops, row, rule, kernels), weights["part_between"], near)
    # What is scattered into is what comes out.
    scattered = (kernels.main == known.number("scatter")) & relation.strange_output
    near = near + np.where(scattered, weights["part_other_output"], 0.0)
    # What is added behind a product is as large as what that makes: a sum of a weight's gradients is no part of it.
    added = (kernels.main == known.number("add")) & relation.strange_output
    added &= known.names[rule.kernels[0]] == "product"
    near = near + np.where(added, weights["part_other_output"], 0.0)
    moved = movers & (relation.kernel_share > 0.0)
    part = np.where(helps, near, np.where(moved, weights["mover_related"], weights["stranger"])).astype(np.float64)
    turned = np.where(relation.in_order, 0.0, weights["other_order"])
    repeated = runs + np.where(relation.piece, _piece_weight(ops, row, weights) + turned, -np.inf)
    if rule.repeats:
        repeated = np.maximum(repeated, runs + np.minimum(sized, 0.0) + weights["repeat"])
    both = kernels.families[:, rule.kernels[0]] & (kernels.families.sum(axis=1) > 1)
    joint = np.where(both & (relation.op_share > 0.0), weights["fused_families"], -np.inf)
    joint = np.where(both & (relation.op_share >= 1.0), weights["fused_whole"], joint)
    # What runs a whole block of a layer shows what goes in and comes out, little of what is between, and hardly ever
    # runs one op of it alone.
    tacit = known.names[rule.kernels[0]] in ("quantise", "dequantise")
    block = both & many
    joint = np.where(block, weights["fused_families"] if tacit else weights["fused_block"], joint)
    joint = np.where(usual & relation.covers, weights["fused_covers"], joint)
    if rule.kernels[0] in known.apart:  # to leave one out costs nothing, for it stands beside everything else
        joint = np.where(both & (relation.op_share > 0.0), weights["fused_collective"], joint)
    if rule.kernels[0] == known.number("send_receive"):
        batch = usual & (kernels.direction == 0)  # sent and received in one
        joint = np.where(batch, weights["fused_transfers"], joint)
    # A matrix and its transpose are different weights of one size.
    transposed = (kernels.rows > 0) & (ops.rows[row] > 0) & (kernels.rows != ops.rows[row])
    if int(ops.main[row]) == known.number("optimizer"):
        stored = (kernels.inputs.max(axis=1) == ops.inputs[row].max()) & (kernels.rows == ops.rows[row]) & usual
        known_rows = bool(stored.any()) and ops.rows[row] > 0  # else the run may keep all of them transposed
        lost = weights["other_rows"] if known_rows else weights["unsure_rows"]
        sized = np.where(transposed & usual, sized + lost, sized)
    return _Logarithms(runs + sized, part, repeated, joint)


def _between_products(ops: TokenClasses, row: int, rule: LoweringRule, kernels: TokenClasses) -> NDArray[np.bool_]:
    """
    Whether kernels work on what attention keeps between its two products, or on masks of that.

    A plan has neither where one kernel does all of it. Scores are what a product makes of two things as large as what
    the op reads or makes; of every batch and head they are a square of tokens, as a mask is.
    """
    largest = kernels.operands.max(axis=1)
    known, found = family_table(), np.zeros(len(kernels), dtype=np.bool_)
    if known.names[rule.kernels[0]] not in ("attention", "attention_grad"):
        return found
    mine = ops.operands[row][ops.operands[row] > 1]
    made = kernels.outputs.max(axis=1)
    products = (kernels.main == known.number("product")) & ~np.isin(made, mine) & (made > 1)
    products &= np.isin(kernels.inputs[:, 0], mine) & np.isin(kernels.inputs[:, 1], mine)
    found = np.isin(largest, made[products])
    if known.names[rule.kernels[0]] == "attention":
        side = np.maximum(kernels.rows, 1)
        square = (side > 1) & (side * side == largest) & (mine[:, None] % side == 0).any(axis=0)
        found |= square & kernels.among([known.number(name) for name in _OF_MASKS])
    return found


def _piece_weight(ops: TokenClasses, row: int, weights: Mapping[str, float]) -> float:
    """What being any share of a product adds: less where the plan tells in which ones it may be cut."""
    known = ops.pieces[row] and family_table().names[int(ops.main[row])] == "product"
    return weights["other_piece"] if known else weights["piece"]


def _shape_weight(
    ops: TokenClasses, row: int, kernels: TokenClasses, relation: OperandRelation, weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """What operand sizes and the output's dtype add to the weight of a family that fits."""
    if not ops.known[row]:
        return np.zeros(len(kernels))
    if ops.scalar[row]:
        return np.select([~kernels.known, kernels.scalar], [0.0, weights["mostly"]], weights["no_operand"])
    without = ~kernels.outputs.any(axis=1)  # the table leaves outputs out
    # What a convolution or its gradient makes isn't inferred: it fits where it reads what the op reads.
    told_by_inputs = int(ops.main[row]) in family_table().heavy - family_table().matrix_products
    there = (relation.op_share >= 1.0) | (without & relation.reads_all & told_by_inputs)
    everything = (relation.kernel_share >= 1.0) & there
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
            _piece_weight(ops, row, weights),
            weights["output_only"],
            weights["half"],
            weights["some"],
        ],
        weights["no_operand"],
    )
    if int(ops.main[row]) in family_table().matrix_products:
        # Which of the three sizes comes out tells the product from its two gradients.
        made = kernels.outputs.max(axis=1) == int(ops.outputs[row].max())
        sized = np.where(everything & ~without & ~made, weights["other_output"], sized)
        # All three sizes of a product are told, whatever else the kernel or the op reads (a bias).
        factors = [(kernels.operands == size).any(axis=1) for size in ops.inputs[row, :2]]
        same = relation.output & np.all(factors, axis=0)
        alone = ~without & relation.inputs_known & ~same & ~relation.piece & ~relation.covers
        alone &= kernels.families.sum(axis=1) == 1  # what runs with others makes what these make
        sized = np.where(alone, np.minimum(sized, weights["other_sizes"]), sized)
        fits = relation.piece | relation.covers | everything
        sized = np.where(fits & ~relation.in_order, sized + weights["other_order"], sized)
    bits = int(ops.bits[row])
    told = (kernels.bits > 0) & (bits > 0)
    weight: NDArray[np.float64] = sized + np.where(
        told, np.where(kernels.bits == bits, weights["same_bits"], weights["other_bits"]), 0.0
    )
    return weight
