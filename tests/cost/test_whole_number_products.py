"""Products of whole numbers as the library of 2201 tiles them, and what few rows of weights wait for HBM."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from benchmarks.cleared_kernels import cleared_kernels
from benchmarks.public_kernels import public_cost, public_kernels
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.hardware import chip

A2 = machine(chip("910B2"))


def product(m: int, k: int, n: int, dtype: str = "int8", *, turned: bool = False) -> Kernel:
    other = Operand((n, k) if turned else (k, n), dtype)
    made = "float16" if dtype == "int8" else dtype
    scales = (Operand((n,), "uint64"),) if dtype == "int8" else ()
    name = "QuantBatchMatmulV3" if dtype == "int8" else "MatMulV3"
    attributes = (("transpose_a", False), ("transpose_b", turned))
    return Kernel(name, (Operand((m, k), dtype), other, *scales), (Operand((m, n), made),), attributes)


def test_k_of_whole_numbers_is_not_split() -> None:
    """However deep: floats of the same shape are."""
    whole, floats = (kernel_cost(product(64, 16384, 512, dtype), A2).tiling for dtype in ("int8", "float16"))
    assert whole is not None
    assert floats is not None
    assert (whole.splits, floats.splits > 1) == (1, True)
    other = kernel_cost(replace(product(64, 16384, 512), type="QuantMatmul"), A2).tiling
    assert other is not None
    assert other.splits > 1, "of kernels that are no library's nothing is known"


def test_columns_are_those_of_the_base_block_where_rows_are_whole_ones() -> None:
    whole, others = (kernel_cost(product(16, 512, n), A2).tiling for n in (16384, 16400))
    assert whole is not None
    assert others is not None
    assert whole.n <= 256 < others.n


def test_narrow_rows_are_read_slower_than_long_ones_by_a_core() -> None:
    """Of one row and as many bytes of weights, those that lie along K come in sooner."""
    along_n, along_k = (kernel_cost(product(1, 7168, 7168, turned=turned), A2).duration_ns for turned in (False, True))
    assert along_n > 1.3 * along_k
    a5 = machine(chip("Ascend950PR_9589"))
    assert a5["hbm_core_row_cycles"] == 0


def test_public_products_of_one_row_are_met() -> None:
    """Of two publications, from which no constant came."""
    rows = [(each.kernel, each.said_now().error) for each in cleared_kernels() if each.chip == "910B2"]
    rows += [
        (kernel, public_cost(row, kernel, machine(chip(row["chip"]))).duration_ns / row["us"] / 1e3 - 1)
        for row, kernel in public_kernels()
        if row["chip"].startswith("910B")
    ]
    errors = [
        abs(error)
        for kernel, error in rows
        if [each.dtype for each in kernel.present[:2]] == ["int8", "int8"] and kernel.present[0].shape[0] == 1
    ]
    assert len(errors) == 3
    assert max(errors) < 0.25
    assert median(errors) < 0.15


def test_grouped_products_of_whole_numbers_have_the_librarys_tiles() -> None:
    """128 x 256, on all cores, as those of halves; also with a gate behind."""
    for name, made in (("GroupedMatmul", 4096), ("GroupedMatmulSwigluQuant", 2048)):
        inputs = (Operand((8192, 7168), "int8"), Operand((16, 7168, 4096), "int8"), Operand((16, 4096), "float32"))
        cost = kernel_cost(Kernel(name, inputs, (Operand((8192, made), "bfloat16"),)), A2)
        assert cost.tiling is not None
        assert (cost.tiling.m, cost.tiling.n, cost.tiling.splits) == (128, 256, 1)
