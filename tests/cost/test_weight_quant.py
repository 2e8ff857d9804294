"""Products by weights of whole numbers, as the library of 2201 runs them, and their times on 910B2."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest

from benchmarks.cleared_kernels import cleared_kernels
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.hardware import chip

A2 = machine(chip("910B2"))


def product(m: int, k: int, n: int, weights: str = "int8", *, group: int = 0, turned: bool = False) -> Kernel:
    """Rows of float16 by weights of whole numbers with a scale a column, or one for each `group` of it."""
    shape = (n, k) if turned else (k, n)
    scales = (k // group, n) if group else (n,)
    inputs = (Operand((m, k), "float16"), Operand(shape, weights), Operand(scales, "float16"))
    attributes = (("transpose_weight", turned),)
    return Kernel("WeightQuantBatchMatmulV2", inputs, (Operand((m, n), "float16"),), attributes)


def microseconds(kernel: Kernel) -> float:
    return kernel_cost(kernel, A2).duration_ns / 1e3


def test_narrow_weights_leave_cores_idle() -> None:
    """Columns go out 256 at a time: twice as many take twice as many cores, and hardly longer."""
    narrow, wide = (microseconds(product(4, 4096, n)) for n in (1024, 2048))
    assert wide < 1.1 * narrow
    turned = microseconds(product(4, 4096, 1024, turned=True))
    assert turned < 0.75 * narrow, "rows along K go out 32 at a time, to all cores"


def test_more_rows_than_digits_are_made_of_widen_the_weights() -> None:
    """Up to 64 rows nothing is written for each weight."""
    few, many = (kernel_cost(product(m, 4096, 4096), A2) for m in (64, 65))
    assert "mte3" not in few.pipes
    assert many.pipes["mte3"] > 0
    assert many.gm_bytes > few.gm_bytes
    odd = kernel_cost(product(1, 4095, 4096), A2)
    assert "mte3" in odd.pipes, "weights that are no whole blocks are widened"


def test_the_first_part_of_the_columns_is_waited_for() -> None:
    """Of a product of one part the cube waits for all weights: twice as many columns take less than twice as long."""
    one, two = (kernel_cost(product(128, 8192, n), A2) for n in (6144, 12288))
    assert one.duration_ns > one.pipes["mte3"] + one.pipes["cube"]
    assert two.duration_ns < 2 * one.duration_ns


def test_groups_of_scales() -> None:
    """Four bits of few rows are multiplied by groups; those of more are widened, and so are other groups."""
    few, many, other = (
        kernel_cost(product(m, 4096, 4096, "int4", group=group), A2) for m, group in ((8, 128), (17, 128), (8, 32))
    )
    assert "mte3" not in few.pipes
    assert "mte3" in many.pipes
    assert "mte3" in other.pipes
    assert few.duration_ns < many.duration_ns
    whole = kernel_cost(product(8, 4096, 4096, "int4", turned=True), A2)
    assert "mte3" not in whole.pipes
    assert "mte3" in kernel_cost(product(8, 4096, 4096, "int4"), A2).pipes, "four bits a column lie along K alone"


@pytest.mark.parametrize(
    "name", ["aclnnWeightQuantBatchMatmulV2", "WeightQuantBatchMatmulV3", "weightquantbatchmatmul"]
)
def test_a_kernel_of_another_spelling_or_without_a_result_is_the_same(name: str) -> None:
    """Went wrong once: other spellings were of no library, and a profile that tells no results ended in a traceback."""
    kernel = product(4, 4096, 4096)
    assert microseconds(replace(kernel, type=name)) == microseconds(kernel)
    assert microseconds(replace(kernel, outputs=())) == microseconds(kernel)


def test_other_generations_and_kernels_are_as_they_were() -> None:
    """3510 has another library, and of other names nothing is known."""
    a5 = machine(chip("Ascend950PR_9589"))
    kernel = product(4, 4096, 4096)
    assert kernel_cost(kernel, a5) == kernel_cost(replace(kernel, type="QuantBatchMatmulV3"), a5)


@pytest.mark.parametrize(("rows", "within"), [((1, 64), 0.18), ((65, 128), 0.1)])
def test_public_kernels_are_met(rows: tuple[int, int], within: float) -> None:
    """No constant came from these."""
    errors = [
        abs(each.said_now().error)
        for each in cleared_kernels()
        if each.kernel.type == "WeightQuantBatchMatmulV2"
        and each.chip == "910B2"
        and rows[0] <= each.kernel.present[0].shape[0] <= rows[1]
    ]
    assert errors
    assert median(errors) < within
