"""Branches of a layer that need nothing of one another are taken in the order of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import memplan
from memplan.align.planned.branch_order import branches_as_run
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.schema import Plan
from tests.align.known_runs import torch_plan
from tests.align.torch_kinds import ALL_RUNS


def launched(plan: Plan) -> list[int]:
    return [op.index for op in plan.ops if op.launches]


def before_its_readers(plan: Plan, ops: Sequence[int]) -> bool:
    """Whether no op reads what only a later one writes."""
    place = {op: at for at, op in enumerate(ops)}
    planned = sorted(ops)
    written: dict[int, int] = {}
    for index in planned:
        for tensor in plan.ops[index].reads or ():
            if tensor in written and place[written[tensor]] > place[index]:
                return False
        for tensor in plan.ops[index].writes or ():
            written[tensor] = index
    return True


def test_a_shared_expert_may_run_before_or_behind_the_routed_ones(tmp_path: Path) -> None:
    plan = torch_plan(ALL_RUNS["deepseek"], tmp_path)
    ops = launched(plan)

    def shared_first(order: Sequence[int]) -> float:
        names = [plan.ops[op].name for op in order]
        first, second = (
            names.index(f"micro_batch.0.layers.1.{part}") for part in ("router", "shared_experts.down_proj")
        )
        return float(second - first)

    turned = branches_as_run(plan, ops, shared_first)
    assert sorted(turned) == sorted(ops)
    assert turned != ops
    assert shared_first(turned) > 0 > shared_first(ops)
    assert before_its_readers(plan, turned)
    assert branches_as_run(plan, ops, lambda order: -shared_first(order)) == ops


def test_a_shared_expert_may_run_where_the_routed_ones_wait_for_other_ranks(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")
    model = replace(model, layers=model.layers[3:5])
    step = ServedStep(Phase.DECODE, 32, 1024)
    plan = memplan.plan(model_graph(model, None, Layout(data=4, expert=4), step), chip="910B3", quick=True)
    ops = launched(plan)

    def between(order: Sequence[int]) -> float:
        parts = [plan.ops[op].part for op in order]
        first, *others = (parts.index(part) for part in ("gating", "shared_experts.down_proj", "dispatch"))
        return float(first < others[0] < others[1])

    turned = branches_as_run(plan, ops, between)
    assert between(turned) > between(ops)
    assert sorted(turned) == sorted(ops)
    assert before_its_readers(plan, turned)


def test_layers_with_and_without_an_indexer_have_the_same_branches(shared_data: Path) -> None:
    """Where half of the layers kept the planned order, a run of the other one seemed to go back again and again."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Flash.json")
    layout, step = Layout(data=8, expert=8), ServedStep(Phase.DECODE, 64, 4096)
    plan = memplan.plan(
        model_graph(replace(model, layers=model.layers[:6]), None, layout, step), chip="910B3", quick=True
    )
    ops = launched(plan)

    def routed_first(order: Sequence[int]) -> float:
        parts = [plan.ops[op].part or "" for op in order]
        experts, shared = (
            [place for place, part in enumerate(parts) if part == name]
            for name in ("experts.down_proj", "shared_experts.down_proj")
        )
        assert len(experts) == len(shared) == 6
        return float(sum(first < second for first, second in zip(experts, shared, strict=True)))

    assert routed_first(ops) == 0
    turned = branches_as_run(plan, ops, routed_first)
    assert routed_first(turned) == 6
    assert before_its_readers(plan, turned)


def test_a_dense_layer_has_no_branches(tmp_path: Path) -> None:
    plan = torch_plan(ALL_RUNS["llama"], tmp_path)

    def asked(_: Sequence[int]) -> float:
        raise AssertionError

    assert branches_as_run(plan, launched(plan), asked) == launched(plan)
