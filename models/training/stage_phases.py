"""What a rank of a pipeline stage holds in each phase of a step, beside states and the activations of passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.gathering import gathered_weights, head_gradient, reduced_gradients, root_gradients
from memplan.models.training.held_passes import held_passes
from memplan.models.training.indexers import scores_of_loss, scores_of_pairs
from memplan.models.training.phases import (
    BROUGHT_BACK,
    ONE_WEIGHT,
    MemoryPart,
    backward_parts,
    deferred_head,
    embedding_parts,
    head_parts,
    loss_parts,
    tied_head,
)
from memplan.models.training.placed_experts import dispatch_parts
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.saved_item import Saved
from memplan.models.training.scans import scan_parts
from memplan.models.training.step_recipe import Recipe

SCORES_PHASE = "scores for an indexer's loss"
"""The phase in which an indexer learns from attention's scores."""
BACKWARD_PHASE, LOSS_PHASE, HEAD_PHASE = "backward of a layer", "loss", "gradient of the head"
_EMBEDDING = "gradient of the embedding"
_TO_COME = "gradients to come"


@dataclass(frozen=True, slots=True)
class StageRank:
    """
    A rank of pipeline stage `stage`: its runs of layers `spans`, their `layers` and what each of them keeps of a token,
    `kept`, those behind the last layer that predict further tokens among them.
    """

    model: ModelConfig
    layout: Layout
    recipe: Recipe
    stage: int
    spans: tuple[range, ...]
    layers: Sequence[Layer]
    kept: Sequence[tuple[Saved, ...]]

    @property
    def tokens(self) -> float:
        """Tokens of a micro-batch on it."""
        return self.recipe.sequence * self.recipe.micro_batch / self.layout.context

    @property
    def first(self) -> bool:
        """Whether it has the embedding."""
        return any(span.start == 0 for span in self.spans)

    @property
    def last(self) -> bool:
        """Whether it has the loss."""
        return any(span.stop == len(self.model.layers) for span in self.spans)

    @property
    def further(self) -> bool:
        """Whether it has layers that predict further tokens."""
        return self.last and bool(self.model.mtp_layers)

    @property
    def input_only(self) -> int:
        """Layers that keep their input alone, the first ones."""
        return min(self.recipe.recompute_layers, sum(map(len, self.spans)))

    @property
    def boundary(self) -> float:
        """Bytes of a token between two layers."""
        streams = 1 if self.model.hyper is None else self.model.hyper.streams
        shards = self.layout.tensor if self.recipe.sequence_parallel else 1
        return self.recipe.each * self.model.hidden_size * streams / shards


@dataclass(frozen=True, slots=True)
class PassesHeld:
    """
    How many passes through each run of layers are on their way when most bytes are held, `most` of them at once.

    `run_bytes` are what a run keeps of a token, those of an embedded token among the first one's, `last_layer` what its
    last layer does.
    """

    run_bytes: tuple[float, ...]
    passes: tuple[float, ...]
    most: int
    last_layer: float


