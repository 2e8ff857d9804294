"""A report gives the cost's own tiling and the buffers of it, or says in one line why there are none."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from memplan.cost.deviations import L2State
from memplan.cost.kernel_report import kernel_report
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.kernels.kernel import Attribute, Kernel, Operand
from memplan.cost.kernels.op_kernels import kernel_of_op, kernel_of_plan, planned_kernel
from memplan.cost.machine import Machine, machine
from memplan.graph import Graph, Op, Tensor, TensorKind
from memplan.hardware import chip
from memplan.placement.onchip import plan_onchip
from memplan.planner import plan
from memplan.readers import read_graph
from memplan.schema import PlannedAttribute

SAMPLE = Path(str(resources.files("memplan.samples"))) / "llama_train.mindir"
CHIP = chip("910B3")


@pytest.fixture(scope="module")
def core() -> Machine:
    return machine(CHIP)


def matmul(m: int, n: int, k: int, dtype: str = "bfloat16", **attributes: Attribute) -> Kernel:
    """A plain product."""
    return Kernel(
        "MatMul",
        (Operand((m, k), dtype), Operand((k, n), dtype)),
        (Operand((m, n), dtype),),
        tuple(sorted(attributes.items())),
    )


ATTENTION = Kernel(
    "FlashAttentionScore",
    (Operand((1, 8, 512, 128), "bfloat16"), *(Operand((1, 2, 512, 128), "bfloat16"),) * 2),
    (Operand((1, 8, 512, 128), "bfloat16"),),
    (("head_num", 8), ("input_layout", "BNSD")),
)
ADD = Kernel("Add", (Operand((4096, 4096), "bfloat16"),) * 2, (Operand((4096, 4096), "bfloat16"),))


@pytest.mark.parametrize("hot_share", [None, 0.0, 0.34, 1.0])
@pytest.mark.parametrize("kernel", [matmul(512, 1024, 2048), ATTENTION, ADD], ids=lambda kernel: kernel.type)
def test_the_report_is_of_the_cost_that_the_planner_uses(
    kernel: Kernel, hot_share: float | None, core: Machine
) -> None:
    report = kernel_report(kernel, core, L2State(hot_share))
    assert report.cost == kernel_cost(kernel, core, L2State(hot_share))
    assert report.missing is None
    assert report.tiling
    assert report.gm_bound is not None
    assert 0 < report.gm_bound <= report.cost.gm_bytes


def test_a_matmuls_buffers_hold_the_tiles_that_the_sentences_name(core: Machine) -> None:
    report = kernel_report(matmul(512, 1024, 2048), core)
    tiling = report.cost.tiling
    assert tiling is not None
    words = "; ".join(map(str, report.tiling))
    assert "512 × 1,024 × 2,048" in words
    assert f"{tiling.m} × {tiling.n}" in words
    by_name = {need.name: need for need in report.needs}
    assert by_name["A tile"].size == tiling.m * tiling.k * 2
    assert by_name["B tile"].size == tiling.n * tiling.k * 2
    assert by_name["C tile"].size == tiling.m * tiling.n * 4


@pytest.mark.parametrize("kernel", [matmul(512, 1024, 2048), ATTENTION, ADD], ids=lambda kernel: kernel.type)
def test_every_need_lies_within_the_stages_and_fits_the_chip(kernel: Kernel, core: Machine) -> None:
    report = kernel_report(kernel, core)
    assert max(need.last for need in report.needs) == len(report.stages) - 1
    for need in report.needs:
        # A stage reads and writes with its own pipe, except that attention's row state is the vector unit's own.
        assert need.filled_by in {report.stages[need.first].pipe, "MTE2"}, need
    assert plan_onchip(report.needs, CHIP).fits


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (Kernel("SomethingNew", (Operand((4, 4), "float16"),), (Operand((4, 4), "float16"),)), "No tiling rule"),
        (Kernel("MatMul", (), ()), "operands are known"),
        (Kernel("MatMul", (Operand((4, 4), "float16"),), ()), "do not tell which product"),
        (Kernel("AllReduce", (Operand((1024,), "float16"),), (Operand((1024,), "float16"),)), "collective"),
        (Kernel("Add", ADD.inputs, ADD.outputs, (("core", "AI_CPU"),)), "AI CPU"),
        (matmul(64, 64, 64, "int64"), "The cube does not take this type"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.type,
)
def test_what_has_no_tiling_says_why_and_still_has_its_cost(kernel: Kernel, reason: str, core: Machine) -> None:
    report = kernel_report(kernel, core)
    assert report.missing is not None
    assert reason in str(report.missing)
    assert not report.needs
    assert not report.stages
    assert report.cost == kernel_cost(kernel, core)


def test_what_the_buffers_leave_out_is_said(core: Machine) -> None:
    fused = kernel_report(matmul(512, 1024, 2048, activation="Gelu"), core)
    assert any("fused vector work" in str(note) for note in fused.notes)
    backward = Kernel("FlashAttentionScoreGrad", (*ATTENTION.inputs, ATTENTION.outputs[0]), ATTENTION.outputs,
                      ATTENTION.attributes)  # fmt: skip
    report = kernel_report(backward, core)
    assert report.missing is not None or any("backward" in str(note) for note in report.notes)


def test_ops_that_differ_by_identity_alone_are_one_kernel() -> None:
    tensor = Tensor(0, "x", (4, 4), "float16", 32, TensorKind.ACTIVATION, 0)
    attributes: tuple[dict[str, object], ...] = (
        {"listed": 1, "unique_id": "7"}, {"listed": 2, "forward_name": "Cast_7"}, {"listed": 3, "to": 43},
    )  # fmt: skip
    one, other, turned = (
        Op(index, f"op{index}", "Cast", (0,), (0,), attrs=attrs) for index, attrs in enumerate(attributes)
    )
    graph = Graph("g", (one, other, turned), (tensor,), (0,), (0,), "g.mindir", "test")
    assert kernel_of_op(one, graph) == kernel_of_op(other, graph)
    assert kernel_of_op(turned, graph) != kernel_of_op(one, graph)


def test_a_kernel_kept_in_a_plan_is_predicted_as_it_was_planned(core: Machine) -> None:
    graph = read_graph(SAMPLE)
    made = plan(graph, chip="910B3")
    assert len(made.kernels) < sum(op.kernel is not None for op in made.ops)
    for op, source in zip(made.ops, graph.ops, strict=True):
        kernel = kernel_of_plan(made, op.index)
        assert (kernel is None) == (not source.launches) == (op.kernel is None)
        if kernel is not None:
            assert kernel == kernel_of_op(source, graph)
            cost = kernel_report(kernel, core, L2State(op.hot_share)).cost
            assert (cost.duration_ns, cost.bound) == (op.duration_ns, op.bound)


def test_attributes_that_no_plan_file_can_hold_are_left_out() -> None:
    kernel = Kernel("X", (None,), (), (("big", 2**64), ("nan", float("nan")), ("text", "x" * 1000), ("axis", 1)))
    assert planned_kernel(kernel).attributes == (PlannedAttribute("axis", 1),)


@pytest.mark.parametrize("dtype", ["float8_e4m3", "float4_e2m1"])
@pytest.mark.parametrize("rows", [16, 4096])
def test_narrow_floats_without_a_unit_are_multiplied_in_16_bits(dtype: str, rows: int) -> None:
    """Went wrong once: such products were given to vector units, a thousandfold of the time (prefills of a minute)."""
    old = machine(chip("Ascend910B3"))
    half, narrow = (kernel_cost(matmul(rows, 4096, 4096, kind), old) for kind in ("bfloat16", dtype))
    assert "multiplied in 16 bits" in narrow.assumed
    assert narrow.hbm_bytes < half.hbm_bytes
    assert half.duration_ns / 4 < narrow.duration_ns < 3 * half.duration_ns
