"""How far a kernel's time may be from what the model says: intervals by class, from measurements of several sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memplan.core.resources import table
from memplan.cost.kernel import Kernel, op_class
from memplan.cost.kernel_time import KernelCost
from memplan.cost.machine import Machine

_CLASSES = {
    "matmul": "products", "grouped_matmul": "products", "convolution": "convolutions",
    "convolution_input_gradient": "convolutions", "convolution_filter_gradient": "convolutions",
    "transposed_convolution": "convolutions", "einsum": "products", "recurrent": "products",
    "chunk_products": "products",
    "attention": "attention", "attention_gradient": "attention", "rows": "norms", "reduction": "reductions",
    "optimizer": "optimisers", "fill": "copies", "slice": "rearrangements", "transpose": "rearrangements",
    "gather": "rearrangements",
}  # fmt: skip


UNKNOWN_CLASS, SHORT_CLASS, ATTENTION_CLASS = "unknown", "short", "attention"
PRODUCT_CLASS, FLOAT32_PRODUCT_CLASS = "products", "float32 products"
"""Classes; `unknown` is of kernels whose type or operands the model doesn't know, and has no interval."""


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """
    Nanoseconds between which `share` of the kernels of class `class_name` lie that the model gives the same time.

    It rests on `kernels` of `sources` publications and profiles. It is `widened` for a generation of chips, or a type
    of kernels, of which none or few were measured.
    """

    low_ns: int
    high_ns: int
    share: float
    class_name: str
    kernels: int
    sources: int
    widened: bool


def interval_class(kernel: Kernel, cost: KernelCost) -> str:
    """The class that a kernel's errors are summed up in: what it does, and apart those that are over at once."""
    if not cost.known or op_class(kernel.type).rule == "unknown":
        return UNKNOWN_CLASS
    if cost.duration_ns < _document()["short_ns"]["value"]:
        return SHORT_CLASS
    kind = _CLASSES.get(op_class(kernel.type).kind)
    if kind == PRODUCT_CLASS and any(operand.dtype == "float32" for operand in kernel.present[:2]):
        return FLOAT32_PRODUCT_CLASS
    return kind or ("copies" if op_class(kernel.type).rule == "copy" else "elementwise")


def time_interval(kernel: Kernel, cost: KernelCost, machine: Machine) -> TimeInterval | None:
    """The interval of `cost`, the time of `kernel` on `machine`; `None` for a kernel that the model doesn't know."""
    return class_interval(interval_class(kernel, cost), cost.duration_ns, machine, kernel.type)


def class_interval(name: str, duration_ns: int, machine: Machine, kernel_type: str = "") -> TimeInterval | None:
    """
    The interval of a predicted time of class `name` on `machine`, of a short kernel whatever it does; of a kernel of
    `kernel_type` where that is told.
    """
    document = _document()
    short = duration_ns < document["short_ns"]["value"] and name != UNKNOWN_CLASS
    entry = document["classes"].get(SHORT_CLASS if short else name)
    if entry is None:
        return None
    measured = machine.npu_arch in document["measured_generations"]["value"]
    seldom = document["seldom_measured_factors"]["value"].get(machine.npu_arch, document["unmeasured_factor"]["value"])
    wider = 1.0 if measured else float(seldom)
    if kernel_type and kernel_type not in document["measured_types"]["value"]:
        wider, measured = wider * float(document["unmeasured_type_factor"]["value"]), False
    return TimeInterval(
        low_ns=round(duration_ns * entry["low"] / wider),
        high_ns=round(duration_ns * entry["high"] * wider),
        share=float(document["share"]["value"]),
        class_name=SHORT_CLASS if short else name,
        kernels=int(entry["kernels"]),
        sources=int(entry["sources"]),
        widened=not measured,
    )


def _document() -> Mapping[str, Any]:
    return table("memplan.cost", "intervals.json")
