"""How far a kernel's time may be from what the model says: intervals by class, from measurements of several sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memplan.core.resources import table
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.op_classes import CONVOLUTIONS, op_class
from memplan.cost.limits import KernelCost
from memplan.cost.machine import Machine

_CLASSES = {
    **dict.fromkeys(CONVOLUTIONS, "convolutions"),
    "matmul": "products", "grouped_matmul": "products", "einsum": "products", "recurrent": "products",
    "chunk_products": "products",
    "attention": "attention", "attention_gradient": "attention", "rows": "norms", "reduction": "reductions",
    "optimizer": "optimisers", "fill": "copies", "slice": "rearrangements", "transpose": "rearrangements",
    "gather": "rearrangements",
}  # fmt: skip
UNKNOWN_CLASS, SHORT_CLASS = "unknown", "short"
ATTENTION_CLASS, SERVED_ATTENTION_CLASS = "attention", "attention of serving"
PRODUCT_CLASS, FLOAT32_PRODUCT_CLASS = "products", "float32 products"
WHOLE_PRODUCT_CLASS, VECTOR_PRODUCT_CLASS = "products of whole numbers", "products with a vector"
"""
Classes; `unknown` is of kernels whose type or operands the model doesn't know, or knows in part, without an interval.

Operators of inference are other kernels than those of training. Libraries have kernels of their own for products of
whole numbers, most of which have scales, and for those with one column, which are read by rows.
"""
_SERVED_RULES = "served_attention", "indexer"
_WITHOUT = ("picked_attention",)
"""
Rules without an interval, beside those that leave something out: of attention of picked keys one kernel was measured,
and takes nine times as long.
"""
_WHOLE = "int", "uint"
BASE_GENERATION = "2201"
"""The generation whose classes are those of others that lack them."""


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """
    Nanoseconds between which `share` of the kernels of class `class_name` lie that the model gives the same time.

    It rests on `kernels`, different ones, of `sources`: publications, profiles and operators of a benchmark. It is
    `widened` for a generation of chips that has no intervals of its own.
    """

    low_ns: int
    high_ns: int
    share: float
    class_name: str
    kernels: int
    sources: int
    widened: bool


def interval_class(kernel: Kernel, cost: KernelCost) -> str:
    """
    The class that a kernel's errors are summed up in: what it does, and apart those that are over at once.

    Attention of serving is not over at once where the model says so: over few keys it takes far longer.
    """
    rule = op_class(kernel.type)
    if not cost.known or rule.assumed or rule.rule in _WITHOUT:
        return UNKNOWN_CLASS
    kind = _CLASSES.get(rule.kind)
    if kind == ATTENTION_CLASS and rule.rule in _SERVED_RULES:
        return SERVED_ATTENTION_CLASS
    if cost.duration_ns < _document()["short_ns"]["value"]:
        return SHORT_CLASS
    if kind == PRODUCT_CLASS:
        columns = kernel.outputs[0].shape[-1:] if kernel.outputs else ()
        return product_class([operand.dtype for operand in kernel.present[:2]], *columns)
    return kind or ("copies" if rule.rule == "copy" else "elementwise")


def product_class(dtypes: Sequence[str], columns: int | None = None) -> str:
    """The class of a product of factors of `dtypes` that has so many columns, `None` where that is not told."""
    if columns == 1:
        return VECTOR_PRODUCT_CLASS
    if "float32" in dtypes:
        return FLOAT32_PRODUCT_CLASS
    return WHOLE_PRODUCT_CLASS if any(dtype.startswith(_WHOLE) for dtype in dtypes) else PRODUCT_CLASS


def time_interval(kernel: Kernel, cost: KernelCost, machine: Machine) -> TimeInterval | None:
    """The interval of `cost`, the time of `kernel` on `machine`; `None` for a kernel that the model doesn't know."""
    return class_interval(interval_class(kernel, cost), cost.duration_ns, machine)


def class_interval(name: str, duration_ns: int, machine: Machine) -> TimeInterval | None:
    """The interval of a predicted time of class `name` on `machine`, of a short kernel whatever it does."""
    document = _document()
    if duration_ns < document["short_ns"]["value"] and name not in (UNKNOWN_CLASS, SERVED_ATTENTION_CLASS):
        name = SHORT_CLASS
    generations = document["generations"]
    entry = generations.get(machine.npu_arch, {}).get(name) or generations[BASE_GENERATION].get(name)
    if entry is None:
        return None
    unmeasured = 1.0 if machine.npu_arch in generations else document["unmeasured_factor"]["value"]
    wider = float(document["wider"]["value"].get(machine.npu_arch, unmeasured))
    return TimeInterval(
        low_ns=round(duration_ns * entry["low"] / wider),
        high_ns=round(duration_ns * entry["high"] * wider),
        share=float(document["share"]["value"]),
        class_name=name,
        kernels=int(entry["kernels"]),
        sources=int(entry["sources"]),
        widened=wider > 1,
    )


def _document() -> Mapping[str, Any]:
    return table("memplan.cost", "intervals.json")
