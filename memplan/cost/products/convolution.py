"""From a convolution's operands, or its gradients', to the matrix product that it is computed by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, lcm, prod, sqrt

from memplan.cost.kernels.kernel import Kernel, Operand, element_bytes
from memplan.cost.kernels.op_classes import is_fused
from memplan.cost.machine import Machine
from memplan.cost.products.matmul_problem import MatmulProblem

_WORD = 4
"""Bytes of an element that MTE1 turns slowly."""
_SINGLE_CHANNEL_DIMS = 6
"""Dimensions of filters of single channels in blocks (C1HWNCoC0)."""


def convolution_of(kernel: Kernel, machine: Machine, kind: str) -> MatmulProblem | None:
    """
    The product of a convolution (implicit im2col), `None` if its operands make none: rows are pixels, columns filters.

    The windows of an image are unfolded between L1 and the cube, so that its pixels alone go through GM; so are those
    of a result's gradient for the gradient of an image. How gradients of filters are cut is not known on all
    generations: there each element counts as often as it is used, but for those of groups of channels where these are
    multiplied apart.

    Understands NCHW, its forms of one and three dimensions, and the stored NC1HWC0 with FRACTAL_Z filters. A
    `transposed_convolution` spreads each pixel of its input over the taps of its filters. Frameworks give gradients'
    operands in orders of their own (CANN filters and images first, MindSpore and PyTorch the gradient of the result),
    so shapes tell which is which.
    """
    tensors = [op for op in kernel.present if len(op.shape) >= 3 and op.dtype not in ("int32", "int64")]
    if len(tensors) < 2 or not kernel.outputs:
        return None
    made, width, products = kernel.outputs[0], element_bytes(tensors[0].dtype), 1
    if kind == "convolution_input_gradient":
        filters, pixels_of = _filters_and_gradient(tensors, made)
    elif kind == "convolution_filter_gradient":
        # One op may make the gradients of image and filters, as many operations each, of all three operands.
        joined = len(tensors) > 2 and made.shape == tensors[1].shape
        filters, pixels_of = (tensors[2], tensors[0]) if joined else (made, tensors[0])
        products += joined and any(out.shape == filters.shape for out in kernel.outputs[1:])
    else:
        filters, pixels_of = tensors[1], made if kind == "convolution" else tensors[0]
    if min(len(op.shape) for op in (filters, pixels_of)) < 3:
        return None
    # An image of five dimensions is NC1HWC0, whose filters have four, or a volume, whose filters have five.
    blocked = len(pixels_of.shape) == 5 and len(filters.shape) != 5
    image = made if kind == "convolution_input_gradient" else tensors[products - 1]
    if kind == "convolution_filter_gradient" and products == 1:
        count, *_ = _filter(filters, width, (0, 0), blocked=blocked)
        pixels_of = min(
            tensors[:2], key=lambda op: (_channels(op, blocked=blocked) != count, _pixels(op, blocked=blocked))
        )
        image = tensors[1] if pixels_of is tensors[0] else tensors[0]
    strides = _strides(image, pixels_of, blocked=blocked)
    stride = strides[0] if strides else 1
    known = kind != "transposed_convolution"
    channels = (_channels(image, blocked=blocked), _channels(pixels_of, blocked=blocked)) if known else (0, 0)
    count, taps, parts = _filter(filters, width, channels, blocked=blocked)
    parts = parts if machine["groups_apart"] else 1
    pixels, batch, count = _pixels(pixels_of, blocked=blocked), products * parts, ceil(count / parts)
    m, n, k = {
        "convolution": (pixels, count, taps),
        "convolution_filter_gradient": (taps, count, pixels),
    }.get(kind, (pixels, taps, count))
    spread = kind == "convolution_input_gradient" and parts > 1
    if spread:
        # Each block of channels is the convolution of its gradient, with zeros between for a stride.
        own = max(channels[0] // parts, 1)
        m, n, k = _pixels(image, blocked=blocked), own, count * max(taps // own, 1)
    if min(m, n, k) < 1:
        return None
    back = kind == "convolution_input_gradient"
    of_image = back and not spread and _channels(made, blocked=blocked) * made.count > 0
    if of_image:
        m, n, k = _around_pixels(made, pixels_of if stride == 1 else made, m * n * k, blocked=blocked)
    rate = machine.convolution_rate(tensors[0].dtype) or 0.0
    problem = MatmulProblem(
        m, n, k, batch, width, width, width, "nz", "nz", a_batch=batch, b_batch=batch, mac_rate=rate
    )
    if is_fused(kernel.type):
        own = sum(operand.nbytes for operand in (*tensors[:2], made))
        problem = replace(problem, extra_bytes=float(kernel.read_bytes + kernel.written_bytes - own))
    if known and not spread:
        # Windows of few channels, or far apart, have fewer elements than what is loaded of their image.
        loaded = pixels_of.count * width if back else _loaded(image, strides[1:], filters, blocked=blocked)
        problem = replace(problem, extra_bytes=problem.extra_bytes + max(loaded - problem.a_total, 0.0))
    if of_image:
        turned = machine["turned_word_fractal_cycles"] if width == _WORD else 0.0
        return replace(problem, unfolds=min(pixels_of.count / (m * k), 1.0), turned_cycles=turned)
    unfolded = kind == "convolution_filter_gradient" and products == 1 and stride <= machine["gradient_unfolds_steps"]
    if kind != "convolution" and not unfolded and not spread:
        return problem
    windows = pixels_of if spread else image
    return replace(problem, unfolds=min(windows.count / (parts * m * k), 1.0), stride=1 if spread else stride)


def _around_pixels(made: Operand, rows: Operand, products: int, *, blocked: bool) -> tuple[int, int, int]:
    """
    The gradient of an image, `made`, as a convolution: a row for each pixel of the image `rows`, columns its channels,
    and so many terms each that they come to `products`, windows of the result's gradient over all filters. Products
    with zeros count for none.
    """
    pixels, channels = _pixels(rows, blocked=blocked), _channels(made, blocked=blocked)
    return pixels, channels, max(ceil(products / (pixels * channels)), 1)


def images_dealt(kernel: Kernel, machine: Machine) -> int:
    """Cores of a convolution over whole images, which are dealt out evenly; 0 for images that are too few for that."""
    images = kernel.present[0].shape[0] if kernel.present and kernel.present[0].shape else 0
    return ceil(images / ceil(images / machine.cubes)) if 2 * images >= machine.cubes else 0


def _strides(image: Operand, windows: Operand, *, blocked: bool) -> tuple[int, ...]:
    """
    Pixels from one window to the next along each axis, that of a row first, as the sizes of `image` and of the image of
    `windows` tell.
    """
    sizes, counts = (op.shape[2:-1] if blocked else op.shape[2:] for op in (image, windows))
    return tuple(max(round(size / max(count, 1)), 1) for size, count in zip(sizes[::-1], counts[::-1], strict=False))


def _loaded(image: Operand, strides: Sequence[int], filters: Operand, *, blocked: bool) -> float:
    """
    Bytes of `image` that windows meet whose rows are `strides` apart, those of a volume's planes too: of rows of pixels
    between theirs nothing is loaded, of others all is. Filters in blocks that tell their area alone are taken as wide
    as they are high.
    """
    heights: Sequence[int]
    if not blocked:
        heights = filters.shape[-2:1:-1]
    elif len(filters.shape) == _SINGLE_CHANNEL_DIMS:
        heights = filters.shape[1:2]
    else:
        heights = (round(sqrt(max(filters.shape[0] // max(image.shape[1], 1), 1))),)
    met = prod(min(height / stride, 1.0) for height, stride in zip(heights, strides, strict=False))
    return float(image.count) * element_bytes(image.dtype) * met


def _filters_and_gradient(tensors: Sequence[Operand], made: Operand) -> tuple[Operand, Operand]:
    """The filters and the gradient of the result, of which the gradient of an image is `made`."""
    first, second = tensors[:2]

    def unlike(filters: Operand, gradient: Operand) -> int:
        if len(gradient.shape) != len(made.shape):
            return 3
        alike = len(filters.shape) == len(gradient.shape)
        return (gradient.shape[0] != made.shape[0]) + (alike and filters.shape[0] != gradient.shape[1])

    return (first, second) if unlike(first, second) <= unlike(second, first) else (second, first)


def _filter(operand: Operand, width: float, channels: tuple[int, int], *, blocked: bool) -> tuple[int, int, int]:
    """
    Filters, taps of each (input channels x kernel area), and in how many parts of them none share a channel.

    `channels` are those of the image and of the result, 0 where they are not known. Filters of groups of channels are
    multiplied for as many groups at once as fill the blocks of the cube on either side, with zeros for the channels of
    the other groups, which count as multiplied (TBE, `calculate_group` of convolutions and of both gradients); so are
    those of single channels.
    """
    shape, (image, result) = operand.shape, channels
    if blocked and len(shape) == _SINGLE_CHANNEL_DIMS:
        shape = (prod(shape[:3]), *shape[3:])
    if blocked and len(shape) == 4 and shape[-1] * width == 32 and shape[-2] == 16:
        count, taps = shape[1] * 16, shape[0] * shape[3]
        parts = max(result // max(count, 1), 1)
        if (result % max(count, 1), taps % parts) == (0, 0):
            return count * parts, taps // parts, parts
        return count, taps, 1
    count, each, area = shape[0], shape[1], prod(shape[2:])
    if each == image > 1 and result == count * image:  # one filter or more for each channel, named the other way round
        count, each = result, 1
    groups = image // each if each and image % each == 0 and count % (image // each or 1) == 0 else 1
    if groups < 2 or not count:
        return count, each * area, 1
    made, block = count // groups, int(32 / width)
    together = min(lcm(lcm(each, block) // each, lcm(made, 16) // made), groups)
    return count, each * together * area, ceil(groups / together)


def _channels(operand: Operand, *, blocked: bool) -> int:
    """Channels of an image, those that fill its blocks included; 0 of what is told as no image."""
    if len(operand.shape) < 3:
        return 0
    return operand.shape[1] * (operand.shape[-1] if blocked else 1)


def _pixels(operand: Operand, *, blocked: bool) -> int:
    """Pixels of all images."""
    return operand.shape[0] * prod(operand.shape[2:4] if blocked else operand.shape[2:])
