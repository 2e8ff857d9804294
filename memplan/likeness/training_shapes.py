"""What the kernels of a training step tell of it, by counts and shapes alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

from memplan.likeness import layer_passes as letters
from memplan.likeness.kernel_kinds import KernelKind, KernelSteps
from memplan.likeness.layer_passes import LayerPasses, layer_passes
from memplan.models.architecture import ModelConfig

_STATISTICS = 8
"""Flash attention keeps maximum and sum of every row in blocks of so many float32 values."""
_PADDING = 1.02
"""Frameworks pad a vocabulary by less than this (Megatron: to 128 x ranks of tensor parallelism)."""
_LETTERS = {
    "attention": letters.FORWARD, "attention_grad": letters.BACKWARD, "send_receive": letters.PIPE_TRANSFER,
    "norm": letters.NORM, "norm_grad": letters.NORM_BACK, "gate": letters.GATE, "gate_grad": letters.GATE_BACK,
}  # fmt: skip


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

    `forward` and `backward` are runs of attention and of its gradient, `norms` and `gates` (activation functions)
    those forward and their gradients; of a step that was cut they are those of one way back, as if all of it had gone
    forward once. `embeddings` and `heads` are lookups of tokens and products that make logits, or gradients of them
    where those are more. `keys_per_query` is elements of keys for one of queries, `updated` the elements that the
    optimiser updates, `experts` how many experts the rank holds. `shaped` is whether kernels have shapes at all.
    """

    shaped: bool
    attention: AttentionShape | None
    forward: int
    backward: int
    passes: LayerPasses | None
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
    attention = _attention(step)
    ranks = None if attention is None else tensor_ranks(model, attention)
    passes = layer_passes(step.sequence(lambda kind: _letter(kind, model, ranks)))
    families = Counter[str]()
    for kind, number in step.counted():
        families[kind.family] += number
    forward, backward, norms, gates = (
        families["attention"],
        families["attention_grad"],
        (families["norm"], families["norm_grad"]),
        (families["gate"], families["gate_grad"]),
    )
    if passes is not None and passes.cut:
        seen = Counter(passes.back)
        backward, norms, gates = (
            seen[letters.BACKWARD],
            (seen[letters.NORM] + seen[letters.NORM_BACK], seen[letters.NORM_BACK]),
            (seen[letters.GATE] + seen[letters.GATE_BACK], seen[letters.GATE_BACK]),
        )
        forward = backward + seen[letters.FORWARD]
    return TrainingShapes(
        shaped=step.shaped,
        attention=attention,
        forward=forward,
        backward=backward,
        passes=passes,
        embeddings=max(
            step.count(lambda kind: _looks_up_tokens(kind, model, ranks)),
            step.count(lambda kind: _takes_token_gradients(kind, model, ranks)),
        ),
        heads=max(
            step.count(lambda kind: makes_logits(kind, model, ranks)),
            step.count(lambda kind: _takes_logit_gradients(kind, model, ranks)),
        ),
        norms=norms,
        gates=gates,
        norm_rows=norm_rows(model, step),
        keys_per_query=_keys_per_query(step),
        updated=_updated(step),
        optimizer=next((kind.type for kind, _ in step.counted() if kind.family == "optimizer"), None),
        dtype=product_dtype(step),
        experts=held_experts(step),
    )


def tensor_ranks(model: ModelConfig, attention: AttentionShape) -> int | None:
    """Tensor-parallel ranks that leave each so many heads; `None` where the model has other heads."""
    heads = next((found for layer in model.layers if (found := getattr(layer.mixer, "heads", None))), None)
    return None if heads is None or heads % attention.heads else int(heads // attention.heads)


def _letter(kind: KernelKind, model: ModelConfig, ranks: int | None) -> str:
    """What a kernel says of the way of micro-batches through the layers; empty for most."""
    if kind.family in _LETTERS:
        return _LETTERS[kind.family]
    for test, letter in (
        (_looks_up_tokens, letters.LOOKUP),
        (_takes_token_gradients, letters.LOOKUP_BACK),
        (makes_logits, letters.HEAD),
        (_takes_logit_gradients, letters.HEAD_BACK),
    ):
        if test(kind, model, ranks):
            return letter
    return ""


def _attention(step: KernelSteps) -> AttentionShape | None:
    """Read off the statistics that attention keeps, or that its gradient takes."""
    for family in ("attention", "attention_grad"):
        for kind, _ in step.counted():
            if kind.family != family:
                continue
            for shape in kind.outputs if family == "attention" else kind.inputs:
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


def _looks_up_tokens(kind: KernelKind, model: ModelConfig, ranks: int | None) -> bool:
    """Whether rows of the embedding are read: of a table as wide as the model, longer than what comes out of it."""
    if kind.family != "gather" or not kind.inputs or not kind.outputs:
        return False
    tables = [shape for shape in kind.inputs if len(shape) == 2 and shape[1] == model.hidden_size]
    return any(_divides_vocabulary(table[0], model, ranks) for table in tables) and kind.outputs[0][-1:] == (
        model.hidden_size,
    )


def _takes_token_gradients(kind: KernelKind, model: ModelConfig, ranks: int | None) -> bool:
    """Whether gradients of tokens are added up in a table as long as the embedding."""
    if kind.family != "embedding_grad":
        return False
    if not kind.inputs:  # recorded without shapes: its name tells it
        return "embedding" in kind.type.lower()
    if not kind.outputs or len(kind.outputs[0]) != 2:
        return False
    rows, width = kind.outputs[0]
    return width == model.hidden_size and _divides_vocabulary(rows, model, ranks)


def _takes_logit_gradients(kind: KernelKind, model: ModelConfig, ranks: int | None) -> bool:
    """Whether `kind` is the product that takes gradients of logits back to the last layer."""
    found = kind.product
    return found is not None and found[1] == model.hidden_size and _divides_vocabulary(found[2], model, ranks)


def makes_logits(kind: KernelKind, model: ModelConfig, ranks: int | None = None) -> bool:
    """Whether `kind` is the product of the head on its way forward, on one of `ranks` where that is known."""
    found = kind.product
    if found is None or found[2] != model.hidden_size or not _divides_vocabulary(found[1], model, ranks):
        return False
    return found[1] not in (model.hidden_size,)


def _divides_vocabulary(rows: int, model: ModelConfig, ranks: int | None) -> bool:
    """Whether `rows` are the vocabulary or a share of it, padded: that of one of `ranks` where they are known."""
    parts = max(1, round(model.vocab_size / rows)) if rows else 0
    return (
        parts in (1, ranks) if ranks is not None else bool(parts) and parts & (parts - 1) == 0
    ) and model.vocab_size <= rows * parts <= (model.vocab_size * _PADDING + 128 * parts)


def head_columns(model: ModelConfig, step: KernelSteps) -> frozenset[int]:
    """
    Columns of the products of `step` that make logits.

    Of several that may be shares of a padded vocabulary, as a layer's product may seem, those that pad it least.
    """
    columns = {kind.product[1] for kind, _ in step.counted() if kind.product is not None and makes_logits(kind, model)}
    padding = {each: abs(each * round(model.vocab_size / each) - model.vocab_size) for each in columns}
    return frozenset(each for each, more in padding.items() if more == min(padding.values()))


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
                if len(shape) == 3 and shape[1] > 1:  # rows with an axis of one between are tokens
                    found[shape[0]] += number
    return max(found, key=lambda count: found[count], default=None)
