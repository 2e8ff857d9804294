"""Which of the two gradients of a product a run makes first: told by products whose gradients differ in size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from memplan.align.op_families import families_of
from memplan.align.run_order import ops_as_run
from memplan.align.tokens import TokenClass, token_classes
from memplan.schema import Plan
from tests.align.known_runs import torch_plan
from tests.align.torch_kinds import ALL_RUNS


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
    ops = ops_as_run(plan, token_classes(list(kinds)), np.array(codes, dtype=np.int32), {})
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
