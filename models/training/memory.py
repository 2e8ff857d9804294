"""Memory of a training step on one rank, from the model, the parallel layout and the recipe alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from memplan.core.errors import InputError
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout, rank_elements, stage_spans
from memplan.models.training.saved import Saved, saved_tensors
from memplan.models.weight_shapes import Weight, WeightGroup
from memplan.models.weights import weights

_HALF, _SINGLE = 2, 4


class Sharding(str, Enum):
    """
    Which states data-parallel ranks share.

    `none` and `distributed` are Megatron's: 16-bit weights, float32 gradients, and 12 bytes of float32 master weight
    and Adam moments, the latter divided by the ranks with the distributed optimiser. `zero1` to `zero3` are
    DeepSpeed's, with 16-bit gradients: stage 1 divides the states, 2 the gradients too, 3 the weights too.
    """

    NONE = "none"
    DISTRIBUTED = "distributed"
    ZERO1 = "zero1"
    ZERO2 = "zero2"
    ZERO3 = "zero3"


class Schedule(str, Enum):
    """Order of micro-batches in a pipeline."""

    ONE_F_ONE_B = "1f1b"
    INTERLEAVED = "interleaved"
    DUALPIPE_V = "dualpipe-v"
    GPIPE = "gpipe"


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    How a step is trained.

    `sequence` tokens a sample, `micro_batch` samples a micro-batch, `micro_batches` of them a step on each
    data-parallel rank. `chunks` is how many parts of the model an interleaved rank holds. `recompute_layers` is how
    many layers of a stage keep only their input, `recompute_cheap` drops what costs no matrix product (norm outputs,
    activation functions), `recompute_attention` what attention alone needs of its forward run, which is repeated.
    `swap_optimizer` keeps the 12 bytes of float32 states on the host, `reuse_fp32` keeps no separate 16-bit weights.
    """

    sequence: int
    micro_batch: int = 1
    micro_batches: int = 1
    sharding: Sharding = Sharding.DISTRIBUTED
    schedule: Schedule = Schedule.ONE_F_ONE_B
    chunks: int = 1
    sequence_parallel: bool = False
    recompute_layers: int = 0
    recompute_cheap: bool = False
    recompute_attention: bool = False
    swap_optimizer: bool = False
    reuse_fp32: bool = False

    def __post_init__(self) -> None:
        for name in ("sequence", "micro_batch", "micro_batches", "chunks"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.swap_optimizer and self.reuse_fp32:
            raise InputError("swap-optimizer and reuse-fp32-param exclude each other (MindSpeed)")


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """One line of the breakdown and what it follows from."""

    name: str
    nbytes: int
    formula: str


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """
    Predicted peak of the device allocator on one pipeline stage.

    `parts` make up the peak, which is reached in `phase`; `parameters` is what the rank trains. HCCL's buffers and
    the kernels' own workspace are outside the allocator and outside this figure; `notes` says so.
    """

    stage: int
    parameters: int
    phase: str
    parts: tuple[MemoryPart, ...]
    notes: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        """The sum of the parts."""
        return sum(part.nbytes for part in self.parts)


def training_spans(model: ModelConfig, layout: Layout, recipe: Recipe, stage: int) -> tuple[range, ...]:
    """
    The runs of layers that pipeline stage `stage` holds, several with the interleaved and the V-shaped schedule.

    Raises `InputError` for a stage that isn't there, or layers that can't be divided so.
    """
    if not 0 <= stage < layout.pipeline:
        raise InputError(f"there is no stage {stage} among {layout.pipeline}")
    stages = layout.pipeline
    held: tuple[int, ...]
    if recipe.schedule is Schedule.DUALPIPE_V:
        held = (stage, 2 * stages - 1 - stage)
    elif recipe.schedule is Schedule.INTERLEAVED:
        held = tuple(stage + chunk * stages for chunk in range(recipe.chunks))
    else:
        held = (stage,)
    spans = stage_spans(len(model.layers), _in_runs(layout, recipe, len(held)))
    return tuple(spans[number] for number in held)


def _in_runs(layout: Layout, recipe: Recipe, runs: int) -> Layout:
    """The layout with every run of layers as a stage of its own, in the order that a token meets them."""
    each = []
    for count in layout.stage_layers:
        if count is not None and count % runs:
            raise InputError(f"{count} layers of a pipeline stage can't be divided into {runs} equal runs")
        each.append(count if count is None else count // runs)
    backwards = recipe.schedule is Schedule.DUALPIPE_V
    order = [item for run in range(runs) for item in (reversed(each) if backwards and run else each)]
    return replace(layout, pipeline=layout.pipeline * runs, stage_layers=tuple(order))


def _held(model: ModelConfig, item: Weight, spans: tuple[range, ...]) -> bool:
    first = any(span.start == 0 for span in spans)
    last = any(span.stop == len(model.layers) for span in spans)
    if item.layer is not None:
        return any(item.layer in span for span in spans)
    if item.group is WeightGroup.EMBEDDING:
        return first or (last and model.tied_embeddings)
    if item.group is WeightGroup.VISION:
        return first
    return last


def state_bytes(sharding: Sharding, ranks: int) -> tuple[float, float, float]:
    """Bytes a parameter of weights, gradients and optimiser states, with `ranks` that share them."""
    if sharding is Sharding.NONE:
        return _HALF, _SINGLE, 12.0
    if sharding is Sharding.DISTRIBUTED:
        return _HALF, _SINGLE, 12.0 / ranks
    weights_share = 1 if sharding is not Sharding.ZERO3 else ranks
    gradient_share = 1 if sharding is Sharding.ZERO1 else ranks
    return _HALF / weights_share, _HALF / gradient_share, 12.0 / ranks


def in_flight(layout: Layout, recipe: Recipe, stage: int) -> int:
    """
    Micro-batches whose activations a stage holds at once, each of one run of its layers.

    1F1B: `p - i`. Interleaved: `2(p - i - 1) + (v - 1)p + 1` of a chunk each. DualPipe-V: `2p + 1` of half the layers
    of a rank. GPipe: all.
    """
    pipeline, total = layout.pipeline, recipe.micro_batches
    if recipe.schedule is Schedule.GPIPE:
        return total
    if recipe.schedule is Schedule.INTERLEAVED:
        held = 2 * (pipeline - stage - 1) + (recipe.chunks - 1) * pipeline + 1
        return min(held, total * recipe.chunks)
    if recipe.schedule is Schedule.DUALPIPE_V:
        return min(2 * pipeline + 1, 2 * total)
    return min(pipeline - stage, total)


def _kept(model: ModelConfig, layer: Layer, layout: Layout, recipe: Recipe) -> tuple[Saved, ...]:
    return saved_tensors(model, layer, layout, sequence_parallel=recipe.sequence_parallel)


def _layer_bytes(kept: tuple[Saved, ...], recipe: Recipe) -> float:
    return sum(
        item.nbytes
        for item in kept
        if not (item.cheap and recipe.recompute_cheap) and not (item.softmax and recipe.recompute_attention)
    )


def held_elements(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> tuple[int, int, int]:
    """
    Elements of the weights of the layers of `spans` on one rank: those of experts apart from the rest, and how many
    ranks repeat the same experts.
    """
    dense = experts = 0
    for item in weights(model):
        if _held(model, item, spans):
            count = rank_elements(item, layout)
            if item.group is WeightGroup.EXPERTS:
                experts += count
            else:
                dense += count
    # Experts are repeated on fewer ranks than the rest: world / (expert ranks x pipeline).
    data_ranks = layout.data * layout.context
    sharing = layout.expert if layout.expert > 1 else layout.tensor
    return dense, experts, max(1, data_ranks * layout.tensor // sharing)


def _static_parts(
    model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...]
) -> tuple[int, list[MemoryPart]]:
    dense, experts, expert_ranks = held_elements(model, layout, spans)
    data_ranks = layout.data * layout.context
    parts = []
    for number, (name, what) in enumerate(
        (("weights", "16-bit weights"), ("gradients", "gradients"), ("optimizer", "float32 master weights and moments"))
    ):
        each = state_bytes(recipe.sharding, data_ranks)[number]
        each_expert = state_bytes(recipe.sharding, expert_ranks)[number]
        if (name == "optimizer" and recipe.swap_optimizer) or (name == "weights" and recipe.reuse_fp32):
            continue
        formula = f"{each:g} B x {dense:,}"
        if experts:
            formula += f" + {each_expert:g} B x {experts:,} of experts"
        parts.append(MemoryPart(name, round(each * dense + each_expert * experts), f"{what}: {formula}"))
    return dense + experts, parts


def training_memory(model: ModelConfig, layout: Layout, recipe: Recipe, stage: int = 0) -> TrainingMemory:
    """
    The peak of one training step on a rank of pipeline stage `stage`, with its breakdown.

    Raises `InputError` where the layout does not divide the model or a kind of layer is not modelled.
    """
    spans = training_spans(model, layout, recipe, stage)
    parameters, parts = _static_parts(model, layout, recipe, spans)
    tokens = recipe.sequence * recipe.micro_batch / layout.context
    shards = layout.tensor if recipe.sequence_parallel else 1
    hidden = model.hidden_size * (1 if model.hyper is None else model.hyper.streams)
    held = in_flight(layout, recipe, stage)
    layers = [layer for span in spans for layer in model.layers[span.start : span.stop]]
    kept = [_kept(model, layer, layout, recipe) for layer in layers]
    whole = min(recipe.recompute_layers, len(layers))
    boundary = _HALF * hidden / shards
    per_pass = [boundary if number < whole else _layer_bytes(items, recipe) for number, items in enumerate(kept)]
    # `held` counts passes through one run of layers; a rank has as many runs as spans.
    activations = round(tokens * sum(per_pass) * held / len(spans))
    first = any(span.start == 0 for span in spans)
    last = any(span.stop == len(model.layers) for span in spans)
    embedded = round(tokens * boundary * held / len(spans)) if first else 0
    phases = {
        "backward of a layer": _backward_parts(model, layers, kept, layout, recipe, tokens, whole),
    }
    if first:
        phases["gradient of the embedding"] = _embedding_parts(model, layout, activations + embedded, held)
    if last:
        phases["loss"] = _loss_parts(model, layout, tokens)
    phase = max(phases, key=lambda name: sum(part.nbytes for part in phases[name]))
    mean = sum(per_pass) / len(layers)
    formula = (
        f"{held} passes in flight x {len(layers) // len(spans)} layers x {mean:,.0f} B a token x {tokens:,.0f} tokens"
    )
    if whole:
        formula += f"; {whole} layers keep their input only"
    parts.append(MemoryPart("activations", activations, formula))
    if first:
        parts.append(MemoryPart("embedded tokens", embedded, f"{boundary:,.0f} B a token x {held} passes in flight"))
    parts += phases[phase]
    notes = ["HCCL's buffers and the kernels' own workspace are not part of the allocator's peak predicted here"]
    if any(getattr(layer.mixer, "top_k", 0) for layer in layers):
        notes.append("what the layers' indexers keep for their way back is not counted")
    uneven = {len(span) for span in stage_spans(len(model.layers), layout)}
    if len(uneven) > 1 and not layout.stage_layers:
        counts = "+".join(str(len(span)) for span in stage_spans(len(model.layers), layout))
        notes.append(f"stages can't have as many layers each: {counts} were taken (--stage-layers gives others)")
    if recipe.swap_optimizer:
        notes.append(f"{12 * parameters / (layout.data * layout.context):,.0f} B of optimiser states are on the host")
    return TrainingMemory(stage, parameters, phase, tuple(parts), tuple(notes))


def _backward_parts(
    model: ModelConfig,
    layers: list[Layer],
    kept: list[tuple[Saved, ...]],
    layout: Layout,
    recipe: Recipe,
    tokens: float,
    recomputed: int,
) -> list[MemoryPart]:
    """Gradients of one layer's widest pair of tensors, and what recomputing it brings back."""
    hidden = _HALF * model.hidden_size
    widest = max(max((item.nbytes for item in items), default=0.0) for items in kept)
    second = max(sorted((item.nbytes for item in items), reverse=True)[1] if len(items) > 1 else 0.0 for items in kept)
    largest = max(
        (
            rank_elements(item, layout) // item.copies
            for item in weights(model)
            if item.layer is not None and item.linear and item.layer in {layer.index for layer in layers}
        ),
        default=0,
    )
    parts = [
        MemoryPart(
            "gradients of activations",
            round(tokens * (widest + second + hidden)),
            f"({widest:,.0f} + {second:,.0f} + {hidden:,.0f}) B a token: of the two widest tensors and the residual",
        ),
        MemoryPart(
            "gradient of one weight", _HALF * largest, f"2 B x {largest:,} before it is added to the float32 buffer"
        ),
    ]
    if recomputed:
        most = max(sum(item.nbytes for item in items) for items in kept)
        parts.append(
            MemoryPart("recomputed layer", round(tokens * most), f"{most:,.0f} B a token of one layer at a time")
        )
    elif recipe.recompute_cheap:
        most = max(sum(item.nbytes for item in items if item.cheap) for items in kept)
        parts.append(
            MemoryPart("recomputed tensors", round(tokens * most), f"{most:,.0f} B a token of one layer at a time")
        )
    if recipe.recompute_attention and not recomputed:
        again = max(sum(item.nbytes for item in items if item.softmax or item.attended) for items in kept)
        parts.append(MemoryPart("attention again", round(tokens * again), f"{again:,.0f} B a token of one layer"))
    return parts


def _embedding_parts(model: ModelConfig, layout: Layout, saved: int, held: int) -> list[MemoryPart]:
    """By then the pass that reaches the embedding has freed its activations."""
    table = model.vocab_size * model.hidden_size // layout.tensor
    return [
        MemoryPart(
            "freed activations", -saved // held if held else 0, "of the pass that has come back to the embedding"
        ),
        MemoryPart("gradient of the embedding", _HALF * table, f"2 B x {table:,}"),
        MemoryPart("its float32 accumulator", _SINGLE * table, f"4 B x {table:,}: EmbeddingDenseGrad's workspace"),
    ]


def _loss_parts(model: ModelConfig, layout: Layout, tokens: float) -> list[MemoryPart]:
    """Logits in 16 bits and in float32; their gradient takes the place of the former, which the loss doesn't read."""
    logits = tokens * model.vocab_size / layout.tensor
    return [
        MemoryPart("logits", round(_HALF * logits), "2 B a token and vocabulary entry"),
        MemoryPart("loss", round(_SINGLE * logits), "float32 copy of the logits"),
    ]
