"""Layout changes: over which cores they run, and what makes them slow."""

from __future__ import annotations

import pytest

from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.vector.runs import relayout_of
from memplan.hardware import chip

B2 = machine(chip("910B2"))


def change(images: int, channels: int, side: int) -> Kernel:
    source = Operand((images, channels, side, side), "float32")
    return Kernel("TransData", (source,), (Operand((images, channels // 8, side, side, 8), "float32", "NC1HWC0"),))


@pytest.mark.parametrize(("images", "cores"), [(32, 32), (64, 32), (48, 48), (256, 43), (2, 32)])
def test_images_are_dealt_out_whole_and_few_ones_by_blocks_of_channels(images: int, cores: int) -> None:
    found = relayout_of(change(images, 128, 13), B2)
    assert found is not None
    assert (found.cores, found.cycles) == (cores, 0.0)


def test_blocks_of_filters_are_moved_one_by_one() -> None:
    filters = Operand((256, 384, 3, 3), "float32")
    stored = Operand((432, 16, 16, 8), "float32", "FRACTAL_Z")
    for kernel in (Kernel("TransData", (filters,), (stored,)), Kernel("TransData", (stored,), (filters,))):
        found = relayout_of(kernel, B2)
        assert found is not None
        assert found.cycles == pytest.approx(432 * 16 * 16 / found.cores * B2["mte2_instruction_cycles"])
        least = found.cycles / B2.vector_clock_hz * 1e9
        assert kernel_cost(kernel, B2).duration_ns > least


def test_blocks_of_an_image_are_moved_one_by_one_where_cores_cannot_turn_them() -> None:
    """The first generation turns 16 bits alone."""
    old = machine(chip("910A"))
    found = relayout_of(change(32, 128, 13), old)
    assert found is not None
    assert found.cycles == pytest.approx(32 * 16 * 13 * 13 / found.cores * old["word_block_cycles"])
    half = Operand((32, 128, 13, 13), "float16")
    turned = Kernel("TransData", (half,), (Operand((32, 8, 13, 13, 16), "float16", "NC1HWC0"),))
    found = relayout_of(turned, old)
    assert found is not None
    assert found.cycles == 0.0


def test_few_images_are_spread_over_all_cores_where_kernels_have_one_shape() -> None:
    """Four images came to four cores, which took twelve times what was measured."""
    image = Operand((4, 3, 224, 224), "float32")
    kernel = Kernel("TransData", (image,), (Operand((4, 1, 224, 224, 16), "float32", "NC1HWC0"),))
    old, new = relayout_of(kernel, machine(chip("910A"))), relayout_of(kernel, B2)
    assert old is not None
    assert new is not None
    assert (old.cores, new.cores) == (32, 4)


def test_cores_that_a_row_tells_are_taken() -> None:
    told = Kernel("TransData", change(32, 128, 13).inputs, change(32, 128, 13).outputs, (), 16)
    found = relayout_of(told, B2)
    assert found is not None
    assert found.cores == 16


def test_matrices_and_other_kernels_are_none() -> None:
    matrix = Operand((4096, 4096), "float16")
    stored = Operand((256, 256, 16, 16), "float16", "NZ")
    assert relayout_of(Kernel("TransData", (matrix,), (stored,)), B2) is None
    assert relayout_of(Kernel("Transpose", change(32, 128, 13).inputs, change(32, 128, 13).outputs), B2) is None


def test_what_takes_turns_is_slower_than_what_overlaps() -> None:
    cost = kernel_cost(change(32, 128, 55), B2)
    assert cost.duration_ns > cost.pipes["mte3"] + cost.pipes["mte2"]
    tensor = Operand((4096, 4096), "float32")
    move, copy = (kernel_cost(Kernel(name, (tensor,), (tensor,)), B2) for name in ("TensorMove", "ViewCopy"))
    assert move.duration_ns > copy.duration_ns
