"""
One roofline time per op: the slowest of its cube work, its vector work and its traffic to HBM.

The time is what the data sheet allows at best; no tiling, no L2 reuse and no efficiency is modelled. The cost model is
measured against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import prod

from memplan.core.resources import table as _json
from memplan.cost.opcost import OpCost
from memplan.cost.rates import Rates
from memplan.graph import Graph, Op, Tensor


@cache
def _classes() -> Mapping[str, str]:
    table = _json("memplan.cost", "ops.json")
    return {name: kind for kind, names in table.items() if isinstance(names, list) for name in names}


def roofline(op: Op, graph: Graph, rates: Rates) -> OpCost:
    """
    Roofline time of `op`; ops that launch no kernel cost nothing.

    Cube work uses the rate of the first operand's dtype and runs on the vector units where the cube lacks it.
    """
    if not op.launches:
        return OpCost(duration_ns=0, bound="none", flops=0, gm_bytes=0)
    tensors = graph.tensors
    inputs = [tensors[i] for i in op.inputs]
    outputs = [tensors[i] for i in op.outputs]
    read = {t.storage: t.nbytes for t in inputs}
    written = {t.storage: t.nbytes for t in outputs}
    gm_bytes = sum(read.values()) + sum(written.values())
    flops = _cube_flops(_classes().get(op.type, ""), op, inputs, outputs)
    if flops is not None:
        rate = rates.cube_flops.get(inputs[0].dtype)
        unit, per_second = ("cube", rate) if rate is not None else ("vector", rates.vector_flops)
    else:
        # One operation per element of the largest operand: what an elementwise op or a reduction does.
        flops = max((prod(t.shape) for t in (*inputs, *outputs)), default=0)
        unit, per_second = "vector", rates.vector_flops
    times = {
        unit: flops / per_second,
        "hbm": gm_bytes / rates.hbm_bytes_per_second,
        "launch": rates.kernel_floor_ns * 1e-9,
    }
    bound = max(times, key=lambda name: times[name])
    return OpCost(duration_ns=round(times[bound] * 1e9), bound=bound, flops=flops, gm_bytes=gm_bytes)


def _cube_flops(kind: str, op: Op, inputs: list[Tensor], outputs: list[Tensor]) -> int | None:
    """FLOPs of a cube op by its definition, `None` for ops of other kinds or operands that don't fit it."""
    if len(inputs) < 2 or not outputs:
        return None
    first, second, result = inputs[0].shape, inputs[1].shape, outputs[0].shape
    if kind == "matmul" and len(first) >= 2:
        return 2 * prod(result) * (first[-2] if op.attrs.get("transpose_a") else first[-1])
    if kind == "convolution" and len(second) >= 3:
        return 2 * (prod(result) // max(second[0], 1)) * prod(second)
    if kind == "convolution_input_gradient" and len(second) >= 3:
        return 2 * (prod(first) // max(second[0], 1)) * prod(second)
    if kind == "convolution_filter_gradient" and len(result) >= 3:
        return 2 * (prod(first) // max(result[0], 1)) * prod(result)
    if kind == "attention" and len(first) >= 3:
        return _attention_flops(op, first, second)
    return None


def _attention_flops(op: Op, query: tuple[int, ...], key: tuple[int, ...]) -> int | None:
    """Two matmuls of every query with every key, 4·B·N·Sq·Sk·D; `None` for an unknown layout."""
    layout = op.attrs.get("input_layout", "BNSD" if len(query) == 4 else None)
    if layout == "BNSD":
        return 4 * prod(query) * key[-2]
    if layout in ("BSH", "BSND"):
        return 4 * prod(query) * key[1]
    if layout == "SBH":
        return 4 * prod(query) * key[0]
    return None
