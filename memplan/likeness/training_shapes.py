"""What the kernels of a training step tell of it, by counts and shapes alone."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from math import prod

from memplan.likeness.kernel_kinds import KernelKind, KernelSteps
from memplan.models.architecture import ModelConfig

_STATISTICS = 8
"""Flash attention keeps maximum and sum of every row in blocks of so many float32 values."""
_PADDING = 1.02
"""Frameworks pad a vocabulary by less than this (Megatron: to 128 x ranks of tensor parallelism)."""
_LETTERS = {"attention": "F", "attention_grad": "B", "send_receive": "p"}


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Queries of the flash attention that ran most: sequences (`None`: packed into one), heads of the rank, tokens."""

    sequences: int | None
    heads: int
    tokens: int


@dataclass(frozen=True, slots=True)
class TrainingShapes:
    """
    Counts and shapes of one step of one rank.

    `forward` and `backward` are runs of attention and of its gradient; `layer_run` is how many attentions follow each
    other within one micro-batch on its way forward, `ahead` how many run before the first gradient. `embeddings` and
    `heads` are lookups of tokens and products that make logits; `norms` and `gates` (activation
    functions) those forward and their gradients. `keys_per_query` is elements of keys for one of queries, `updated` the
    elements that the optimiser updates, `experts` how many experts the rank holds.
    """

    attention: AttentionShape | None
    forward: int
    backward: int
    layer_run: int
    ahead: int
    embeddings: int
    heads: int
    norms: tuple[int, int]
    gates: tuple[int, int]
    norm_rows: int | None
    keys_per_query: float | None
    updated: int
    optimizer: str | None
    dtype: str | None
    experts: int | None


def training_shapes(model: ModelConfig, step: KernelSteps) -> TrainingShapes:
    """What the kernels of `step` tell of a step that trains `model`."""
    order = step.sequence(lambda kind: _LETTERS.get(kind.family, ""))
    families = Counter[str]()
    for kind, number in step.counted():
        families[kind.family] += number
    attention = _attention(step)
    return TrainingShapes(
        attention=attention,
        forward=families["attention"],
        backward=families["attention_grad"],
        layer_run=_layer_run(order),
        ahead=order.partition("B")[0].count("F"),
        embeddings=step.count(lambda kind: _looks_up_tokens(kind, model)),
        heads=step.count(lambda kind: makes_logits(kind, model)),
        norms=(families["norm"], families["norm_grad"]),
        gates=(families["gate"], families["gate_grad"]),
        norm_rows=norm_rows(model, step),
        keys_per_query=_keys_per_query(step),
        updated=_updated(step),
        optimizer=next((kind.type for kind, _ in step.counted() if kind.family == "optimizer"), None),
        dtype=product_dtype(step),
        experts=held_experts(step),
    )


def _layer_run(order: str) -> int:
    """The longest run of forward attentions with neither a gradient nor a transfer between stages among them."""
    return max((len(list(run)) for letter, run in itertools.groupby(order) if letter == "F"), default=0)


def _attention(step: KernelSteps) -> AttentionShape | None:
    for kind, _ in step.counted():
        if kind.family != "attention":
            continue
        for shape in kind.outputs:
            if len(shape) == 4 and shape[-1] == _STATISTICS:
                return AttentionShape(shape[0], shape[1], shape[2])
            if len(shape) == 3 and shape[-1] == _STATISTICS:
                return AttentionShape(None, shape[1], shape[0])
    return None


def _keys_per_query(step: KernelSteps) -> float | None:
    for kind, _ in step.counted():
        if kind.family == "attention" and len(kind.inputs) > 1 and all(kind.inputs[:2]):
            return prod(kind.inputs[1]) / prod(kind.inputs[0])
    return None


def _looks_up_tokens(kind: KernelKind, model: ModelConfig) -> bool:
    """Whether rows of the embedding are read: of a table as wide as the model, longer than what comes out of it."""
    if kind.family != "gather" or not kind.inputs or not kind.outputs:
        return False
    tables = [shape for shape in kind.inputs if len(shape) == 2 and shape[1] == model.hidden_size]
    return any(_divides_vocabulary(table[0], model) for table in tables) and kind.outputs[0][-1:] == (
        model.hidden_size,
    )


def makes_logits(kind: KernelKind, model: ModelConfig) -> bool:
    """Whether `kind` is the product of the head on its way forward."""
    found = kind.product
    if found is None or found[2] != model.hidden_size or not _divides_vocabulary(found[1], model):
        return False
    return found[1] not in (model.hidden_size,)


def _divides_vocabulary(rows: int, model: ModelConfig) -> bool:
    """Whether `rows` are a rank's share of the vocabulary, padded."""
    parts = max(1, round(model.vocab_size / rows)) if rows else 0
    return (
        bool(parts)
        and parts & (parts - 1) == 0
        and model.vocab_size <= rows * parts <= (model.vocab_size * _PADDING + 128 * parts)
    )


def norm_rows(model: ModelConfig, step: KernelSteps) -> int | None:
    """Rows that most norms as wide as the model have."""
    rows = Counter[int]()
    for kind, number in step.counted():
        if "norm" in kind.families and kind.inputs and kind.inputs[0][-1:] == (model.hidden_size,):
            rows[prod(kind.inputs[0][:-1])] += number
        elif "norm" in kind.families:
            for shape in kind.outputs[:1]:
                if shape[-1:] == (model.hidden_size,):
                    rows[prod(shape[:-1])] += number
    return max(rows, key=lambda row: (rows[row], row), default=None)


def _updated(step: KernelSteps) -> int:
    """Elements that the optimiser updates; one kernel may update many weights, four lists of operands each."""
    total = 0
    for kind, number in step.counted():
        if kind.family == "optimizer" and kind.inputs:
            sizes = [prod(shape) for shape in kind.inputs if shape]
            total += number * (sizes[0] if len(sizes) <= 6 else sum(sizes) // 4) if sizes else 0
    return total


def product_dtype(step: KernelSteps) -> str | None:
    """The dtype that most matrix products read, as the profiler prints it."""
    types = Counter[str]()
    for kind, number in step.counted():
        if kind.product is not None and kind.dtypes:
            types[kind.dtypes[0]] += number
    return max(types, key=lambda name: types[name], default=None)


def held_experts(step: KernelSteps) -> int | None:
    """Experts whose weights grouped products of the rank read."""
    found = Counter[int]()
    for kind, number in step.counted():
        if kind.family == "grouped_product":
            for shape in kind.inputs:
                if len(shape) == 3:
                    found[shape[0]] += number
    return max(found, key=lambda count: found[count], default=None)
