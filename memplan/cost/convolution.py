"""From a convolution's operands, or its gradients', to the matrix product that it is computed by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, prod

from memplan.cost.kernel import Kernel, Operand
from memplan.cost.machine import Machine
from memplan.cost.tiling import MatmulProblem
from memplan.graph.model import DTYPE_BITS


def convolution_of(kernel: Kernel, machine: Machine, kind: str) -> MatmulProblem | None:
    """
    The product of a convolution (implicit im2col), `None` if its operands make none: rows are pixels, columns filters.

    The windows of an image are unfolded between L1 and the cube, so that its pixels alone go through GM. Of the
    gradients it is not known how they are cut: each element counts as often as it is used.

    Understands NCHW, its forms of one and three dimensions, and the stored NC1HWC0 with FRACTAL_Z filters. A
    `transposed_convolution` spreads each pixel of its input over the taps of its filters. Frameworks give gradients'
    operands in orders of their own (CANN filters and images first, MindSpore and PyTorch the gradient of the result),
    so shapes tell which is which.
    """
    tensors = [op for op in kernel.present if len(op.shape) >= 3 and op.dtype not in ("int32", "int64")]
    if len(tensors) < 2 or not kernel.outputs:
        return None
    made, width, products = kernel.outputs[0], DTYPE_BITS.get(tensors[0].dtype, 16) / 8, 1
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
    count, taps = _filter(filters, width, blocked=blocked)
    if kind == "convolution_filter_gradient" and products == 1:
        pixels_of = min(
            tensors[:2], key=lambda op: (_channels(op, blocked=blocked) != count, _pixels(op, blocked=blocked))
        )
    pixels = _pixels(pixels_of, blocked=blocked)
    m, n, k = {
        "convolution": (pixels, count, taps),
        "convolution_filter_gradient": (taps, count, pixels),
    }.get(kind, (pixels, taps, count))
    if min(m, n, k) < 1:
        return None
    rate = machine.convolution_rate(tensors[0].dtype) or 0.0
    problem = MatmulProblem(
        m, n, k, products, width, width, width, "nz", "nz", a_batch=products, b_batch=products, mac_rate=rate
    )
    if kind != "convolution":
        return problem
    stride = _stride(tensors[0], made, blocked=blocked)
    return replace(problem, unfolds=min(tensors[0].count / (m * k), 1.0), stride=stride)


def images_dealt(kernel: Kernel, machine: Machine) -> int:
    """Cores of a convolution over whole images, which are dealt out evenly; 0 for images that are too few for that."""
    images = kernel.present[0].shape[0] if kernel.present and kernel.present[0].shape else 0
    return ceil(images / ceil(images / machine.cubes)) if 2 * images >= machine.cubes else 0


def _stride(image: Operand, windows: Operand, *, blocked: bool) -> int:
    """Pixels of a row from one window to the next, as the widths of `image` and of the image of `windows` tell."""
    width, count = ((op.shape[-2] if blocked else op.shape[-1]) for op in (image, windows))
    return max(round(width / max(count, 1)), 1)


def _filters_and_gradient(tensors: Sequence[Operand], made: Operand) -> tuple[Operand, Operand]:
    """The filters and the gradient of the result, of which the gradient of an image is `made`."""
    first, second = tensors[:2]

    def unlike(filters: Operand, gradient: Operand) -> int:
        if len(gradient.shape) != len(made.shape):
            return 3
        alike = len(filters.shape) == len(gradient.shape)
        return (gradient.shape[0] != made.shape[0]) + (alike and filters.shape[0] != gradient.shape[1])

    return (first, second) if unlike(first, second) <= unlike(second, first) else (second, first)


def _filter(operand: Operand, width: float, *, blocked: bool) -> tuple[int, int]:
    """Filters, and taps of each (input channels x kernel area)."""
    shape = operand.shape
    if blocked and len(shape) == 4 and shape[-1] * width == 32 and shape[-2] == 16:
        return shape[1] * 16, shape[0] * shape[3]
    return shape[0], prod(shape[1:])


def _channels(operand: Operand, *, blocked: bool) -> int:
    """Channels of an image, those that fill its blocks included."""
    return operand.shape[1] * (operand.shape[-1] if blocked else 1)


def _pixels(operand: Operand, *, blocked: bool) -> int:
    """Pixels of all images."""
    return operand.shape[0] * prod(operand.shape[2:4] if blocked else operand.shape[2:])
