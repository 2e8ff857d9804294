"""Public kernel times beside those of the shared data: products, grouped and not, gates, sorted rows and norms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.hardware import chip

PUBLIC = Path(__file__).with_name("public_kernels.json")


def public_kernels() -> Iterator[tuple[Mapping[str, Any], Kernel]]:
    """Every row of `public_kernels.json` with the kernel that it is of."""
    for row in json.loads(PUBLIC.read_text("utf-8"))["kernels"]:
        yield row, _kernel(row)


def public_kernel_rows() -> Iterator[MeasuredRow]:
    """Every row of `public_kernels.json`."""
    for row, kernel in public_kernels():
        cost = kernel_cost(kernel, machine(chip(row["chip"])))
        shape = "x".join(str(size) for size in row["shape"])
        yield MeasuredRow(
            "public kernels", row["source"], row["chip"], f"{row['type']} {row['dtype']} {shape}", "us",
            row["us"], cost.duration_ns / 1e3, is_source=row.get("is_source", False),
        )  # fmt: skip


def _kernel(row: Mapping[str, Any]) -> Kernel:
    shape, dtype = tuple(row["shape"]), row["dtype"]
    if row["type"] == "MatMul":
        m, k, n = shape
        return Kernel("MatMul", (Operand((m, k), dtype), Operand((k, n), dtype)), (Operand((m, n), dtype),))
    if row["type"] == "GroupedMatmul":
        experts, m, k, n = shape
        inputs = (Operand((m, k), dtype), Operand((experts, k, n), dtype))
        return Kernel("GroupedMatmul", inputs, (Operand((m, n), dtype),))
    if row["type"] == "TopKV2":
        rows, length, kept = shape
        outputs = (Operand((rows, kept), dtype), Operand((rows, kept), "int64"))
        return Kernel("TopKV2", (Operand((rows, length), dtype),), outputs)
    if row["type"] == "HcPost":
        tokens, streams, hidden = shape
        weights = (Operand((tokens, streams), "float32"), Operand((tokens, streams, streams), "float32"))
        wide = Operand(shape, dtype)
        return Kernel("HcPost", (Operand((tokens, hidden), dtype), wide, *weights), (wide,))
    if row["type"] == "GemmaRmsNorm":
        rows, hidden = shape
        inputs = (Operand(shape, dtype), Operand((hidden,), dtype))
        return Kernel("GemmaRmsNorm", inputs, (Operand(shape, dtype), Operand((rows, 1), "float32")))
    assert row["type"] == "SwiGlu", row["type"]
    half = (*shape[:-1], shape[-1] // 2)
    return Kernel("SwiGlu", (Operand(shape, dtype),), (Operand(half, dtype),))
