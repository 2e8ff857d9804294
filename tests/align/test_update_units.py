"""Weights that a run keeps in pieces, updates that it writes out, and planned ops that it takes in any order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memplan.align.classes.op_families import families_of
from memplan.align.classes.tokens import TokenClass, plan_tokens
from memplan.align.classes.update_units import update_units, ways_run
from memplan.align.classes.weight_pieces import WeightPiece, pieces_of_ops, pieces_of_updates, weights_of_biases
from memplan.align.planned.loose_groups import loose_groups
from memplan.align.planned.run_order import planned_updates
from memplan.schema import Plan
from tests.align.known_runs import torch_plan
from tests.align.torch_kinds import ALL_RUNS


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return torch_plan(ALL_RUNS["llama"], tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return torch_plan(ALL_RUNS["moe"], tmp_path_factory.mktemp("moe"))


def op_of(plan: Plan, name: str) -> int:
    return next(op.index for op in plan.ops if op.name == name)


def test_what_reads_a_product_tells_how_its_weight_may_be_cut(dense: Plan) -> None:
    pieces = pieces_of_ops(dense)
    # 320 tokens, 256 wide; queries are 256 wide, keys and values 128.
    assert set(pieces[op_of(dense, "micro_batch.0.layers.1.q_proj+k_proj+v_proj")]) == {
        ((320 * 256, 256 * 256), (320 * 256,)),
        ((320 * 256, 128 * 256), (320 * 128,)),
    }
    assert set(pieces[op_of(dense, "micro_batch.0.layers.1.gate_proj+up_proj.dw")]) == {
        ((320 * 704, 320 * 256), (704 * 256,))
    }
    assert op_of(dense, "micro_batch.0.layers.1.o_proj") not in pieces


def test_an_update_is_of_a_whole_weight_or_of_all_its_pieces(dense: Plan, experts: Plan) -> None:
    ways = pieces_of_updates(dense, planned_updates(dense))[op_of(dense, "layers.1.q_proj+k_proj+v_proj.adam")]
    assert ways == (
        (WeightPiece(512 * 256, 512),),
        (WeightPiece(256 * 256, 256), WeightPiece(128 * 256, 128), WeightPiece(128 * 256, 128)),
    )
    ways = pieces_of_updates(experts, planned_updates(experts))[op_of(experts, "layers.1.experts.down_proj.adam")]
    assert ways[1] == (WeightPiece(256 * 192, 256),) * 8


def test_a_run_has_the_pieces_that_are_seen() -> None:
    whole, piece = WeightPiece(512, 8), WeightPiece(256, 4)
    ways = {0: ((whole,), (piece, piece))}
    assert ways_run(ways, {piece: 2}, {})[0] == (piece, piece)
    assert ways_run(ways, {whole: 1}, {})[0] == (whole,)
    assert ways_run(ways, {}, {})[0] == (whole,)
    # Of another weight, as large as a piece of this one, the rows are known.
    assert ways_run(ways, {WeightPiece(512, 0): 2, WeightPiece(256, 2): 2}, {})[0] == (whole,)


@pytest.mark.parametrize("apart", [True, False])
def test_a_bias_is_kept_as_its_weight_is(tmp_path: Path, apart: bool) -> None:
    """However many other vectors are as large as a piece of it."""
    plan = torch_plan(ALL_RUNS["qwen2_again"], tmp_path)
    updates = planned_updates(plan)
    ways, weights = pieces_of_updates(plan, updates), weights_of_biases(plan, updates)
    weight = op_of(plan, "layers.1.q_proj+k_proj+v_proj.adam")
    bias = op_of(plan, "layers.1.q_proj.bias+k_proj.bias+v_proj.bias.adam")
    assert weights[bias] == weight
    assert [piece.elements for piece in ways[bias][-1]] == [piece.rows for piece in ways[weight][-1]]
    assert all(piece.rows == 0 for way in ways[bias] for piece in way)
    seen = dict.fromkeys(ways[bias][-1], 50) | dict.fromkeys(ways[weight][-1 if apart else 0], 3)
    found = ways_run(ways, seen, weights)
    assert (len(found[weight]) > 1) is (len(found[bias]) > 1) is apart


def kernel(type_: str, *shape: int) -> TokenClass:
    size = int(np.prod(shape))
    return TokenClass(families_of(type_), (size, size), (size,), 32, rows=shape[0] if len(shape) == 2 else 0)


def test_a_series_that_repeats_is_one_unit_a_weight() -> None:
    series = ("mul_", "lerp_", "addcmul_", "sqrt", "addcdiv_")
    weights = ((8, 4), (8, 4), (16, 4), (4, 8), (16, 4))
    found: list[TokenClass] = []
    for shape in weights:
        found += [kernel(f"aten::{type_}", *shape) for type_ in series]
    kinds = list(dict.fromkeys(found))
    codes = np.array([kinds.index(kind) for kind in found], dtype=np.int32)
    unnamed = np.zeros(len(codes), dtype=np.bool_)
    pieces = [WeightPiece(32, 8), WeightPiece(64, 16), WeightPiece(32, 4)]
    units = update_units(kinds, codes, pieces, unnamed)
    assert units.owner.tolist() == [weight for weight in range(5) for _ in series]
    assert units.seen == {WeightPiece(32, 8): 2, WeightPiece(64, 16): 2, WeightPiece(32, 4): 1}
    # One kernel less is still a unit; a kernel on another size stands for itself.
    lacking = update_units(kinds, np.delete(codes, 3), pieces, unnamed[1:])
    assert lacking.owner.tolist() == [0] * 4 + [1] * 5 + [2] * 5 + [3] * 5 + [4] * 5
    stranger = replace(kinds[0], inputs=(77, 77), outputs=(77,))
    among = update_units([*kinds, stranger], np.insert(codes, 7, len(kinds)), pieces, np.zeros(26, dtype=np.bool_))
    assert np.unique(among.owner, return_counts=True)[1].tolist() == [5, 5, 1, 5, 5, 5]
    assert len(update_units(kinds, codes, (), unnamed).kept) == len(codes)


def test_ops_that_a_run_takes_in_any_order_are_one_group(dense: Plan) -> None:
    ops = [op.index for op in dense.ops if op.kernel is not None]
    classes, codes = plan_tokens(dense, ops)
    found = loose_groups(dense, ops, [classes[code] for code in codes])
    groups: dict[int, int] = dict(zip(ops, found.tolist(), strict=True))

    def group(name: str) -> int:
        return groups[op_of(dense, f"micro_batch.0.layers.1.{name}")]

    assert group("o_proj.dx") == group("o_proj.dw") == group("o_proj.add")
    assert group("q.rotary") == group("k.rotary") == group("q_proj+k_proj+v_proj")
    assert group("activation.grad") == group("gate_proj+up_proj.dw") == group("gate_proj+up_proj.add")
    assert group("attention") not in (group("k.rotary"), group("o_proj"))
    assert group("down_proj.dx") != group("activation.grad")


def test_an_optimiser_that_sweeps_over_all_weights_has_a_unit_a_weight() -> None:
    weights = ((8, 4), (16, 4), (8, 4), (4, 8))
    clipped = [kernel("aten::linalg_vector_norm", *shape) for shape in weights]
    clipped += [kernel("aten::mul_", *shape) for shape in weights]
    sweeps = [kernel(f"aten::{type_}", *shape) for type_ in ("lerp_", "sqrt", "addcdiv_") for shape in weights]
    kinds = list(dict.fromkeys(clipped + sweeps))
    codes = np.array([kinds.index(kind) for kind in clipped + sweeps], dtype=np.int32)
    pieces = [WeightPiece(32, 8), WeightPiece(64, 16), WeightPiece(32, 4)]
    units = update_units(kinds, codes, pieces, np.zeros(len(codes), dtype=np.bool_))
    # Norms of gradients and what clips them stand for themselves.
    assert units.owner.tolist() == [*range(8), *[8, 9, 10, 11] * 3]
    assert units.seen == {WeightPiece(32, 8): 2, WeightPiece(64, 16): 1, WeightPiece(32, 4): 1}


def test_updates_in_one_kernel_each_are_no_sweep_over_all_weights() -> None:
    """Layers of which one weight's update is written out and the others' are not."""
    layer = [kernel(f"aten::{type_}", 8, 4) for type_ in ("mul_", "lerp_", "addcmul_", "sqrt", "addcdiv_")]
    layer += [kernel("ApplyAdamWV2", *shape) for shape in ((16, 4), (4, 4), (2, 4))]
    kinds = list(dict.fromkeys(layer))
    codes = np.array([kinds.index(kind) for kind in layer * 4], dtype=np.int32)
    pieces = [WeightPiece(32, 8), WeightPiece(64, 16), WeightPiece(16, 4), WeightPiece(8, 2)]
    found = update_units(kinds, codes, pieces, np.zeros(len(codes), dtype=np.bool_))
    assert len(found.kept) == 4 * 4
    assert found.owner.reshape(4, 8)[:, :6].tolist() == [[4 * at] * 5 + [4 * at + 1] for at in range(4)]
    assert found.seen[WeightPiece(32, 8)] == found.seen[WeightPiece(64, 16)] == 4
