"""Kernels of the first generation at shapes that no profile holds: nothing is priced beyond what its library can be."""

from __future__ import annotations

import pytest

from benchmarks.aicore import roofline_ns
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.vector.runs import Runs, contiguous_runs
from memplan.hardware import chip

CORE, LATER = machine(chip("910A")), machine(chip("910B3"))


def _half(*shape: int, layout: str = "ND") -> Operand:
    return Operand(shape, "float16", layout)


def _times_roofline(kernel: Kernel) -> float:
    return kernel_cost(kernel, CORE).duration_ns / roofline_ns(kernel, CORE)


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs"),
    [
        ("MatMul", ((48, 256, 16, 16), (192, 48, 16, 16)), ((192, 256, 16, 16),)),
        ("BatchMatMul", ((384, 4, 8, 16, 16), (384, 4, 8, 16, 16)), ((384, 8, 8, 16, 16),)),
    ],
)
def test_float32_in_blocks_is_multiplied_as_halves(
    kind: str, inputs: tuple[tuple[int, ...], ...], outputs: tuple[tuple[int, ...], ...]
) -> None:
    """Went wrong once: by vector units, ten thousand times as long, where the library has float32 in rows alone."""
    made = tuple(Operand(shape, "float32", "NZ") for shape in outputs)
    told, run = (
        kernel_cost(Kernel(kind, tuple(Operand(shape, dtype, "NZ") for shape in inputs), made), CORE)
        for dtype in ("float32", "float16")
    )
    assert told.duration_ns == run.duration_ns < 200_000


def test_convolutions_told_in_float32_are_those_of_halves() -> None:
    """Went wrong once: by vector units, which have no convolution."""
    for dtype in ("float16", "float32"):
        image = Operand((32, 4, 56, 56, 16), dtype, "NC1HWC0")
        kernel = Kernel("Conv2D", (image, Operand((36, 4, 16, 16), dtype, "FRACTAL_Z")), (_half(*image.shape),))
        assert kernel_cost(kernel, CORE).duration_ns < 100_000


def test_float32_in_rows_goes_by_vector_units_product_by_product() -> None:
    """Went wrong once: 768 products of 197 rows, which no number of cores divides, all on one core."""
    factors = Operand((768, 192, 64), "float32"), Operand((768, 64, 192), "float32")
    other = Operand((768, 197, 64), "float32"), Operand((768, 64, 192), "float32")
    whole, prime = (
        kernel_cost(Kernel("BatchMatMul", pair, (Operand((768, pair[0].shape[1], 192), "float32"),)), CORE)
        for pair in (factors, other)
    )
    assert "vector units" in whole.assumed
    assert whole.duration_ns < prime.duration_ns < 1.1 * whole.duration_ns


@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "DepthwiseConv2DBackpropInput", "DepthwiseConv2DBackpropFilter"])
@pytest.mark.parametrize("step", [1, 2])
def test_filters_of_single_channels_are_multiplied_block_by_block(kind: str, step: int) -> None:
    """Went wrong once: one of their layouts 34 times a roofline, others half of it, as images were not read whole."""
    image, result = _half(128, 6, 112, 112, 16, layout="NC1HWC0"), 112 // step
    gradient = _half(128, 6, result, result, 16, layout="NC1HWC0")
    found = set()
    for filters in (_half(54, 1, 16, 16, layout="FRACTAL_Z"), _half(6, 3, 3, 1, 16, 16), _half(96, 1, 3, 3)):
        inputs = {"t": (filters, gradient), "r": (image, gradient), "D": (image, filters)}[kind[-1]]
        made = {"t": image, "r": filters, "D": gradient}[kind[-1]]
        times = _times_roofline(Kernel(kind, inputs, (made,)))
        assert 0.98 < times < 1.5
        found.add(round(times, 1))
    assert len(found) == 1


