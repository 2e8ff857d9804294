"""Runs of contiguous bytes, layouts that profiles name, and fused kernels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.kernels.kernel import logical_row
from memplan.cost.kernels.kernel_rows import kernel_of_row
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.vector.runs import Runs, contiguous_runs
from memplan.cost.vector.traffic import bytes_passed
from memplan.hardware import chip

CORE = machine(chip("910B3"))
HALF = "bfloat16"


def runs(kind: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]]) -> Runs:
    kernel = Kernel(kind, tuple(Operand(s, HALF) for s in inputs), tuple(Operand(s, HALF) for s in outputs))
    return contiguous_runs(kernel, op_class(kind))


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "found"),
    [
        ("Slice", [(64, 8, 512)], [(64, 8, 128)], Runs(read=256, apart=True)),
        ("Slice", [(64, 512)], [(16, 512)], Runs(read=0, apart=True)),  # whole rows lie together
        ("SwiGlu", [(64, 100)], [(64, 50)], Runs(read=100)),
        ("SwiGluGrad", [(64, 50), (64, 100)], [(64, 100)], Runs(read=100, written=100)),
        ("RotaryPositionEmbedding", [(64, 1, 8, 128)], [(64, 1, 8, 128)], Runs(read=128, written=128)),
        ("ConcatD", [(64, 24), (64, 40)], [(64, 64)], Runs(written=48)),
        ("SplitD", [(64, 64)], [(64, 24), (64, 40)], Runs(read=48)),
        ("ConcatD", [(16, 64), (48, 64)], [(64, 64)], Runs()),
        ("Transpose", [(4, 32, 8, 128)], [(4, 8, 32, 128)], Runs(read=256)),
        ("Transpose", [(96, 33)], [(33, 96)], Runs(read=66, written=128)),
        ("Transpose", [(96, 96)], [(96, 96)], Runs(read=128, written=128)),  # went wrong once: as if nothing moved
        ("Transpose", [(4, 32, 32, 128)], [(4, 32, 32, 128)], Runs(read=256)),
        ("Transpose", [(4, 32, 128)], [(4, 32, 128)], Runs()),
        ("Add", [(64, 100)], [(64, 100)], Runs()),
    ],
)
def test_runs_by_kind(kind: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], found: Runs) -> None:
    assert runs(kind, inputs, outputs) == found


@given(rows=st.integers(1, 4096), width=st.integers(1, 300), kept=st.integers(1, 300))
def test_a_slice_moves_what_it_keeps(rows: int, width: int, kept: int) -> None:
    whole, part = Operand((rows, 2 * width), HALF), Operand((rows, min(kept, width)), HALF)
    sliced = kernel_cost(Kernel("Slice", (whole,), (part,)), CORE)
    assert sliced.duration_ns > 0
    assert sliced.gm_bytes == 2 * part.nbytes


@pytest.mark.parametrize(("step", "times"), [("1", 1), ("2", 2), ("4096", 256)])
def test_a_slice_of_every_so_many_elements_passes_what_lies_between(step: str, times: int) -> None:
    """Went wrong once: what it keeps alone was counted. Farther apart than a line each element brings a line along."""
    whole, kept = Operand((64, 1 << 20), HALF), Operand((64, 4096), HALF)
    told = (("strides", f"1,{step}"),)
    assert bytes_passed(Kernel("StridedSlice", (whole,), (kept,), told), CORE["alignment"]) == times
    assert bytes_passed(Kernel("StridedSlice", (whole,), (kept,)), CORE["alignment"]) == 1


def test_short_rows_cost_more_than_long_ones_of_as_many_bytes() -> None:
    """A gated activation of rows of 100 B issues two reads and a write for each (public runs: 3 to 4 times as long)."""
    short = kernel_cost(Kernel("SwiGlu", (Operand((65536, 100), HALF),), (Operand((65536, 50), HALF),)), CORE)
    long = kernel_cost(Kernel("SwiGlu", (Operand((512, 12800), HALF),), (Operand((512, 6400), HALF),)), CORE)
    assert short.duration_ns > 2 * long.duration_ns


def test_formats_of_a_profile_reach_the_model() -> None:
    """A weight in blocks is one matrix of its own size, not a batch of small ones."""
    row = ("MatMulV3", "4096,1024;64,192,16,16", "DT_BF16;DT_BF16", "4096,3072", "DT_BF16")
    told = kernel_cost(kernel_of_row(*row, input_formats="ND;FRACTAL_NZ", output_formats="ND"), CORE)
    plain = kernel_cost(
        kernel_of_row("MatMulV3", "4096,1024;1024,3072", "DT_BF16;DT_BF16", "4096,3072", "DT_BF16"), CORE
    )
    assert told.flops == plain.flops
    assert told.duration_ns == pytest.approx(plain.duration_ns, rel=0.25)
    assert kernel_cost(kernel_of_row(*row), CORE).duration_ns > 2 * told.duration_ns


@pytest.mark.parametrize(
    ("shape", "layout", "elements"),
    [
        ((32, 4, 55, 55, 16), "NC1HWC0", 55 * 55 * 16),
        ((8, 4, 64, 16, 16), "NZ", 4 * 16),
        ((64, 1024), "ND", 1024),
        ((), "ND", 1),
    ],
)
def test_a_row_is_what_a_norm_goes_along(shape: tuple[int, ...], layout: str, elements: int) -> None:
    assert logical_row(Operand(shape or (1,), "float16", layout)) == elements


def test_a_fused_kernel_is_its_heaviest_part_with_the_others_behind() -> None:
    fused = op_class("FusionOp_Conv2D_ReLU")
    assert (fused.kind, fused.passes) == ("convolution", op_class("Conv2D").passes + op_class("ReLU").passes)
    a, b, out = Operand((2048, 1024), "float16"), Operand((1024, 2048), "float16"), Operand((2048, 2048), "float16")
    alone = kernel_cost(Kernel("MatMul", (a, b), (out,)), CORE)
    both = kernel_cost(Kernel("FusionOp_MatMul_GeLU", (a, b), (out,)), CORE)
    assert both.kind == "matmul"
    assert alone.duration_ns < both.duration_ns < 3 * alone.duration_ns
    assert op_class("FusionOp_").rule == "unknown"


@pytest.mark.parametrize("layout", ["NC1HWC0", "FRACTAL_Z"])
@pytest.mark.parametrize("shape", [(), (0,), (4, 0), (2, 0, 7, 7, 16)])
def test_changes_to_blocks_without_elements_have_a_time(layout: str, shape: tuple[int, ...]) -> None:
    """Went wrong once: rows of edited profiles that tell no blocks were divided by none."""
    image = Operand((4, 4, 16, 16), "float16")
    assert kernel_cost(Kernel("TransData", (image,), (Operand(shape, "float16", layout),)), CORE).duration_ns > 0
