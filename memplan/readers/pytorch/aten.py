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
) -> int:
    """
    Bytes of scratch that PyTorch's CPU build takes from its allocator while it runs ATen op `name`.

    oneDNN reorders what a convolution of more than a pixel reads or writes into blocks of channels, and a loss that is
    averaged is made whole first; a gradient that is part of a larger tensor is copied before. Read off single ops
    (PyTorch 2.13, AVX-512; 9 convolutions), on 7 others exact forward and within 500 bytes on the way back; not exact
    with strided gradients. Resampling, Fourier transforms and attention follow their kernels (aten/src/ATen/native:
    cpu/UpSampleKernel.cpp, mkl/SpectralOps.cpp, cpu/FlashAttentionKernel.cpp, transformers/attention.cpp where that
    can't be used), exact on 48 single ops. `inputs` are (storage, shape), `stored` the bytes of those storages,
    `outputs` bytes and `made` shapes of results; an element has four bytes.
    """
    sizes = [4 * prod(shape) for _, shape in inputs]
    if name in _LOSSES and sizes:
        return 2 * sizes[0]
    plain = attrs.get("groups", 1) == 1 and not attrs.get("transposed")
    if name == "convolution" and len(inputs) > 1 and prod(inputs[1][1][2:]) > 1:
        if plain and made:
            return _convolution(inputs[0][1], inputs[1][1], made[0])
        return 2 * outputs[0] if attrs.get("transposed") else max(sizes[0] + sizes[1], outputs[0])
    if name == "convolution_backward" and len(inputs) > 2 and prod(inputs[2][1][2:]) > 1:
        copied = sizes[0] if stored and stored[0] > sizes[0] else 0
        if plain:
            wanted = attrs.get("output_mask")
            images = not isinstance(wanted, tuple) or bool(wanted[0])
            return copied + _gradients(*(shape for _, shape in inputs[:3]), images=images)
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


def _blocked(shape: Sequence[int], *dims: int, block: int = 16) -> int:
    """Bytes of a tensor whose `dims` are whole blocks, as many as a vector holds."""
    return 4 * prod(-(-size // block) * block if dim in dims else size for dim, size in enumerate(shape))


def _convolution(image: Sequence[int], weights: Sequence[int], made: Sequence[int]) -> int:
    """All three in blocks of channels, then the result as it is asked for; few channels are read as they are."""
    few = image[1] < _FEW_CHANNELS
    reordered = (0 if few else _blocked(image, 1)) + (_blocked(weights, 0) if few else _blocked(weights, 0, 1))
    result = 4 * prod(made)
    return _blocked(made, 1) + max(reordered - result, 0)


def _gradients(gradient: Sequence[int], image: Sequence[int], weights: Sequence[int], *, images: bool) -> int:
    """First the image's gradient, if it is asked for, then that of the weights, whose blocks are smaller for few."""
    block = 8 if image[1] < _FEW_CHANNELS else 16
    made = 4 * prod(image) if images else 0
    weighed = made + sum(_blocked(shape, 1, block=block) for shape in (gradient, image))
    weighed += _blocked(weights, 0, 1, block=block)
    back = _blocked(image, 1)
    first = max(_blocked(gradient, 1) + _blocked(weights, 0, 1) + back, back + made) if images else 0
    return max(first, weighed) - made - 4 * prod(weights)


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
_LOSSES = frozenset({"mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"})
