"""Public kernel times beside those of the shared data: products, grouped and not, gates, sorted rows and norms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.cost import Kernel, KernelCost, L2State, Machine, Operand, kernel_cost, machine
from memplan.cost.l2 import held_share
from memplan.hardware import chip

PUBLIC = Path(__file__).with_name("public_kernels.json")


def public_kernels() -> Iterator[tuple[Mapping[str, Any], Kernel]]:
    """Every row of `public_kernels.json` with the kernel that it is of."""
    for row in json.loads(PUBLIC.read_text("utf-8"))["kernels"]:
        yield row, _kernel(row)


def public_kernel_rows() -> Iterator[MeasuredRow]:
    """Every row of `public_kernels.json`."""
    for row, kernel in public_kernels():
        cost = public_cost(row, kernel, machine(chip(row["chip"])))
        shape = "x".join(str(size) for size in row["shape"])
        yield MeasuredRow(
            _kind(row), row["source"], row["chip"], f"{row['type']} {row['dtype']} {shape}", "us", row["us"],
            cost.duration_ns / 1e3, is_source=row.get("is_source", False),
        )  # fmt: skip


def public_cost(row: Mapping[str, Any], kernel: Kernel, core: Machine) -> KernelCost:
    """Cost of `row`'s `kernel`, which meets operands in L2 where its source ran it `again` and again on the same."""
    return cost_run_again(kernel, core) if row.get("again") else kernel_cost(kernel, core)


def cost_run_again(kernel: Kernel, core: Machine) -> KernelCost:
    """Cost of `kernel` where it runs again and again on the same operands, as much of which L2 holds as it can."""
    return kernel_cost(kernel, core, L2State(held_share(sum(each.nbytes for each in kernel.operands), core.l2)))


def _kind(row: Mapping[str, Any]) -> str:
    """What the accuracy of a row is summed up with: a later set is apart, and in it what launching may decide."""
    if "seen" in row:
        return f"public kernels, set of {row['seen']}{', doubtful' if 'doubtful' in row else ''}"
    return "public kernels, blind" if row.get("blind") else "public kernels"


def _kernel(row: Mapping[str, Any]) -> Kernel:
    shape, dtype = tuple(row["shape"]), row["dtype"]
    if row["type"] in ("MatMul", "QuantMatmul"):
        return _product(row)
    if row["type"] in ("FusedInferAttentionScore", "PagedAttention"):
        names = ("batch", "heads", "kv_heads", "q_len", "kv_len", "d_qk")
        sizes = dict(zip(names, shape, strict=True))
        return _attention(row, sizes | {"d_v": sizes["d_qk"], "page": row.get("page", 0)})
    if row["type"] == "SparseFlashAttention":
        batch, heads, keys, picked = shape
        latent = {"d_qk": 576, "d_v": 512, "shared_kv": True, "top_k": picked, "page": row["page"]}
        return _attention(row, {"batch": batch, "heads": heads, "kv_heads": 1, "q_len": 1, "kv_len": keys} | latent)
    if row["type"] == "DynamicQuant":
        outputs = (Operand(shape, row["out"]), Operand(shape[:1], "float32"))
        return Kernel("DynamicQuant", (Operand(shape, dtype),), outputs)
    if row["type"] == "GroupedMatmul":
        experts, m, k, n = shape
        inputs = (Operand((m, k), dtype), Operand((experts, k, n), row.get("weights", dtype)))
        return Kernel("GroupedMatmul", inputs, (Operand((m, n), row.get("out", dtype)),))
    if row["type"] == "BatchMatMul":
        many, m, k, n = shape
        inputs = (Operand((many, m, k), dtype), Operand((many, k, n), dtype))
        return Kernel("BatchMatMul", inputs, (Operand((many, m, n), dtype),))
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
    same = Operand(shape, dtype)
    if row["type"] == "AddRmsNorm":
        normed = (same, Operand((shape[0], 1), "float32"), same)
        return Kernel("AddRmsNorm", (same, same, Operand(shape[1:], dtype)), normed)
    if row["type"] in ("Mul", "SoftmaxV2"):
        return Kernel(row["type"], (same, same) if row["type"] == "Mul" else (same,), (same,))
    assert row["type"] == "SwiGlu", row["type"]
    half = (*shape[:-1], shape[-1] // 2)
    return Kernel("SwiGlu", (Operand(shape, dtype),), (Operand(half, dtype),))


def _product(row: Mapping[str, Any]) -> Kernel:
    """A product; the other factor lies transposed where the row says so, and 8-bit integers have factors of scale."""
    (m, k, n), dtype, transposed = row["shape"], row["dtype"], row.get("transposed", False)
    other = Operand((n, k) if transposed else (k, n), dtype)
    scales = (Operand((n,), "float32"), None, Operand((m,), "float32")) if row["type"] == "QuantMatmul" else ()
    attributes = (("transpose_b", True),) if transposed else ()
    result = Operand((m, n), row.get("out", dtype))
    return Kernel(row["type"], (Operand((m, k), dtype), other, *scales), (result,), attributes)


def _attention(row: Mapping[str, Any], sizes: Mapping[str, int]) -> Kernel:
    """Attention told by its sizes, each query of which sees every key."""
    query, keys = (
        Operand((sizes["batch"], sizes[heads], sizes[length], sizes["d_qk"]), row["dtype"])
        for heads, length in (("heads", "q_len"), ("kv_heads", "kv_len"))
    )
    attributes = tuple(sorted({**sizes, "causal": False}.items()))
    return Kernel(row["type"], (query, keys, keys), (query,), attributes)
