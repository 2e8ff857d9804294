"""What ATen's ops are called here and which of them make no bytes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

from memplan.core.resources import table

TORCH_DTYPES: Mapping[str, str] = {
    "uint8": "uint8", "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64", "float16": "float16",
    "float32": "float32", "float64": "float64", "complex64": "complex64", "complex128": "complex128", "bool": "bool",
    "bfloat16": "bfloat16", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64", "float8_e4m3fn": "float8_e4m3",
    "float8_e4m3fnuz": "float8_e4m3", "float8_e5m2": "float8_e5m2", "float8_e5m2fnuz": "float8_e5m2",
    "float8_e8m0fnu": "float8_e8m0",
}  # fmt: skip
"""PyTorch's names of element types as dtypes here."""


@dataclass(frozen=True, slots=True)
class AtenTable:
    """Ops whose results are views, those that are where nothing has to be copied, and op types by ATen name."""

    views: frozenset[str]
    maybe_views: frozenset[str]
    types: Mapping[str, str]

    def op_type(self, name: str) -> str:
        """The op type of ATen op `name`: `add_` is `Add`, `native_layer_norm` `LayerNorm`."""
        found = self.types.get(name) or self.types.get(name.rstrip("_"))
        if found is not None:
            return found
        words = name.removeprefix("_foreach").strip("_").split("_")
        return "".join(word[:1].upper() + word[1:] for word in words)


@cache
def aten_table() -> AtenTable:
    """The table shipped with memplan."""
    document = table("memplan.readers.pytorch", "aten_ops.json")
    return AtenTable(frozenset(document["views"]), frozenset(document["views_if_stored_alike"]), document["types"])


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a dense tensor in row-major order, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


ShapedStorage = tuple[int, tuple[int, ...]]


def cpu_workspace(
    name: str,
    inputs: Sequence[ShapedStorage],
    outputs: Sequence[int],
    attrs: Mapping[str, object],
    stored: Sequence[int],
    made: Sequence[tuple[int, ...]] = (),
    threads: int = 1,
    element: int = 4,
) -> int:
    """
    Bytes of scratch that PyTorch's CPU build takes from its allocator while it runs ATen op `name`.

    oneDNN reorders what a convolution of more than a pixel reads or writes into blocks of channels; a gradient that is
    part of a larger tensor is copied before. Losses that are averaged or summed follow `_LOSSES`; means of half
    precision are taken of a copy in full (both read off single ops, exact on four element types). Read off single ops
    (PyTorch 2.13, AVX-512; 9 convolutions), on 7 others exact forward and within 500 bytes on the way back; not exact
    with strided gradients. Resampling, Fourier transforms and attention follow their kernels (aten/src/ATen/native:
    cpu/UpSampleKernel.cpp, mkl/SpectralOps.cpp, cpu/FlashAttentionKernel.cpp, transformers/attention.cpp where that
    can't be used), exact on 48 single ops. Convolutions of half precision (an `element` of two bytes, AVX-512 with
    bfloat16) sum gradients of weights up in full precision beside transposed copies, read off 8 more. `inputs` are
    (storage, shape), `stored` the bytes of those storages, `outputs` bytes and `made` shapes of results.
    """
    sizes = [element * prod(shape) for _, shape in inputs]
    if name == "mean" and sizes:
        return _averaged(inputs[0][1], element)
    if name in _LOSSES and sizes:
        shape = _broadcast(inputs[:2])
        whole = _LOSSES[name].scratch * element * prod(shape) if _is_reduced(attrs) else 0
        return whole + (_averaged(shape, element) if _is_averaged(attrs) else 0)
    if name == "soft_margin_loss_backward" and sizes:
        return 2 * max(sizes)
    plain = attrs.get("groups", 1) == 1 and not attrs.get("transposed")
    if name == "convolution" and len(inputs) > 1 and prod(inputs[1][1][2:]) > 1:
        if plain and made:
            return _convolution(inputs[0][1], inputs[1][1], made[0], element)
        return 2 * outputs[0] if attrs.get("transposed") else max(sizes[0] + sizes[1], outputs[0])
    if name == "convolution_backward" and len(inputs) > 2 and prod(inputs[2][1][2:]) > 1:
        copied = sizes[0] if stored and stored[0] > sizes[0] else 0
        if plain:
            wanted = attrs.get("output_mask")
            images = not isinstance(wanted, tuple) or bool(wanted[0])
            gradient, image, weights = (shape for _, shape in inputs[:3])
            stride = attrs.get("stride")
            step = stride[-1] if isinstance(stride, tuple) else 1
            return copied + _gradients(gradient, image, weights, images=images, element=element, stride=step)
        return sizes[0] + sizes[1] + copied
    if name in _TAPS and made:
        return _resampling(sizes[0] + outputs[0], made[0], _TAPS[name], vectorised=name != "upsample_bicubic2d")
    if name in ("_fft_r2c", "_fft_c2c", "_fft_c2r") and isinstance(dims := attrs.get("dim"), tuple):
        return _transform(name, inputs[0][1], dims)
    if name == "_scaled_dot_product_flash_attention_for_cpu":
        return threads * _attention(inputs[0][1], inputs[1][1])
    if name == "_safe_softmax" and made and isinstance(dim := attrs.get("dim"), int):
        return _masked_rows(made[0], dim, outputs[0])
    return 0


