"""
Bytes of a tensor as stored in global memory, by its layout.

Fractal layouts pad the tensor to whole fractals of 512 bytes, 16 rows of 32 bytes. Sources: the data layout pages of
the Ascend C guide (asc-devkit, "数据排布格式"); FRACTAL_NZ is `ceil(M/16)·16 · ceil(N/N0)·N0 · size` with `N0 = 32 B /
size`. Allocator rounding comes on top and is the allocator's affair.
"""

from __future__ import annotations

from memplan.graph.model import DTYPE_BITS, dense_bytes

_ROW_BITS = 32 * 8
_ROWS = 16

DENSE = frozenset(
    {"ND", "NCHW", "NHWC", "HWCN", "NCDHW", "NDHWC", "DHWCN", "NCL", "NC", "N", "DefaultFormat", "FORMAT_ND"}
)  # fmt: skip
FRACTAL_MATRIX = frozenset({"FRACTAL_NZ", "FRACTAL_ZN_RNN", "FracNZ", "FracZ_NZ"})


def stored_bytes(shape: tuple[int, ...], dtype: str, layout: str = "ND") -> int | None:
    """
    Bytes of a tensor of logical `shape` stored in `layout`; `None` for a layout that memplan doesn't know.

    `shape` is the shape before padding: rows and columns last for FRACTAL_NZ, (N, C, H, W) for NC1HWC0 and FRACTAL_Z,
    (N, C, D, H, W) for NDC1HWC0. Raises `KeyError` for an unknown dtype.
    """
    if layout in DENSE:
        return dense_bytes(shape, dtype)
    columns = max(1, _ROW_BITS // DTYPE_BITS[dtype])
    if layout in FRACTAL_MATRIX:
        rows, width = (1, *shape)[-2:] if shape else (1, 1)
        return dense_bytes((*shape[:-2], _up(rows, _ROWS), _up(width, columns)), dtype)
    if layout == "NC1HWC0" and len(shape) == 4:
        batch, channels, height, width = shape
        return dense_bytes((batch, _up(channels, columns), height, width), dtype)
    if layout == "NDC1HWC0" and len(shape) == 5:
        batch, channels, depth, height, width = shape
        return dense_bytes((batch, depth, _up(channels, columns), height, width), dtype)
    if layout in ("FRACTAL_Z", "FracZ") and len(shape) == 4:
        batch, channels, height, width = shape
        return dense_bytes((_up(channels, columns), height, width, _up(batch, _ROWS)), dtype)
    return None


def _up(size: int, granule: int) -> int:
    return -(-size // granule) * granule