def stage_phases(
    rank: StageRank, held: PassesHeld, *, anew: int, gradients: int
) -> tuple[dict[str, list[MemoryPart]], int]:
    """
    The phases of a step but the optimiser's, each with what it holds, and the bytes that streams of their own gather
    and spread into, of whose memory the rest of the step has nothing.

    `anew` layers are made anew; of shares of gradients the rank has `gradients` bytes in the end.
    """
    model, layout, recipe, layers = rank.model, rank.layout, rank.recipe, rank.layers
    found = {BACKWARD_PHASE: backward_parts(model, layers, rank.kept, layout, recipe, rank.tokens, anew)}
    if recipe.swap_inputs:
        formula = f"{BROUGHT_BACK} x {rank.boundary:,.0f} B a token: of the layer that runs back and the next one"
        nbytes = round(BROUGHT_BACK * rank.tokens * rank.boundary)
        found[BACKWARD_PHASE].append(MemoryPart("inputs brought back", nbytes, formula))
    begun = round(rank.tokens * rank.boundary)
    beside = {
        SCORES_PHASE: scores_of_loss(layers, rank.kept, layout, recipe, rank.tokens),
        "scores of every pair": scores_of_pairs(layers, rank.kept, layout, recipe, rank.tokens),
        "dispatch by masks": dispatch_parts(layers, rank.kept, layout, recipe, rank.tokens, begun),
        "steps of a scan": scan_parts(layers, rank.kept, layout, recipe, rank.tokens),
    }
    found |= {name: parts for name, parts in beside.items() if parts}
    if (rank.first or rank.further) and not recipe.lora_rank:
        # Without layers that predict further tokens it is the last thing a pass does.
        freed = 0 if rank.further else round(rank.tokens * held.run_bytes[0])
        found[_EMBEDDING] = embedding_parts(model, layout, recipe, freed)
    if rank.first and rank.last and model.tied_embeddings and not recipe.lora_rank:
        for parts in found.values():
            parts.append(tied_head(model, layout, recipe))
    if rank.last:
        to_come = _passes_to_come(rank, held)
        found[LOSS_PHASE] = [*loss_parts(model, layout, recipe, rank.tokens), *to_come]
        back = head_parts(model, layout, recipe, rank.tokens)
        if back and not (rank.first and model.tied_embeddings):
            found[HEAD_PHASE] = [*back, *to_come]
        if recipe.deferred_head and layout.pipeline > 1:
            for parts in found.values():
                parts.append(deferred_head(model, layout, recipe, rank.tokens))
    if recipe.lets_gradients_go and not recipe.lora_rank and recipe.micro_batches <= held.most:
        _leave_gradients_to_come(found, rank, held, gradients)
    if not recipe.sharding.gathers:
        return found, 0
    outer, one, two = (gathered_weights(model, layout, recipe, rank.spans, layers=layers) for layers in range(3))
    by_phase = {BACKWARD_PHASE: two, _EMBEDDING: outer}
    for name, parts in found.items():
        parts.append(by_phase.get(name, one))
    if recipe.sharding is Sharding.FSDP2 and not recipe.lora_rank:
        _add_spread_gradients(found, rank, round(rank.tokens * held.last_layer))
    return found, outer.nbytes


def _passes_to_come(rank: StageRank, held: PassesHeld) -> list[MemoryPart]:
    """What is not there yet at the loss of what a stage holds at most: passes through runs without it."""
    behind = len(held.run_bytes) - 1
    then = held_passes(rank.layout, rank.recipe, rank.stage, held.run_bytes, held.most, behind)
    fewer = sum((most - now) * size for most, now, size in zip(held.passes, then, held.run_bytes, strict=True))
    return [MemoryPart("passes to come", -round(rank.tokens * fewer), "through runs without the loss")] if fewer else []


def _leave_gradients_to_come(
    found: dict[str, list[MemoryPart]], rank: StageRank, held: PassesHeld, gradients: int
) -> None:
    """
    Take from phases the `gradients` bytes that a step hasn't made yet when the first way back begins.

    Where all micro-batches are on their way by then that is where most is held, or at the second way back, when the
    gradients are there and the first pass is over. Of a single one whose gradients nobody else adds up, the embedding's
    is the one that the rank has in the end.
    """
    alone = rank.recipe.micro_batches == 1
    to_come = gradients if alone else min(gradients, round(rank.tokens * sum(held.run_bytes)))
    for name in (BACKWARD_PHASE, LOSS_PHASE, HEAD_PHASE):
        if name in found:
            found[name].append(MemoryPart(_TO_COME, -to_come, "those of layers and the embedding"))
    if _EMBEDDING in found and alone and not rank.recipe.sharding.gathers:
        table = rank.recipe.each * (rank.model.vocab_size * rank.model.hidden_size // rank.layout.tensor)
        found[_EMBEDDING].append(MemoryPart("gradient counted", -table, "the embedding's, among all gradients"))


def _add_spread_gradients(found: dict[str, list[MemoryPart]], rank: StageRank, layer: int) -> None:
    """
    Add to phases what `fully_shard` makes of gradients on their way to the ranks' shares.

    The copy of one layer's waits while the layer before it runs back, by when the `layer` bytes are free that the first
    one kept.
    """
    own, copied = reduced_gradients(rank.model, rank.layout, rank.recipe, rank.spans)
    over = MemoryPart("freed activations", -min(layer, copied.nbytes), "of the layer whose gradients are spread")
    back = [part for part in found[BACKWARD_PHASE] if part.name != ONE_WEIGHT]  # It is among those of its layer.
    found[BACKWARD_PHASE] = [*back, own, copied, over]
    if LOSS_PHASE in found:
        found[BACKWARD_PHASE].append(head_gradient(rank.model, rank.layout, rank.recipe))
    if _EMBEDDING in found:
        found[_EMBEDDING].append(root_gradients(rank.model, rank.layout, rank.recipe, rank.spans))


def with_gradients_come(parts: Sequence[MemoryPart]) -> int:
    """Bytes of `parts` once all shares of gradients are there."""
    return sum(part.nbytes for part in parts if part.name != _TO_COME)