def kept_bytes(name: str, inputs: Sequence[ShapedStorage], attrs: Mapping[str, object], element: int) -> int:
    """
    Bytes of the storage of what op `name` returns in PyTorch's CPU build where they are more than its elements take.

    A loss that is made whole, then reduced in place, holds the whole for as long as it lives; 0 for all other ops.
    """
    kept = name in _LOSSES and _LOSSES[name].kept and _is_reduced(attrs)
    return element * prod(_broadcast(inputs[:2])) if kept else 0


@dataclass(frozen=True, slots=True)
class _Loss:
    """
    How PyTorch's CPU build reduces a loss: whether the scalar keeps the storage of the whole shape.

    `scratch` counts tensors of the whole shape that are there beside the result until the op ends.
    """

    kept: bool
    scratch: int


def _is_reduced(attrs: Mapping[str, object]) -> bool:
    """Whether a loss is one number: ATen's `reduction`, which isn't told where it is the mean."""
    return attrs.get("reduction", _MEAN) != _NONE


def _is_averaged(attrs: Mapping[str, object]) -> bool:
    return attrs.get("reduction", _MEAN) == _MEAN


def _broadcast(inputs: Sequence[ShapedStorage]) -> tuple[int, ...]:
    """The shape of what is made of `inputs` element by element."""
    rank = max((len(shape) for _, shape in inputs), default=0)
    sides = [(1,) * (rank - len(shape)) + shape for _, shape in inputs]
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*sides, strict=True))


def _averaged(shape: Sequence[int], element: int) -> int:
    """The mean of half precision is summed up in full, of a copy."""
    return 4 * prod(shape) if element < 4 else 0


