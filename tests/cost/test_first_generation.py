"""The first generation against its own kernels: memory rates from its platform file, results that leave L2."""

from __future__ import annotations

from pathlib import Path

from benchmarks.first_generation import first_generation_rows
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.hardware import chip


def test_a_result_beyond_l2_goes_to_hbm_while_the_product_runs() -> None:
    """Went wrong once: writing 151 MB of products took as long as L2 needs for it, 8 times what HBM takes in."""
    core = machine(chip("910A"))
    thin = Operand((32, 9216), "float16"), Operand((32, 4096), "float16")
    out = Operand((9216, 4096), "float32")
    cost = kernel_cost(Kernel("MatMul", thin, (out,), (("transpose_a", True),)), core)
    assert cost.duration_ns > out.nbytes / (core.hbm_bytes_per_second * core["hbm_write_share"]) * 1e9


def test_kernels_of_an_old_profile_are_met(shared_data: Path) -> None:
    """No constant came from that profile."""
    rows = list(first_generation_rows(shared_data))
    missed = sum(abs((row.predicted or 0.0) - row.measured) for row in rows)
    assert missed < 0.15 * sum(row.measured for row in rows)
