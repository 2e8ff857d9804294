"""Memory of a training step on one rank, from the model, the parallel layout and the recipe alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout, stage_spans, training_layout
from memplan.models.training.gathering import gathered_ahead
from memplan.models.training.held_passes import held_passes
from memplan.models.training.indexers import kept_scores
from memplan.models.training.left_buffers import standing_buffers, timed_phases
from memplan.models.training.phases import (
    MemoryPart,
    freed_logits,
    hosted_output,
    optimizer_parts,
)
from memplan.models.training.placed_experts import held_inputs
from memplan.models.training.products import kept_products
from memplan.models.training.recipe_choices import Schedule, Sharding
from memplan.models.training.saved import saved_tensors
from memplan.models.training.saved_item import Saved, made_anew, of_experts, swapped
from memplan.models.training.stage_phases import (
    LOSS_PHASE,
    SCORES_PHASE,
    PassesHeld,
    StageRank,
    stage_phases,
    with_gradients_come,
)
from memplan.models.training.states import hosted_bytes, left_over, static_parts, widened_gradients
from memplan.models.training.step_recipe import Recipe
from memplan.models.training.trained_model import kept_around, trained_model

_HALF = 2


class Trained(str, Enum):
    """Kinds of training whose peaks have intervals of their own: who has the states, or that adapters are trained."""

    BY_MEGATRON = "megatron"
    BY_PYTORCH = "pytorch"
    ADAPTERS = "adapters"


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """
    Predicted peak of the device allocator on one pipeline stage.

    `parts` make up the peak, which is reached in `phase`; `parameters` is what the rank trains; `between_steps` is what
    stays when a step is over: the states, and until the next one float32 copies of gradients kept in 16 bits;
    `moment_bytes` of them are Adam's moments, which the first step lacks until its end. `phases` are the most that is
    held in each. `first_step_bytes` are the most of the first step, whose way forward and back runs before the moments
    exist and whose kernels may be timed. `gathering_bytes` are what weights are gathered into (zero3, fsdp, fsdp2) and
    gradients are spread into (fsdp2) by streams of their own, whose memory the allocator keeps apart, and blocks of
    freed logits that nothing fits into, which are taken though they are free when the peak is reached. `kind` says by
    which public runs its interval is told. HCCL's buffers and the kernels' own workspace are outside the allocator and
    outside this figure; `notes` says so.
    """

    stage: int
    parameters: int
    phase: str
    parts: tuple[MemoryPart, ...]
    notes: tuple[str, ...]
    between_steps: int
    moment_bytes: int
    phases: tuple[tuple[str, int], ...]
    gathering_bytes: int = 0
    first_step_bytes: int = 0
    kind: Trained = Trained.BY_MEGATRON

    @property
    def peak_bytes(self) -> int:
        """The sum of the parts."""
        return sum(part.nbytes for part in self.parts)

    @property
    def reserved_bytes(self) -> int:
        """What the allocator has taken from the device by then."""
        return self.peak_bytes + self.gathering_bytes

    @property
    def interval_bytes(self) -> tuple[int, int]:
        """Between which the peaks of four of five public runs of this kind lie that the model gives the same."""
        if self.kind is not Trained.BY_MEGATRON:
            # What their allocators take is told, of which tensors fill less.
            (low, high), (least, most) = _measured_shares(self.kind.value), _measured_shares("reserved")
            return round(self.peak_bytes * low / most), round(self.peak_bytes * high / least)
        states = min(self.between_steps, self.peak_bytes)
        low, high = (
            states * own + (self.peak_bytes - states) * beyond
            for own, beyond in zip(_measured_shares("states"), _measured_shares("beyond"), strict=True)
        )
        return round(low), round(high)

    @property
    def reserved_interval_bytes(self) -> tuple[int, int]:
        """
        The same of what the allocator takes from the device, which tensors don't fill.

        Public runs that tell both say by how much it is more; those of other kinds than Megatron's tell it alone.
        """
        if self.kind is not Trained.BY_MEGATRON:
            low, high = _measured_shares(self.kind.value)
            return round(self.reserved_bytes * low), round(self.reserved_bytes * high)
        low, high = (held * more for held, more in zip(self.interval_bytes, _measured_shares("reserved"), strict=True))
        return round(low + self.gathering_bytes), round(high + self.gathering_bytes)

    @property
    def between_interval_bytes(self) -> tuple[int, int]:
        """The same of what stays between steps."""
        low, high = _measured_shares("states")
        return round(self.between_steps * low), round(self.between_steps * high)


def _measured_shares(part: str) -> tuple[float, float]:
    """
    Measured over predicted, of `states`, of what a peak holds `beyond` them or of all that the allocator has in other
    kinds of training; and what it has `reserved` over what tensors hold: the ends of the interval.
    """
    row = table("memplan.models.training", "intervals.json")[part]
    return float(row["low"]), float(row["high"])


def training_spans(model: ModelConfig, layout: Layout, recipe: Recipe, stage: int) -> tuple[range, ...]:
    """
    The runs of layers that pipeline stage `stage` holds, several with the interleaved and the V-shaped schedule.

    Raises `InputError` for a stage that isn't there, or layers that can't be divided so.
    """
    if not 0 <= stage < layout.pipeline:
        raise InputError("there is no stage {} among {}", stage, layout.pipeline)
    stages = layout.pipeline
    held: tuple[int, ...]
    if recipe.schedule is Schedule.DUALPIPE_V:
        held = (stage, 2 * stages - 1 - stage)
    elif recipe.schedule is Schedule.INTERLEAVED:
        held = tuple(stage + chunk * stages for chunk in range(recipe.chunks))
    else:
        held = (stage,)
    if recipe.run_layers and sum(recipe.run_layers) != len(model.layers):
        given, there = sum(recipe.run_layers), len(model.layers)
        raise InputError("runs of a pipeline have {} [layer|layers] in all, but the model has {}", given, there)
    spans = stage_spans(len(model.layers), _in_runs(layout, recipe, len(held)))
    return tuple(spans[number] for number in held)


def _in_runs(layout: Layout, recipe: Recipe, runs: int) -> Layout:
    """The layout with every run of layers as a stage of its own, in the order that a token meets them."""
    if recipe.run_layers:
        if layout.stage_layers:
            raise InputError("--run-layers and --stage-layers say the same", remedy="give one of them")
        if len(recipe.run_layers) != layout.pipeline * runs:
            given, there = len(recipe.run_layers), layout.pipeline * runs
            raise InputError("layers are given for {} runs of a pipeline, but there are {}", given, there)
        return replace(layout, pipeline=layout.pipeline * runs, stage_layers=recipe.run_layers)
    if not layout.stage_layers:
        return replace(layout, pipeline=layout.pipeline * runs)
    stages = [_run_layers(count, runs, layout.pipeline - 1 - stage) for stage, count in enumerate(layout.stage_layers)]
    backwards = recipe.schedule is Schedule.DUALPIPE_V
    order = [counts[run] for run in range(runs) for counts in (reversed(stages) if backwards and run else stages)]
    return replace(layout, pipeline=layout.pipeline * runs, stage_layers=tuple(order))


def _run_layers(count: int | None, runs: int, behind: int) -> tuple[int | None, ...]:
    """
    The layers of each run of a stage that has `count`, with `behind` stages behind it.

    Where they don't divide, runs near the embedding have fewer, on the last stage the one with the loss: those are what
    uneven stages make room for (Megatron's layers that do nothing, MindSpeed's `--noop-layers`).
    """
    if count is None:
        return (None,) * runs
    if count < runs:
        raise InputError("{} layers of a pipeline stage can't be divided into {} runs", count, runs)
    few, more = count // runs, count % runs
    counts = (few,) * (runs - more) + (few + 1,) * more
    return counts if behind else counts[::-1]


def in_flight(layout: Layout, recipe: Recipe, stage: int) -> int:
    """
    Micro-batches whose activations a stage holds at once, each of one run of its layers.

    1F1B: `p - i`. Interleaved: `2(p - i - 1) + (v - 1)g + 1` of a chunk each, or all of them, with groups of g
    micro-batches, usually p (Megatron-Core's `get_pp_rank_microbatches`). DualPipe-V: `2p + 1` of half the layers of a
    rank. GPipe: all.
    """
    pipeline, total = layout.pipeline, recipe.micro_batches
    if recipe.schedule is Schedule.GPIPE:
        return total
    if recipe.schedule is Schedule.INTERLEAVED:
        if recipe.forward_passes_first(pipeline):
            return total * recipe.chunks
        held = 2 * (pipeline - stage - 1) + (recipe.chunks - 1) * recipe.group_of(pipeline) + 1
        return min(held, total * recipe.chunks)
    if recipe.schedule is Schedule.DUALPIPE_V:
        return min(2 * pipeline + 1, 2 * total)
    return min(pipeline - stage, total)


def _layer_bytes(kept: tuple[Saved, ...], recipe: Recipe, *, no_experts: bool) -> float:
    return sum(
        item.nbytes
        for item in kept
        if not made_anew(item, recipe)
        and not swapped(item, recipe)
        and not (item.softmax and recipe.recompute_attention)
        and not (no_experts and of_experts(item))
    )


def _mask_parts(model: ModelConfig, layout: Layout, recipe: Recipe, layers: int) -> list[MemoryPart]:
    """Masks that stay from the first step on: causal ones of every layer, and a bias for ALiBi."""
    if recipe.variable_lengths:
        return []
    pairs, parts = recipe.sequence**2, []
    if recipe.legacy_layers or recipe.alibi_masks:
        parts.append(MemoryPart("causal masks", layers * pairs, f"a byte in each of {layers} layers x {pairs:,} pairs"))
    if recipe.alibi_masks:
        heads = max((getattr(layer.mixer, "heads", 0) for layer in model.layers), default=0) / layout.tensor
        copies = 2 + recipe.micro_batch
        formula = f"2 B x {heads:g} heads x {pairs:,} pairs, as it is built, as it is read, and masked for each sample"
        parts.append(MemoryPart("bias of positions", round(_HALF * copies * heads * pairs), formula))
    return parts


def training_memory(model: ModelConfig, layout: Layout, recipe: Recipe, stage: int = 0) -> TrainingMemory:
    """
    The peak of one training step on a rank of pipeline stage `stage`, with its breakdown.

    Raises `InputError` where the layout does not divide the model or a kind of layer is not modelled.
    """
    layout, model = training_layout(layout), trained_model(model, recipe)
    rank = _stage_rank(model, layout, recipe, stage)
    spans, layers, tokens = rank.spans, rank.layers, rank.tokens
    parameters, moments, parts = static_parts(model, layout, recipe, spans)
    parts += _mask_parts(model, layout, recipe, len(layers))
    parts += kept_scores(layers, layout, recipe)
    parts += standing_buffers(model, layout, recipe, spans, tokens)
    gradients = sum(part.nbytes for part in parts if part.name == "gradients")
    left = _left_parts(rank, gradients)
    between = sum(part.nbytes for part in (*parts, *left))
    per_pass, anew = _kept_of_a_pass(rank)
    most = in_flight(layout, recipe, stage)
    by_run, looked_up = _by_run(per_pass, spans), rank.boundary if rank.first else 0.0
    run_bytes = (by_run[0] + looked_up, *by_run[1:])
    passes = held_passes(layout, recipe, stage, run_bytes, most)
    held = _held_parts(rank, passes, by_run, looked_up)
    on_their_way = PassesHeld(run_bytes, passes, most, per_pass[-1])
    phases, gathering = stage_phases(rank, on_their_way, anew=anew, gradients=gradients)
    over = MemoryPart("freed activations", -sum(part.nbytes for part in held), "of all passes, which are over")
    whole = recipe.foreach_optimizer or not recipe.lora_rank
    if whole and recipe.sharding in (Sharding.NONE, Sharding.DISTRIBUTED, Sharding.FSDP2):
        still_there = () if recipe.lets_gradients_go else left
        phases["optimizer"] = [over, *still_there, *optimizer_parts(model, layout, recipe, spans, moments)]
    elif recipe.sharding in (Sharding.ZERO1, Sharding.ZERO2):
        phases["optimizer"] = [over, widened_gradients(model, layout, recipe, spans)]
    held_by = {name: sum(part.nbytes for part in found) for name, found in phases.items()}
    phase = max(held_by, key=lambda name: held_by[name])
    # Shares of gradients come from a stream of their own, whose memory stays taken.
    taken = {
        name: with_gradients_come(found) if recipe.sharding.gathers else held_by[name] for name, found in phases.items()
    }
    if rank.last:
        taken[LOSS_PHASE] += freed_logits(model, layout, recipe, rank.tokens)
    gathering += max(taken.values()) - held_by[phase]
    parts += held
    held_in = tuple((name, sum(part.nbytes for part in (*parts, *found))) for name, found in phases.items())
    standing = sum(part.nbytes for part in parts)
    timed = [standing + sum(part.nbytes for part in found) for found in timed_phases(phases, layers, recipe).values()]
    early = [nbytes for name, nbytes in held_in if name != "optimizer"]
    first_step = max(*(nbytes - moments for nbytes in (*early, *timed)), dict(held_in).get("optimizer", between))
    notes = _notes(rank, scores=SCORES_PHASE in phases)
    parts += phases[phase]
    return TrainingMemory(
        stage, parameters, phase, tuple(parts), notes, between, moments, held_in, gathering, first_step, _kind(recipe)
    )


def _kind(recipe: Recipe) -> Trained:
    if recipe.lora_rank:
        return Trained.ADAPTERS
    return Trained.BY_MEGATRON if recipe.of_megatron else Trained.BY_PYTORCH


def _stage_rank(model: ModelConfig, layout: Layout, recipe: Recipe, stage: int) -> StageRank:
    """A rank of pipeline stage `stage` with its layers and what they keep."""
    spans = training_spans(model, layout, recipe, stage)
    layers = [layer for span in spans for layer in model.layers[span.start : span.stop]]
    kept = [saved_tensors(model, layer, layout, recipe) for layer in layers]
    further: list[Layer] = []
    for run in model.predictions if any(span.stop == len(model.layers) for span in spans) else ():
        saved = [saved_tensors(model, layer, layout, recipe) for layer in run]
        kept += [(*saved[0], *kept_around(model, layout, recipe)), *saved[1:]]
        further += run
    return StageRank(model, layout, recipe, stage, spans, (*layers, *further), kept)


def _left_parts(rank: StageRank, gradients: int) -> list[MemoryPart]:
    """What is there when a step is over beside what stands all the time, of which fully_shard lets `gradients` go."""
    recipe, passed = rank.recipe, rank.tokens * rank.boundary
    runs = sum(1 for span in rank.spans if span.start)
    output = round(rank.tokens * hosted_output(rank.model, rank.layers, rank.layout, recipe))
    left = left_over(rank.model, rank.layout, recipe, rank.spans, round(2 * passed) * runs, output)
    inputs = held_inputs(rank.layers, recipe, round(passed), rank.input_only)
    if inputs:
        left.append(MemoryPart("inputs of layers made anew", inputs, "and their gradients, by experts' kept losses"))
    if recipe.swap_attended and not (recipe.lora_rank or recipe.variable_lengths):
        behind = rank.kept[rank.input_only :]
        each = sum(item.nbytes for items in behind for item in items if item.attended)
        formula = f"{each:,.0f} B a token of {len(behind)} layers, until their next way forward"
        left.append(MemoryPart("attention brought back", round(rank.tokens * each), formula))
    if recipe.overlap_gather and recipe.sharding is Sharding.FSDP:
        left.append(gathered_ahead(rank.model, rank.layout, recipe, rank.spans))
    if recipe.lets_gradients_go:
        left.append(MemoryPart("gradients let go", -gradients, "when the step is over"))
    return left


def _kept_of_a_pass(rank: StageRank) -> tuple[list[float], int]:
    """Bytes a token that each layer keeps until its way back, and how many layers are made anew then."""
    recipe = rank.recipe
    if recipe.recompute_products:
        return [kept_products(rank.model, layer, rank.layout, recipe) for layer in rank.layers], len(rank.layers)
    kept = [
        (0.0 if recipe.swap_inputs else rank.boundary)
        if number < rank.input_only
        else _layer_bytes(items, recipe, no_experts=number < recipe.zero_memory_layers)
        for number, items in enumerate(rank.kept)
    ]
    return kept, rank.input_only


def _held_parts(
    rank: StageRank, passes: tuple[float, ...], run_bytes: list[float], looked_up: float
) -> list[MemoryPart]:
    """What passes on their way hold of the layers of each run, and of tokens that the first one looked up."""
    tokens = f"{rank.tokens:,.0f} tokens"
    held = list(zip(passes, run_bytes, strict=True))
    kept = " + ".join(f"{count:g} passes x {nbytes:,.0f} B" for count, nbytes in held)
    formula = f"({kept}) a token x {tokens}, in {len(rank.layers)} layers"
    if rank.input_only:
        formula += f"; {rank.input_only} layers keep their input only"
    size = sum(count * nbytes for count, nbytes in held)
    parts = [MemoryPart("activations", round(rank.tokens * size), formula)]
    if rank.first:
        formula = f"{passes[0]:g} passes x {looked_up:,.0f} B a token x {tokens}"
        parts.append(MemoryPart("embedded tokens", round(rank.tokens * looked_up * passes[0]), formula))
    return parts


def _by_run(layer_bytes: list[float], spans: tuple[range, ...]) -> list[float]:
    """What the layers of each run keep, with those behind the last one in the last run."""
    found, start = [], 0
    for span in spans:
        stop = len(layer_bytes) if span is spans[-1] else start + len(span)
        found.append(sum(layer_bytes[start:stop]))
        start = stop
    return found


def _notes(rank: StageRank, *, scores: bool) -> tuple[str, ...]:
    model, layout, recipe = rank.model, rank.layout, rank.recipe
    notes = ["HCCL's buffers and the kernels' own workspace are not part of the allocator's peak predicted here"]
    if scores:
        notes.append("indexers keep scores of every pair of tokens; --fused-indexer and --fused-indexer-loss keep none")
    told = layout.stage_layers or recipe.run_layers
    spans = () if told else stage_spans(len(model.layers), layout)
    if len({len(span) for span in spans}) > 1:
        counts = "+".join(str(len(span)) for span in spans)
        notes.append(f"stages can't have as many layers each: {counts} were taken (--stage-layers gives others)")
    if recipe.swap_optimizer:
        away = hosted_bytes(model, layout, recipe, rank.spans)
        notes.append(f"{away:,.0f} B of optimiser states are on the host")
    return tuple(notes)