def _up(size: int, block: int = 16) -> int:
    """`size` in whole blocks."""
    return -(-size // block) * block


def _blocked(shape: Sequence[int], *dims: int, element: int, block: int = 16) -> int:
    """Bytes of a tensor whose `dims` are whole blocks, as many as a vector holds."""
    return element * prod(_up(size, block) if dim in dims else size for dim, size in enumerate(shape))


def _convolution(image: Sequence[int], weights: Sequence[int], made: Sequence[int], element: int) -> int:
    """All three in blocks of channels, then the result as it is asked for; few channels are read as they are."""
    few = image[1] < _FEW_CHANNELS
    read = 0 if few else _blocked(image, 1, element=element)
    read += _blocked(weights, 0, element=element) if few else _blocked(weights, 0, 1, element=element)
    return _blocked(made, 1, element=element) + max(read - element * prod(made), 0)


def _gradients(
    gradient: Sequence[int], image: Sequence[int], weights: Sequence[int], *, images: bool, element: int, stride: int
) -> int:
    """First the image's gradient, if it is asked for, then that of the weights, whose blocks are smaller for few."""
    made = element * prod(image) if images else 0
    if element < 4:
        weighed = made + _half_weights(gradient, image, weights, element, stride)
    else:
        block = 8 if image[1] < _FEW_CHANNELS else 16
        weighed = made + sum(_blocked(shape, 1, element=element, block=block) for shape in (gradient, image))
        weighed += _blocked(weights, 0, 1, element=element, block=block)
    back = _blocked(image, 1, element=element)
    first = _blocked(gradient, 1, element=element) + _blocked(weights, 0, 1, element=element) + back
    return max(first if images else 0, back + made if images else 0, weighed) - made - element * prod(weights)


def _half_weights(
    gradient: Sequence[int], image: Sequence[int], weights: Sequence[int], element: int, stride: int
) -> int:
    """
    The gradient of weights of half precision: operands in blocks, sums in full precision, and one image of each side.

    The image is copied with its padding and the gradient as they are, rows of even lengths. Few channels are read as
    they are; where those made are no whole blocks either, every pixel's window is written out instead.
    """
    many, few = weights[:2]
    taps, (height, width), (rows, row) = prod(weights[2:]), image[2:], gradient[2:]
    if few < _FEW_CHANNELS and many % 16:
        return (
            element * (prod(weights) + few * taps * rows * row) + 4 * _COPIES * prod(weights) + _WINDOWS_WHATEVER_SIZES
        )
    transposed = _up(many) * rows * _up(row, 2)
    told = _blocked(gradient, 1, element=element)
    if few < _FEW_CHANNELS:
        sums = taps * _up(many) * few
    else:
        padded = width + 2 * (weights[-1] // 2)
        phase = _up(-(-padded // stride), 2) + (2 if stride > 1 else 0)
        transposed += _up(few) * height * stride * phase
        sums = taps * _up(many) * _up(few)
        told += _blocked(image, 1, element=element)
    return told + element * (sums + transposed) + 4 * sums + _WHATEVER_SIZES


_WHATEVER_SIZES, _WINDOWS_WHATEVER_SIZES = 8_580, 384
"""Bytes that either way takes of any convolution."""
_COPIES = 4


def _masked_rows(shape: Sequence[int], dim: int, nbytes: int) -> int:
    """A byte for each score and for each row of scores, that tell rows without any left, and an element of zero."""
    count = prod(shape)
    return count + count // shape[dim] + nbytes // count if count else 0


def _resampling(copied: int, made: Sequence[int], taps: int, *, vectorised: bool) -> int:
    """Small images are resampled with channels last, which copies both; large ones by tables of indices and weights."""
    height, width = made[-2:]
    if vectorised and height + width <= _SMALL_IMAGE:
        return copied
    return (height + width) * taps * (8 + 4)


def _transform(name: str, shape: Sequence[int], dims: Sequence[int]) -> int:
    """A copy of what is transformed where the other dimensions can't be seen as one; back to reals, one by one."""
    real = name == "_fft_r2c"
    size = prod(shape) * (4 if real else 8)
    places = {dim % len(shape) for dim in (dims[:-1] if name == "_fft_c2r" else dims)}
    if name == "_fft_c2r" and not places:
        return 0
    others = [place for place in range(len(shape)) if place not in places and shape[place] > 1]
    scattered = bool(others) and others[-1] - others[0] >= len(others)
    return size * (scattered + (name == "_fft_c2r"))


def _attention(query: Sequence[int], key: Sequence[int]) -> int:
    """One thread's scores, their maxima and sums, and results of a block of queries."""
    length, keys = query[-2], key[-2]
    block = next(block for least, block in _QUERY_BLOCKS if length >= least)
    return 4 * block * (min(_KEY_BLOCK, keys) + 2 + query[-1])


_FEW_CHANNELS = 16
_SMALL_IMAGE = 128
_TAPS = {
    "upsample_nearest2d": 1, "_upsample_nearest_exact2d": 1, "upsample_bilinear2d": 2, "upsample_bicubic2d": 4,
}  # fmt: skip
_QUERY_BLOCKS = ((768, 256), (192, 64), (0, 32))
_KEY_BLOCK = 512
_LOSSES = {
    "mse_loss": _Loss(kept=True, scratch=1), "smooth_l1_loss": _Loss(kept=True, scratch=1),
    "huber_loss": _Loss(kept=False, scratch=1), "soft_margin_loss": _Loss(kept=True, scratch=0),
    "binary_cross_entropy": _Loss(kept=True, scratch=0),
}  # fmt: skip
_NONE, _MEAN = 0, 1