def test_results_of_few_columns_leave_in_blocks() -> None:
    """Went wrong once: rows were turned out of blocks as FixPipe of later generations does, 4.5 cycles each."""
    for channels in (2, 4):
        image = _half(16, channels, 320, 320, 16, layout="NC1HWC0")
        kernel = Kernel(
            "Conv2D", (image, _half(9 * channels, 2, 16, 16, layout="FRACTAL_Z")), (_half(16, 2, 320, 320, 16),)
        )
        assert kernel_cost(kernel, CORE).bound == "cube"


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs"),
    [
        ("StridedSliceD", ((16, 80, 80, 3, 50, 2),), ((16, 80, 80, 3, 50, 1),)),
        ("SplitVD", ((16, 80, 80, 3, 85),), ((16, 80, 80, 3, 2), (16, 80, 80, 3, 2), (16, 80, 80, 3, 81))),
        ("ConcatD", ((16, 80, 80, 3, 2), (16, 80, 80, 3, 83)), ((16, 80, 80, 3, 85),)),
        ("TransposeD", ((16, 3, 640, 640),), ((16, 640, 640, 3),)),
        ("TransposeD", ((16, 640, 640, 3),), ((16, 3, 640, 640),)),
    ],
)
def test_short_runs_are_put_together(
    kind: str, inputs: tuple[tuple[int, ...], ...], outputs: tuple[tuple[int, ...], ...]
) -> None:
    """Went wrong once: each run of a few bytes an instruction, the shortest part's for all, 38 to 138 rooflines."""
    kernel = Kernel(kind, tuple(_half(*shape) for shape in inputs), tuple(_half(*shape) for shape in outputs))
    assert 1 < _times_roofline(kernel) < 6


def test_runs_of_later_generations_are_moved_as_they_lie() -> None:
    parts = _half(64, 24), _half(64, 40)
    kernel = Kernel("ConcatD", parts, (_half(64, 64),))
    rule = op_class("ConcatD")
    assert contiguous_runs(kernel, rule) == Runs(written=48)
    assert contiguous_runs(kernel, rule, joined=True) == Runs(written=64)
    assert LATER["short_runs_join"] == LATER["groups_apart"] == 0


def test_whole_rows_are_not_turned() -> None:
    kernel = Kernel("Slice", (_half(64, 8, 16),), (_half(64, 2, 16),))
    rule = op_class("Slice")
    assert contiguous_runs(kernel, rule, joined=True) == contiguous_runs(kernel, rule)


@pytest.mark.parametrize("kind", ["UnsortedSegmentSum", "ScatterAdd"])
def test_each_row_that_is_added_is_written_on_its_own(kind: str) -> None:
    """Went wrong once: rows of one element each took what their bytes do, 30 times less than their transfers."""
    indices = Operand((600_000,), "int32")
    made = {}
    for width in (1, 16, 256):
        table, rows = Operand((200_000, width), "float32"), Operand((600_000, width), "float32")
        inputs = (rows, indices) if kind == "UnsortedSegmentSum" else (table, indices, rows)
        made[width] = kernel_cost(Kernel(kind, inputs, (table,)), CORE).duration_ns
    assert made[1] > 200_000
    assert made[16] < 1.2 * made[1] < made[256]


def test_the_gradient_of_a_slice_reads_what_it_sets() -> None:
    small, whole = _half(64, 512, 64), _half(64, 512, 512)
    cost = kernel_cost(Kernel("StridedSliceGrad", (small,), (whole,)), CORE)
    assert cost.gm_bytes == small.nbytes + whole.nbytes


def test_maxima_without_their_places_take_whole_registers() -> None:
    image, result = _half(64, 12, 71, 71, 16, layout="NC1HWC0"), _half(64, 12, 35, 35, 16, layout="NC1HWC0")
    marks = Operand((64, 12, 9, 78, 16), "uint16", "NC1HWC0")
    plain = kernel_cost(Kernel("MaxPool", (image,), (result,)), CORE)
    placed = kernel_cost(Kernel("MaxPoolWithArgmax", (image,), (result, marks)), CORE)
    assert 4 * plain.pipes["vector"] < placed.pipes["vector"]


def test_rows_that_are_padded_come_and_go_one_by_one() -> None:
    """Went wrong once: as one copy, a seventh of what was measured of 32 x 64 x 112 rows (1.42 ms)."""
    inner, outer = (Operand((32, 64, 112, 112), "float32"), Operand((32, 64, 114, 114), "float32"))
    taller = Operand((32, 64, 114, 112), "float32")
    rows, whole = (kernel_cost(Kernel("PadD", (inner,), (made,)), CORE).duration_ns for made in (outer, taller))
    assert 1_000_000 < rows < 2_000_000
    assert whole < rows / 4
