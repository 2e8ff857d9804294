"""Parallel layouts: what of a model one rank holds."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.core.units import round_up
from memplan.models.architecture import ModelConfig
from memplan.models.drafts import draft_weights
from memplan.models.precision import PUBLISHED, Precision
from memplan.models.stored_weights import StoredPart, StoredWeights
from memplan.models.weight_shapes import Split, Weight, WeightGroup
from memplan.models.weights import weights

_VOCABULARY_STEP = 64
"""Engines pad the vocabulary to a multiple of this before they split it (vllm 0.23.0 DEFAULT_VOCAB_PADDING_SIZE)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """
    Ranks by dimension: tensor, pipeline, data, expert and context parallelism.

    `expert` ranks share the experts among them (`tensor x data` at most); 1 splits every expert by `tensor` instead.
    `expert_tensor` ranks split each expert; left open, none do where experts are shared (as engines have it).
    `context` ranks share the tokens of a sequence and hold the same weights. `stage_layers` says how many layers each
    pipeline stage has, `None` for those that share the rest evenly; empty where all do. With `whole_towers` every rank
    holds the whole vision tower, and pictures are divided among them.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1
    context: int = 1
    stage_layers: tuple[int | None, ...] = ()
    expert_tensor: int | None = None
    whole_towers: bool = False

    def __post_init__(self) -> None:
        if self.expert_tensor is not None and self.expert_tensor < 1:
            raise InputError("tensor parallelism of experts must be at least 1, found {}", self.expert_tensor)
        for name in ("tensor", "pipeline", "data", "expert", "context"):
            if getattr(self, name) < 1:
                raise InputError("{} parallelism must be at least 1, found {}", name, getattr(self, name))
        if self.stage_layers and len(self.stage_layers) != self.pipeline:
            raise InputError(
                "layers are given for {} pipeline stages, but there are {}", len(self.stage_layers), self.pipeline
            )
        if any(count is not None and count < 1 for count in self.stage_layers):
            raise InputError("every pipeline stage needs at least one layer")

    @property
    def ranks(self) -> int:
        """Dies the layout takes."""
        return self.tensor * self.pipeline * self.data * self.context

    @property
    def one_stage(self) -> Layout:
        """The ranks of one pipeline stage, with all layers given to them."""
        return replace(self, pipeline=1, stage_layers=())

    @property
    def expert_shards(self) -> int:
        """Ranks that split each expert."""
        if self.expert_tensor is not None:
            return self.expert_tensor
        return self.tensor if self.expert == 1 else 1

    @property
    def expert_ranks(self) -> int:
        """Ranks among which the experts are divided, whole ones and their parts."""
        return self.expert * self.expert_shards

    def __str__(self) -> str:
        parts = (
            ("TP", self.tensor),
            ("PP", self.pipeline),
            ("DP", self.data),
            ("EP", self.expert),
            ("ETP", self.expert_shards if self.expert > 1 else 1),
            ("CP", self.context),
        )
        text = " ".join(f"{name}{count}" for name, count in parts if count > 1) or "TP1"
        if self.stage_layers:
            text += f" ({'+'.join('?' if count is None else str(count) for count in self.stage_layers)} layers)"
        return text


ONE_RANK = Layout()
"""No parallelism."""


def training_layout(layout: Layout) -> Layout:
    """
    `layout` as training frameworks read it: experts are split by as many ranks as the rest unless it says otherwise
    (Megatron-LM, `--expert-tensor-parallel-size`).
    """
    return layout if layout.expert_tensor is not None else replace(layout, expert_tensor=layout.tensor)


def sharing_ranks(layout: Layout, instances: int = 1) -> tuple[int, int]:
    """
    Ranks that divide the states of weights they all have, in `instances` groups that do so for themselves: of experts,
    which fewer ranks repeat (world / (expert ranks x pipeline)), and of all else first.
    """
    layout = training_layout(layout)
    ranks = layout.data * layout.context
    return max(1, ranks // instances), max(1, ranks * layout.tensor // layout.expert_ranks // instances)


def stage_spans(layers: int, layout: Layout) -> tuple[range, ...]:
    """
    The layers of every pipeline stage of `layout`: as many as it says, the rest dealt evenly among the other stages.

    What is left over of the rest goes to the stages before the last of them (vLLM). Raises `InputError` where stages
    and layers don't go together.
    """
    given = layout.stage_layers or (None,) * layout.pipeline
    free = [stage for stage, count in enumerate(given) if count is None]
    rest = layers - sum(count or 0 for count in given)
    if rest < len(free) or (rest and not free):
        if not layout.stage_layers:
            raise InputError("{} [layer|layers] can't be divided among {} pipeline stages", layers, layout.pipeline)
        shown = ", ".join("?" if count is None else str(count) for count in given)
        raise InputError(
            "{} [layer|layers] can't be divided among {} pipeline stages of {}", layers, layout.pipeline, shown
        )
    counts = [count or 0 for count in given]
    for stage in free:
        counts[stage] = rest // len(free)
    for extra in range(rest % len(free) if free else 0):
        counts[free[len(free) - 2 - extra]] += 1
    starts = [sum(counts[:stage]) for stage in range(layout.pipeline)]
    return tuple(range(start, start + count) for start, count in zip(starts, counts, strict=True))


def rank_elements(weight: Weight, layout: Layout) -> int:
    """
    Elements of `weight` on one rank.

    Raises `InputError` where the layout does not divide it: engines refuse it too.
    """
    ranks = layout.tensor
    if weight.split is Split.EXPERT:
        own = -(-weight.copies // layout.expert) * (weight.elements // weight.copies)
        if weight.units % layout.expert_shards:
            shards = layout.expert_shards
            raise InputError(
                "{}: {} columns of an expert can't be divided among {} ranks", weight.name, weight.units, shards
            )
        return own // layout.expert_shards
    if weight.split is Split.NONE or ranks == 1:
        return weight.elements
    if weight.split is Split.TOWER:
        whole = layout.whole_towers or weight.units % ranks
        return weight.elements if whole else weight.elements // ranks
    if weight.split is Split.VOCABULARY:
        rows = round_up(round_up(weight.units, _VOCABULARY_STEP), ranks) // ranks
        return rows * (weight.elements // weight.units)
    if weight.split is Split.KV and weight.units < ranks:
        if ranks % weight.units:
            raise InputError(
                "{}: {} key/value heads can't be repeated evenly on {} ranks", weight.name, weight.units, ranks
            )
        return weight.elements // weight.units
    return _divided(weight, ranks, "heads" if weight.split is not Split.WIDTH else "columns")


def _divided(weight: Weight, ranks: int, what: str) -> int:
    if weight.units % ranks:
        raise InputError("{}: {} {} can't be divided among {} ranks", weight.name, weight.units, Sentence(what), ranks)
    return weight.elements // ranks


@functools.lru_cache(maxsize=8)
def _weights(model: ModelConfig, mtp: bool) -> tuple[Weight, ...]:
    if mtp and model.draft is not None:
        return (*weights(model), *draft_weights(model))
    return weights(model, mtp=mtp)


@functools.lru_cache(maxsize=32)
def _divided_kinds(model: ModelConfig) -> tuple[Weight, ...]:
    """One weight of each kind and size that ranks of tensor parallelism share."""
    kinds = {(item.split, item.units): item for item in weights(model) if item.split not in (Split.NONE, Split.TOWER)}
    return tuple(kinds.values())


def check_divides(model: ModelConfig, layout: Layout) -> None:
    """
    Raise `InputError` where the weights of the decoder, or its words, do not divide among the ranks.

    Words are counted up to whole steps (vllm 0.33.0 model_executor/layers/vocab_parallel_embedding.py).
    """
    if layout.tensor == 1:
        return
    for item in _divided_kinds(model):
        rank_elements(item, layout)
    words = round_up(model.vocab_size, _VOCABULARY_STEP)
    if words % layout.tensor:
        raise InputError("a vocabulary of {} can't be divided among {} ranks", words, layout.tensor)


def on_stages(model: ModelConfig, spans: Sequence[range], item: Weight | StoredPart, *, copied: bool) -> bool:
    """
    Whether a rank of the pipeline stages that run the layers of `spans` holds `item`.

    The first stage holds the embedding, what works on its rows before the first layer, and the vision tower, the last
    one layers of multi-token prediction, the final norm and the head, and the embedding again where it is `copied`.
    """
    first = any(span.start == 0 for span in spans)
    last = any(span.stop >= len(model.layers) for span in spans)
    layer = _layer_of(model, item)
    if layer is not None:
        return any(layer in span for span in spans) or (last and layer >= len(model.layers))
    if item.group == WeightGroup.EMBEDDING:
        return first or (last and copied)
    return first if item.looked_up or item.group == WeightGroup.VISION else last


def _layer_of(model: ModelConfig, item: Weight | StoredPart) -> int | None:
    """The layer of `item`, the first one behind the decoder for all of stored drafts."""
    return len(model.layers) if isinstance(item, StoredPart) and item.drafts else item.layer


def rank_weights(
    model: ModelConfig, layout: Layout, span: range, *, mtp: bool = False, vision: bool = True
) -> Iterator[tuple[Weight, int]]:
    """
    The weights on one rank of the pipeline stage that holds the layers of `span`, each with its elements there.

    They are those that `on_stages` says; a tied embedding is copied. Lookup tables are left out.
    """
    for item in _weights(model, mtp):
        if item.group is WeightGroup.LOOKUP or (item.group is WeightGroup.VISION and not vision):
            continue
        if on_stages(model, (span,), item, copied=model.tied_embeddings):
            yield item, rank_elements(item, layout)


def rank_weight_bytes(
    model: ModelConfig, layout: Layout, scheme: Precision, span: range, *, mtp: bool = False, vision: bool = True
) -> Mapping[str, int]:
    """
    Bytes of weights by group on one rank of the pipeline stage that holds the layers of `span`.

    They are those of `rank_weights`; `rank_lookup_bytes` says what lookup tables take. Published weights are those of
    the checkpoint's files, where they are at hand.
    """
    if scheme.name == PUBLISHED and model.stored is not None and model.stored.parts:
        return _stored_bytes(model, model.stored, layout, span, mtp=mtp, vision=vision)
    found: dict[str, int] = {}
    for item, elements in rank_weights(model, layout, span, mtp=mtp, vision=vision):
        group = item.group.value
        found[group] = found.get(group, 0) + scheme.bytes(item, elements)
        drafts = mtp and span.stop >= len(model.layers) and scheme.own_ends
        if drafts and item.name in ("embed_tokens", "lm_head"):
            found["drafts' ends"] = found.get("drafts' ends", 0) + scheme.bytes(item, elements)
    return found


def _stored_bytes(
    model: ModelConfig, stored: StoredWeights, layout: Layout, span: range, *, mtp: bool, vision: bool
) -> Mapping[str, int]:
    """Bytes by group on one rank of what the checkpoint's files hold."""
    found: dict[str, int] = {}
    behind = len(model.layers)
    for part in stored.parts:
        layer = _layer_of(model, part)
        left_out = (WeightGroup.LOOKUP,) if vision else (WeightGroup.LOOKUP, WeightGroup.VISION)
        if part.group in left_out or (layer is not None and layer >= behind and not mtp):
            continue
        if on_stages(model, (span,), part, copied=model.tied_embeddings):
            size = part.whole + -(-part.nbytes // _stored_shards(model, part, layout))
            found[part.group] = found.get(part.group, 0) + size
    return found


def _stored_shards(model: ModelConfig, part: StoredPart, layout: Layout) -> int:
    """Into how many pieces, of which a rank has one, the part is divided: fewer where heads are repeated."""
    ranks = layout.tensor
    if part.split == "none":
        return 1
    if part.split == "tower":
        heads = 0 if model.vision is None else model.vision.heads
        return 1 if heads % ranks else ranks
    if part.split == "expert":
        return layout.expert_ranks
    mixer = None if part.layer is None or part.layer >= len(model.layers) else model.layers[part.layer].mixer
    caches = () if mixer is None else mixer.caches()
    heads = next((cache.heads for cache in caches if cache.heads), 0)
    if part.split == "kv" and heads:
        return min(ranks, heads)
    return ranks


def rank_lookup_bytes(model: ModelConfig, layout: Layout, scheme: Precision, span: range) -> int:
    """
    Bytes of the lookup tables of the layers of `span` that one rank looks after.

    Engines that know them keep them in pinned host memory unless told otherwise (vllm 0.33.0 `--engram-config`,
    `cpu_offload`), split among the ranks of tensor parallelism by hashes.
    """
    return sum(
        scheme.bytes(item, rank_elements(item, layout))
        for item in _weights(model, mtp=False)
        if item.group is WeightGroup.LOOKUP and item.layer in span
    )
