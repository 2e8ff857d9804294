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
    width: int = 4,
) -> int:
    """
    Bytes of scratch that PyTorch's CPU build takes from its allocator while it runs ATen op `name`.

    oneDNN reorders what a convolution of more than a pixel reads or writes, and a loss that is averaged is made whole
    first; a gradient that is part of a larger tensor is copied before. Fitted on single ops (PyTorch 2.13, AVX-512; 11
    convolutions), exact there but for 3 and 8 channels and strided gradients. `inputs` are (storage, shape), `stored`
    the bytes of those storages, `outputs` bytes of results, `width` bytes an element.
    """
    sizes = [prod(shape) * width for _, shape in inputs]
    if name in _LOSSES and sizes:
        return 2 * sizes[0]
    if name == "convolution" and len(inputs) > 1 and prod(inputs[1][1][2:]) > 1:
        return 2 * outputs[0] if attrs.get("transposed") else max(sizes[0] + sizes[1], outputs[0])
    if name == "convolution_backward" and len(inputs) > 2 and prod(inputs[2][1][2:]) > 1:
        copied = sizes[0] if stored and stored[0] > sizes[0] else 0
        return sizes[0] + sizes[1] + copied
    return 0


_LOSSES = frozenset({"mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"})
