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

    oneDNN reorders what a convolution of more than a pixel reads or writes, and a loss that is averaged is made whole
    first; a gradient that is part of a larger tensor is copied before. Fitted on single ops (PyTorch 2.13, AVX-512; 11
    convolutions), exact there but for 3 and 8 channels and strided gradients. Resampling, Fourier transforms and
    attention follow their kernels (aten/src/ATen/native: cpu/UpSampleKernel.cpp, mkl/SpectralOps.cpp,
    cpu/FlashAttentionKernel.cpp), exact on 40 single ops. `inputs` are (storage, shape), `stored` the bytes of those
    storages, `outputs` bytes and `made` shapes of results; an element has four bytes.
    """
    sizes = [4 * prod(shape) for _, shape in inputs]
    if name in _LOSSES and sizes:
        return 2 * sizes[0]
    if name == "convolution" and len(inputs) > 1 and prod(inputs[1][1][2:]) > 1:
        return 2 * outputs[0] if attrs.get("transposed") else max(sizes[0] + sizes[1], outputs[0])
    if name == "convolution_backward" and len(inputs) > 2 and prod(inputs[2][1][2:]) > 1:
        copied = sizes[0] if stored and stored[0] > sizes[0] else 0
        return sizes[0] + sizes[1] + copied
    if name in _TAPS and made:
        return _resampling(sizes[0] + outputs[0], made[0], _TAPS[name], vectorised=name != "upsample_bicubic2d")
    if name in ("_fft_r2c", "_fft_c2c", "_fft_c2r") and isinstance(dims := attrs.get("dim"), tuple):
        return _transform(name, inputs[0][1], dims)
    if name == "_scaled_dot_product_flash_attention_for_cpu":
        return threads * _attention(inputs[0][1], inputs[1][1])
    return 0


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


_SMALL_IMAGE = 128
_TAPS = {
    "upsample_nearest2d": 1, "_upsample_nearest_exact2d": 1, "upsample_bilinear2d": 2, "upsample_bicubic2d": 4,
}  # fmt: skip
_QUERY_BLOCKS = ((768, 256), (192, 64), (0, 32))
_KEY_BLOCK = 512
_LOSSES = frozenset({"mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"})
