"""What the layers of a model would run in a division among ranks: the products to recognise it by, its attention."""

from __future__ import annotations

import functools
from dataclasses import replace

from memplan.align.classes.op_families import families_of, family_table
from memplan.cost import machine, op_costs
from memplan.graph import Graph
from memplan.hardware import Chip
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.precision import PUBLISHED
from memplan.models.steps import Phase, ServedStep, model_graph

_DTYPE_NAMES = {
    "bf16": "bfloat16", "float": "float32", "double": "float64", "half": "float16",
    "float8_e4m3fn": "float8_e4m3",
}  # fmt: skip
_SHORTEST = 128


def plain_dtype(name: str) -> str:
    """A dtype as plans call it, of what a profiler prints: `DT_BF16` is `bfloat16`."""
    plain = name.strip().strip('"').removeprefix("DT_").lower()
    return _DTYPE_NAMES.get(plain, plain)


def _short(model: ModelConfig) -> ModelConfig:
    """The model with one layer of each kind, those that read another layer's cache left out."""
    kinds = {
        (layer.mixer, layer.ffn, layer.norms, layer.lookup): layer
        for layer in model.layers
        if layer.mixer is None or layer.mixer.reads is None
    }
    return replace(model, layers=tuple(kinds.values()))


def _graph(
    model: ModelConfig, layout: Layout, batch: int, context: int, precision: str, phase: Phase = Phase.DECODE
) -> Graph:
    step = ServedStep(phase, batch, context, precision=precision)
    return model_graph(_short(model), None, layout, step)


@functools.lru_cache(maxsize=64)
def layer_products(model: ModelConfig, ranks: int, precision: str = PUBLISHED) -> frozenset[tuple[int, int, str]]:
    """
    Columns and depth of the products of a layer of each kind on one of `ranks` ranks, and what they read.

    Raises `InputError` where the model can't be divided so.
    """
    graph = _graph(model, Layout(tensor=ranks), 1, 64, precision)
    product = family_table().number("product")
    found = set()
    for op in graph.ops:
        if op.scope is None or op.scope.layer is None or product not in families_of(op.type):
            continue
        activation, weight = (graph.tensors[index] for index in op.inputs[:2])
        if len(weight.shape) == 2:
            found.add((weight.shape[0], weight.shape[1], activation.dtype))
    return frozenset(found)


@functools.lru_cache(maxsize=64)
def layer_weight_dtypes(model: ModelConfig, ranks: int, precision: str = PUBLISHED) -> frozenset[str]:
    """
    Types of the weights that products of layers read, experts' among them.

    Raises `InputError` where the model can't be divided so.
    """
    graph = _graph(model, Layout(tensor=ranks), 1, 64, precision)
    products = family_table().matrix_products
    layers = (op for op in graph.ops if op.scope is not None and op.scope.layer is not None)
    return frozenset(graph.tensors[op.inputs[1]].dtype for op in layers if products & set(families_of(op.type)))


def context_of(
    model: ModelConfig, layout: Layout, batch: int, precision: str, chip: Chip, attention_ns: float, phase: Phase
) -> int | None:
    """
    Tokens of a sequence for which attention of a step is predicted to take `attention_ns`.

    `None` where even a short context would take as long, or the longest one less: its time then tells nothing.
    """
    core = machine(chip)

    def time(context: int) -> float:
        graph = _graph(model, layout, batch, context, precision, phase)
        attention = family_table().number("attention")
        costs = op_costs(graph, core)
        return max(
            (cost.duration_ns for op, cost in zip(graph.ops, costs, strict=True) if attention in families_of(op.type)),
            default=0.0,
        )

    low, high = _SHORTEST, max(model.max_positions, 2 * _SHORTEST)
    if time(low) * 1.05 >= attention_ns or time(high) < attention_ns:
        return None
    while high > low * 1.02:
        middle = round((low * high) ** 0.5)
        low, high = (middle, high) if time(middle) < attention_ns else (low, middle)
    return high
