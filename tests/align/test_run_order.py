"""Orders of a run that a plan may have otherwise: of the two gradients of a product, and of updates of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memplan.align.classes.op_families import families_of, family_table
from memplan.align.classes.tokens import TokenClass, token_classes
from memplan.align.classes.weight_pieces import pieces_of_updates
from memplan.align.planned.run_order import _elements, ops_as_run, planned_updates, units_as_run
from memplan.schema import Plan, PlannedOp
from tests.align.known_runs import torch_plan
from tests.align.torch_kinds import ALL_RUNS
from tests.align.torch_samples import sampled_run


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """As many tokens as the model is wide, so that both gradients of some products have the same sizes."""
    run = replace(ALL_RUNS["qwen2_again"], checkpoints=False)
    assert run.batch * run.sequence == run.config["hidden_size"]
    return torch_plan(run, tmp_path_factory.mktemp("square"))


def order(plan: Plan, first: str, biased: str) -> Mapping[str, str]:
    """The gradient that comes first of each part, where the run has `first`, and `biased` of products with a bias."""
    kinds: dict[TokenClass, int] = {}
    codes = []
    for op in plan.ops:
        part = op.part or ""
        if not part.endswith((".dx", ".dw")) or op.kernel is None:
            continue
        wanted = biased if part.startswith("q_proj") else first
        pair = sorted((op.index, op.index + 1 if part.endswith(".dx") else op.index - 1))
        mine = pair[0] if (plan.ops[pair[0]].part or "").endswith(wanted) == (op.index == pair[0]) else pair[1]
        kernel = plan.kernels[plan.ops[mine].kernel or 0]
        sizes = tuple(int(np.prod(item.shape)) for item in kernel.inputs if item is not None)
        made = tuple(int(np.prod(item.shape)) for item in kernel.outputs)
        kind = TokenClass(families_of("aten::mm"), sizes, made, 32)
        codes.append(kinds.setdefault(kind, len(kinds)))
    times = np.ones(len(codes), dtype=np.float32)
    ops = ops_as_run(plan, token_classes(list(kinds)), np.array(codes, dtype=np.int32), times, {})
    found: dict[str, str] = {}
    for number in ops:
        stem, _, end = (plan.ops[number].part or "").rpartition(".")
        if end in ("dx", "dw"):
            found.setdefault(stem, end)
    return found


def test_products_of_equal_gradients_go_by_the_others(square: Plan) -> None:
    found = order(square, "dw", "dw")
    assert found["o_proj"] == found["down_proj"] == found["gate_proj+up_proj"] == "dw"
    assert order(square, "dx", "dx")["o_proj"] == "dx"


def test_products_with_a_bias_are_asked_by_themselves(square: Plan) -> None:
    found = order(square, "dw", "dx")
    assert found["q_proj+k_proj+v_proj"] == "dx"
    assert found["o_proj"] == found["lm_head"] == "dw"


@pytest.mark.parametrize("last", [True, False])
def test_weights_of_shared_experts_are_updated_where_the_run_registers_them(tmp_path: Path, last: bool) -> None:
    run = sampled_run(3009)
    assert run.config["n_shared_experts"] == 1  # as large as each of the others
    plan = torch_plan(run, tmp_path)
    planned = planned_updates(plan)
    pieces = {op: ways[-1] for op, ways in pieces_of_updates(plan, planned).items()}

    def place(op: PlannedOp) -> int:
        part = op.part or ""
        return 1 if "experts" not in part else 2 + ("shared" in part) if last else 3 - ("shared" in part)

    ran = sorted(planned, key=lambda op: (plan.ops[op].layer or 0, place(plan.ops[op]), op))
    kinds = list(dict.fromkeys(piece for op in ran for piece in pieces[op]))
    optimizer = family_table().number("optimizer")
    classes = token_classes(
        [TokenClass((optimizer,), (kind.elements,), (kind.elements,), 32, rows=kind.rows) for kind in kinds]
    )
    codes = [kinds.index(piece) for op in ran for piece in pieces[op]]
    found = units_as_run(plan, classes, np.array(codes, dtype=np.int32), pieces)
    shared = [place for place, op in enumerate(found) if (plan.ops[op].part or "").startswith("shared")]
    routed = [place for place, op in enumerate(found) if (plan.ops[op].part or "").startswith("experts")]
    assert len(shared) == len(routed) > 0
    assert all((min(shared[at : at + 2]) > max(routed[at : at + 2])) is last for at in range(0, len(shared), 2))


@pytest.mark.parametrize("last", [True, False])
def test_a_layer_may_register_its_norms_before_or_behind_its_products(tmp_path: Path, last: bool) -> None:
    """Vectors of one size: each bias beside its matrix, of a norm the weight first."""
    plan = torch_plan(ALL_RUNS["gpt_neox"], tmp_path)
    pieces = {op: ways[0] for op, ways in pieces_of_updates(plan, planned_updates(plan)).items()}

    def place(op: PlannedOp) -> tuple[int, bool, int, bool]:
        part = op.part or ""
        norm, products = part.startswith("norm"), ("q_proj", "o_proj", "up_proj", "down_proj")
        number = int(part.split(".")[1]) if norm else next(at for at, name in enumerate(products) if name in part)
        return op.layer or 0, norm is last, number, ".bias" in part

    ran = sorted((op for op in pieces if plan.ops[op].layer is not None), key=lambda op: place(plan.ops[op]))
    kinds = list(dict.fromkeys(pieces[op][0] for op in ran))
    optimizer = family_table().number("optimizer")
    classes = token_classes(
        [TokenClass((optimizer,), (kind.elements,), (kind.elements,), 32, rows=kind.rows) for kind in kinds]
    )
    codes = np.array([kinds.index(pieces[op][0]) for op in ran], dtype=np.int32)
    found = units_as_run(plan, classes, codes, pieces)
    assert [op for op in found if op in set(ran)] == ran


@pytest.mark.parametrize("turned", [False, True])
def test_times_tell_the_order_of_updates_that_have_no_shapes(tmp_path: Path, turned: bool) -> None:
    """Of equal times, the planned order is kept."""
    plan = torch_plan(ALL_RUNS["llama_grouped"], tmp_path)
    planned = planned_updates(plan)
    sizes = [_elements(plan, op) for op in planned]
    times = dict(zip(planned, sizes, strict=True))
    other = replace(plan, ops=tuple(replace(op, duration_ns=times.get(op.index, op.duration_ns)) for op in plan.ops))
    update = token_classes([TokenClass((family_table().number("optimizer"),), (), (), 0)])
    ran = [3.0 * size for size in (reversed(sizes) if turned else sizes)]
    for took, expected in ((ran, [*reversed(planned)] if turned else planned), ([5.0] * len(ran), planned)):
        kinds, each = np.zeros(len(ran), dtype=np.int32), np.array(took, dtype=np.float32)
        ops = ops_as_run(other, update, kinds, each, {})
        assert [op for op in ops if op in times] == expected
