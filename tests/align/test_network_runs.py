"""Networks that are no language models, run and profiled on this machine's CPU, beside their plans."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks import network_runs
from benchmarks.network_runs import NETWORKS, framework_python, inside_planned, network_outcome, network_run
from memplan.traces.readers.host_ops import host_kernels
from tests.align.known_runs import KnownRun
from tests.align.test_network_ops import plan_of

_BENCHMARKS = Path(network_runs.__file__).parent


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        pytest.param("graph_convolutions", 250, marks=[pytest.mark.mindspore, pytest.mark.slow]),
        pytest.param("residual_perceptrons", 800, marks=pytest.mark.slow),
    ],
)
def test_a_small_network_is_run_and_matched(name: str, kernels: int, tmp_path: Path) -> None:
    if framework_python(NETWORKS[name]) is None:
        pytest.skip(f"no Python has {NETWORKS[name]}")
    run = network_run(name, tmp_path)
    found = network_outcome(run)
    assert len(run.kernels) == len(run.truth) > kernels
    assert np.average([truth != {"-"} for truth in run.truth], weights=run.kernels.duration_ns) > 0.95
    assert found.time_right > 0.95


def test_each_network_is_written_down_by_its_name() -> None:
    for framework, module in (("mindspore", "mindspore"), ("torch", "pytorch")):
        source = (_BENCHMARKS / f"profiled_networks_of_{module}.py").read_text(encoding="utf-8")
        functions = {part.name for part in ast.parse(source).body if isinstance(part, ast.FunctionDef)}
        assert {name for name in functions if not name.startswith("_")} == {
            name for name, of in NETWORKS.items() if of == framework
        }


def test_what_runs_inside_an_op_is_a_part_of_it_and_ops_of_lists_are_their_members() -> None:
    plan = plan_of([("Linear", [(4, 4)], [(4, 4)]), ("Mul", [(4, 4)], [(4, 4)])])
    events = [
        {"ph": "X", "cat": "cpu_op", "tid": 1, "ts": at, "dur": long, "name": name}
        for step in (0, 100)
        for at, long, name in (
            (step, 10, "aten::linear"), (step + 2, 5, "aten::mul"), (step + 20, 10, "aten::_foreach_mul_"),
            (step + 22, 4, "aten::mul_"), (step + 40, 5, "aten::eq"),
        )
    ]  # fmt: skip
    linear, product = (op.name for op in plan.ops)
    assert inside_planned(plan, events, 2) == {
        (at * 1000, name): op
        for step in (0, 100)
        for at, name, op in (
            (step, "aten::linear", linear), (step + 2, "aten::mul", linear), (step + 22, "aten::mul_", product),
        )
    }  # fmt: skip


def test_a_kernel_of_no_planned_op_is_right_where_it_is_given_none() -> None:
    plan = plan_of([("Mm", [(64, 32), (32, 16)], [(64, 16)])])
    shapes = ["64,32;32,16", "3"]
    kernels = host_kernels([0, 5000], [900, 100], [0, 0], ["", ""], ["aten::mm", "aten::eq"], shapes, ["N/A"] * 2)
    op = plan.ops[0].name
    for truth, right in (((op, "-"), [True, True]), (("-", op), [False, False])):
        assert network_outcome(KnownRun(plan, kernels, tuple(frozenset({name}) for name in truth))).right == right
