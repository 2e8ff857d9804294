"""Equal ops that ran in another order are told apart by what they need; steps taken for one are parted."""

from __future__ import annotations

import numpy as np
import pytest

from memplan.align import Alignment, align
from memplan.align.pairs.merged_steps import parted_steps
from memplan.align.planned.dependences import dependences
from memplan.align.planned.planned_sequence import planned_sequence
from memplan.schema import Plan
from tests.align.known_runs import torch_plan
from tests.align.simulated_runs import Disturbance, RunKernel, run_of
from tests.align.torch_kinds import ALL_RUNS

_CALM = Disturbance(split=0.0, fuse=0.0, alone=0.0, add=0.0, drop=0.0, swap=0.0, noise=0.1)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return torch_plan(ALL_RUNS["llama"], tmp_path_factory.mktemp("plan"))


def as_planned(plan: Plan) -> list[RunKernel]:
    """One kernel an op, in the order of the plan."""
    rows = []
    for op in plan.ops:
        if op.kernel is None:
            continue
        launched = plan.kernels[op.kernel]
        inputs = [item.shape for item in launched.inputs if item is not None]
        outputs = [item.shape for item in launched.outputs]
        rows.append(RunKernel(op.type, inputs, outputs, launched.outputs[0].dtype, op.duration_ns, (op.index,)))
    return rows


def moved(plan: Plan, name: str, before: str) -> list[RunKernel]:
    """The kernels of a step in which the op called `name` runs before that called `before`."""
    rows = as_planned(plan)
    names = [plan.ops[row.ops[0]].name for row in rows]
    one = rows.pop(names.index(name))
    rows.insert(names.index(before), one)
    return rows


def aligned(plan: Plan, rows: list[RunKernel]) -> tuple[Alignment, list[int]]:
    run = run_of(plan, rows, 1, _CALM)
    return align(plan, run.kernels), [min(truth) for truth in run.truth]


def test_dependences_lead_from_what_makes_a_tensor_to_what_reads_it(plan: Plan) -> None:
    sequence = planned_sequence(plan, [op.index for op in plan.ops if op.kernel is not None])
    needs = dependences(plan, sequence)
    ops = sequence.op
    assert len(needs.before) > len(sequence) // 2
    assert (ops[needs.before] < ops[needs.after]).all()
    for before, after in zip(ops[needs.before[:50]].tolist(), ops[needs.after[:50]].tolist(), strict=True):
        made, read = plan.ops[before].writes or (), plan.ops[after].reads or ()
        between = [op for op in plan.ops[before + 1 : after] if not op.launches]
        assert set(made) & set(read) or between


def test_the_gradient_of_a_weight_that_waits_for_the_next_layer_keeps_its_op(plan: Plan) -> None:
    layers = [op.layer for op in plan.ops if op.layer is not None]
    assert max(layers) >= 2
    late, before = "micro_batch.0.layers.2.o_proj.dw", "micro_batch.0.layers.1.o_proj.dx"
    found, truth = aligned(plan, moved(plan, late, before))
    assert np.mean(np.array(found.op_of_kernel().tolist()) == truth) > 0.99


def test_nothing_changes_where_the_run_has_the_order_of_the_plan(plan: Plan) -> None:
    found, truth = aligned(plan, as_planned(plan))
    assert np.mean(np.array(found.op_of_kernel().tolist()) == truth) > 0.99


def test_a_step_in_which_everything_ran_twice_is_two() -> None:
    once = np.array([9, -1, *range(1, 9), 10, 10, 11])
    row = np.concatenate([once, once, once])
    step = np.repeat([0, 1, 1], len(once))
    assert parted_steps(row, step).tolist() == np.repeat([0, 1, 2], len(once)).tolist()


def test_micro_batches_that_a_plan_has_one_of_stay_one_step() -> None:
    both_ways = np.arange(1, 21)
    row = np.concatenate([both_ways, both_ways, np.arange(21, 41)])
    step = np.zeros(len(row), dtype=np.int64)
    assert parted_steps(row, step).tolist() == step.tolist()


def test_no_kernels_are_no_steps() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert parted_steps(none, none).tolist() == []
