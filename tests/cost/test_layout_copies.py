"""Operands that vector cores write out in the fractal layout before the cube takes them."""

from __future__ import annotations

import pytest

from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.kernel_problem import problem_of
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.products.layout_copies import layout_copies
from memplan.cost.vector import vector_work
from memplan.hardware import chip

CORE = machine(chip("910B4"))


def product(m: int, k: int, n: int, dtype: str = "bfloat16", unit: str = "", *, of: str = "MatMulV3") -> Kernel:
    shapes = (Operand((m, k), dtype), Operand((k, n), dtype))
    return Kernel(of, shapes, (Operand((m, n), dtype),), (("core", unit),) if unit else ())


def copied(kernel: Kernel) -> tuple[bool, bool]:
    problem = problem_of(kernel, CORE).matmul
    assert problem is not None
    found = layout_copies(kernel, problem, CORE)
    return (False, False) if found is None else (found.problem.a_run == "nz", found.problem.b_run == "nz")


@pytest.mark.parametrize(
    ("m", "k", "n", "which"),
    [
        (512, 1024, 2048, (False, False)),
        (512, 1000, 2048, (True, False)),
        (512, 1024, 2000, (False, True)),
        (512, 1001, 777, (True, True)),
        (512, 65536, 1024, (True, False)),
        (512, 1024, 65536, (False, True)),
        (512, 80, 1024, (False, False)),
        (8192, 8192, 16384, (False, True)),
    ],
)
def test_rows_that_are_too_long_or_begin_crooked_are_copied(m: int, k: int, n: int, which: tuple[bool, bool]) -> None:
    assert copied(product(m, k, n)) == which


def test_a_profile_tells_whether_vector_cores_took_part() -> None:
    assert copied(product(512, 1000, 1024, unit="MIX_AIC")) == (True, False)
    assert copied(product(512, 1000, 1024, unit="AI_CORE")) == (False, False)


def test_other_kernels_and_float32_take_rows_as_they_lie() -> None:
    assert copied(product(512, 1000, 1024, of="MatMulV2")) == (False, False)
    assert copied(product(512, 1000, 1024, "float32")) == (False, False)


def test_the_copy_comes_before_the_product() -> None:
    """Reading and writing a large operand once more takes at least as long as HBM needs for both."""
    straight = kernel_cost(product(4096, 131072, 1024, unit="AI_CORE"), CORE)
    copied_first = kernel_cost(product(4096, 131072, 1024, unit="MIX_AIC"), CORE)
    moved = 2 * 4096 * 131072 * 2
    assert copied_first.gm_bytes > moved
    assert copied_first.pipes["mte3"] > 0
    assert copied_first.duration_ns > moved / CORE.hbm_bytes_per_second * 1e9
    assert copied_first.duration_ns > straight.duration_ns


def test_long_rows_of_a_norms_gradient_are_worked_on_one_by_one() -> None:
    def starts(row: int, of: str = "RmsNormGrad") -> float:
        data = Operand((4096, row), "bfloat16")
        kernel = Kernel(of, (data, data, Operand((4096, 1), "float32"), Operand((row,), "bfloat16")), (data,))
        return vector_work(kernel, op_class(of), CORE).row_starts

    assert starts(640) == 1
    assert starts(1024) > 14
    assert starts(4096) == starts(1024) + 2
    assert starts(1024, "RmsNorm") == 1
