"""Scratch of PyTorch's CPU kernels, as its allocator counted it for single ops (2.13, AVX-512, one thread)."""

from __future__ import annotations

from math import prod

import pytest

from memplan.readers.pytorch.aten import cpu_workspace, kept_bytes

# Images, channels in and out, side of the image and of the kernel; bytes forward and on the way back.
CONVOLUTIONS = [
    ((3, 3, 24, 20, 3), 153_600, 231_744),
    ((3, 8, 16, 20, 3), 76_800, 119_744),
    ((3, 5, 10, 22, 3), 92_928, 164_192),
    ((4, 16, 8, 20, 3), 162_816, 209_600),
    ((4, 40, 3, 20, 3), 418_048, 433_120),
    ((2, 80, 72, 14, 3), 368_384, 274_368),
    ((2, 17, 33, 19, 5), 289_336, 328_860),
    ((4, 24, 24, 24, 1), 0, 0),
]


@pytest.mark.parametrize(("case", "forward", "backward"), CONVOLUTIONS)
def test_convolutions_reorder_into_blocks_of_channels(
    case: tuple[int, int, int, int, int], forward: int, backward: int
) -> None:
    batch, few, many, side, kernel = case
    image, weights, made = (batch, few, side, side), (many, few, kernel, kernel), (batch, many, side, side)
    x, w, y = (4 * prod(shape) for shape in (image, weights, made))
    attrs = {"transposed": False, "groups": 1}
    told = cpu_workspace("convolution", [(0, image), (1, weights)], [y], attrs, [x, w], [made])
    assert told == forward
    given = [(0, made), (1, image), (2, weights)]
    told = cpu_workspace("convolution_backward", given, [x, w, 4 * many], attrs, [y, x, w], [image, weights, (many,)])
    assert told == pytest.approx(backward, abs=500)


HALVES = [
    ((3, 21, 21, 20, 3), 121_632, 263_298),
    ((3, 13, 13, 39, 3), 146_016, 380_634),
    ((4, 32, 48, 16, 3), 98_304, 270_724),
    ((2, 8, 16, 30, 3), 57_600, 99_588),
    ((5, 40, 24, 24, 3), 350_208, 631_812),
    ((2, 24, 40, 18, 3), 79_488, 232_068),
    ((6, 20, 24, 33, 3), 541_152, 1_039_428),
    ((1, 96, 48, 12, 3), 110_592, 262_020),
    ((2, 9, 21, 20, 3), 51_200, 92_400),
    ((2, 3, 16, 24, 3), 36_864, 70_560),
    ((2, 32, 32, 20, 5), 102_400, 269_704),
]
"""The same in bfloat16."""


@pytest.mark.parametrize(("case", "forward", "backward"), HALVES)
def test_convolutions_of_half_precision_sum_up_in_full(
    case: tuple[int, int, int, int, int], forward: int, backward: int
) -> None:
    batch, few, many, side, kernel = case
    image, weights, made = (batch, few, side, side), (many, few, kernel, kernel), (batch, many, side, side)
    x, w, y = (2 * prod(shape) for shape in (image, weights, made))
    attrs = {"transposed": False, "groups": 1, "stride": (1, 1)}
    assert cpu_workspace("convolution", [(0, image), (1, weights)], [y], attrs, [x, w], [made], 1, 2) == forward
    given = [(0, made), (1, image), (2, weights)]
    told = cpu_workspace("convolution_backward", given, [x, w], attrs, [y, x, w], [image, weights], 1, 2)
    assert told == pytest.approx(backward, abs=500)


@pytest.mark.parametrize(
    ("shape", "dim", "size", "beyond"),
    [
        ((2, 3, 17, 40), -1, 4, 4_186),
        ((5, 7, 64), -1, 4, 2_279),
        ((4, 100, 9), 1, 4, 3_640),
        ((2, 4, 5, 6, 7), 2, 4, 2_020),
        ((2, 8, 50, 30), -1, 8, 24_808),
        ((2, 8, 50, 30), -1, 2, 24_802),
    ],
)
def test_attention_without_its_kernel_asks_which_rows_are_masked(
    shape: tuple[int, ...], dim: int, size: int, beyond: int
) -> None:
    nbytes = size * prod(shape)
    assert cpu_workspace("_safe_softmax", [(0, shape)], [nbytes], {"dim": dim}, [nbytes], [shape]) == beyond


# Reduced, then in bytes for each element of the whole: what stays, and the most that is there besides.
LOSSES = [
    ("mse_loss", None, 4, 4, 4),
    ("smooth_l1_loss", 2, 8, 8, 8),
    ("smooth_l1_loss", None, 2, 2, 6),
    ("huber_loss", None, 4, 0, 4),
    ("huber_loss", None, 2, 0, 6),
    ("soft_margin_loss", 2, 4, 4, 0),
    ("binary_cross_entropy", None, 2, 2, 4),
    ("binary_cross_entropy", 0, 4, 0, 0),
    ("mse_loss", 0, 2, 0, 0),
]


@pytest.mark.parametrize(("name", "reduction", "element", "kept", "besides"), LOSSES)
def test_losses_are_made_whole_and_some_stay_so(
    name: str, reduction: int | None, element: int, kept: int, besides: int
) -> None:
    shape, attrs = (300, 70), {} if reduction is None else {"reduction": reduction}
    given = [(0, shape), (1, shape)]
    assert kept_bytes(name, given, attrs, element) == kept * prod(shape)
    stored = [element * prod(shape)] * 2
    assert cpu_workspace(name, given, [element], attrs, stored, [()], 1, element) == besides * prod(shape)


def test_the_way_back_of_a_soft_margin_holds_two_more() -> None:
    given = [(0, ()), (1, (300, 70)), (2, (300, 70))]
    assert cpu_workspace("soft_margin_loss_backward", given, [84_000], {}, [4, 84_000, 84_000]) == 168_000
