"""Stored sizes by layout: the published formulas on published examples."""

from __future__ import annotations

import pytest

from memplan.graph.layout import stored_bytes


@pytest.mark.parametrize(
    ("shape", "dtype", "layout", "expected"),
    [
        ((5, 7), "float16", "ND", 70),
        ((5, 7), "float16", "FRACTAL_NZ", 16 * 16 * 2),
        ((5, 7), "float32", "FRACTAL_NZ", 16 * 8 * 4),
        ((5, 7), "int8", "FRACTAL_NZ", 16 * 32),
        ((3, 17, 33), "float16", "FRACTAL_NZ", 3 * 32 * 48 * 2),
        ((16384, 7168), "int8", "FRACTAL_NZ", 224 * 1024 * 16 * 32),
        ((64,), "float16", "FRACTAL_NZ", 16 * 64 * 2),
        ((2, 3, 5, 7), "float16", "NC1HWC0", 2 * 16 * 5 * 7 * 2),
        ((2, 3, 4, 5, 7), "float16", "NDC1HWC0", 2 * 4 * 16 * 5 * 7 * 2),
        ((20, 3, 5, 7), "float16", "FRACTAL_Z", 16 * 5 * 7 * 32 * 2),
        ((), "float32", "DefaultFormat", 4),
    ],
)
def test_stored_bytes(shape: tuple[int, ...], dtype: str, layout: str, expected: int) -> None:
    assert stored_bytes(shape, dtype, layout) == expected


def test_unknown_layouts_have_no_known_size() -> None:
    assert stored_bytes((2, 3), "float16", "SOMETHING_NEW") is None
