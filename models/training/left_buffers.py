"""Buffers that a framework's layers leave on a rank from the first step on, whatever the step itself keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from memplan.core.resources import table
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.mixers.recurrent_mixers import GatedDeltaNet, Mamba2
from memplan.models.parallel import Layout, training_layout
from memplan.models.training.phases import MemoryPart, linear_shapes, trained_weights
from memplan.models.training.placed_experts import tokens_of_an_expert
from memplan.models.training.recipe_choices import Gpu, Loss
from memplan.models.training.stage_phases import BACKWARD_PHASE, LOSS_PHASE
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import WeightGroup

_THREADS = 2
"""Those that run forward and back, each with a handle of cuBLAS of its own, for which PyTorch keeps a workspace."""
_TESTED = Gpu.HOPPER
"""The generation that TransformerEngine's layers are taken to run on where nothing else is said."""
_GROUP_STREAMS, _OVERLAP_STREAMS = 4, 3
"""Streams that have one each: of grouped products, and of products that overlap exchanges (`_NUM_MAX_UB_STREAMS`)."""


def standing_buffers(
    model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...], tokens: float
) -> list[MemoryPart]:
    """
    Buffers of a rank that holds the layers of `spans`, for micro-batches of `tokens` tokens a rank.

    Sequence parallelism gathers what a split projection reads into a buffer that stays (Megatron-Core's
    `GlobalMemoryBuffer`), which attention without a kernel hands to its products of scores (`DotProductAttention`), so
    that it is as large as either needs; TransformerEngine's layers have tensors of their own, so that only the head
    gathers into it.
    Where products add their gradients up themselves, autograd is handed a 16-bit tensor that nobody reads, one for
    each shape of weight (`get_dummy_wgrad`), by Megatron-Core for the head too. Fine-tuning of adapters, whose samples
    have lengths of their own, isn't told apart.
    """
    last = any(span.stop == len(model.layers) for span in spans)
    layers = [layer for span in spans for layer in model.layers[span.start : span.stop]]
    parts = _workspaces([*layers, *(model.mtp_layers if last else ())], recipe)
    if recipe.lora_rank or recipe.variable_lengths:
        return parts
    shared = []
    most = _gathered_tokens(model, layers, layout, recipe, tokens, last=last)
    if most:
        formula = (
            f"{recipe.each} B x {most:,.0f} tokens x {model.hidden_size:,}, where a projection's input is gathered"
        )
        shared.append(MemoryPart("gathered input", round(recipe.each * most * model.hidden_size), formula))
    shared += _scores(layers, layout, recipe, tokens)
    parts += sorted(shared, key=lambda part: part.nbytes)[-1:]
    if recipe.fp8 and not recipe.fp8_weights:
        parts.append(_copied_weights(model, layout, spans))
    if not recipe.transformer_engine:
        return parts
    if recipe.fused_gradients:
        shapes = linear_shapes(model, layout, spans)
        count = sum(rows * columns for rows, columns in shapes)
        counted = f"{recipe.each} B x {count:,} of {len(shapes)} shapes of weights"
        formula = f"{counted}, whose gradients products add up themselves"
        parts.append(MemoryPart("gradients nobody reads", recipe.each * count, formula))
    return parts


def _gathered_tokens(
    model: ModelConfig, layers: Sequence[Layer], layout: Layout, recipe: Recipe, tokens: float, *, last: bool
) -> float:
    """
    Most tokens that are gathered into that buffer at once, 0 for none: for a projection, or for experts by all ranks
    that share them (`MoEAllGatherTokenDispatcher`).
    """
    most = 0.0
    if recipe.sequence_parallel and layout.tensor > 1 and (last or not recipe.transformer_engine):
        most = max(tokens, tokens_of_an_expert(layers, layout, recipe, tokens))
        if last and model.mtp_layers and not recipe.transformer_engine:
            most = max(most, 2 * tokens)  # Embedding and hidden state are joined before their projection.
    sharing = training_layout(layout).expert_ranks
    if recipe.gathered_experts and sharing > 1 and any(isinstance(layer.ffn, MoeFfn) for layer in layers):
        most = max(most, sharing * tokens / (layout.tensor if recipe.sequence_parallel else 1))
    return most


def _copied_weights(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> MemoryPart:
    """Copies that products in 8 bits keep of their weights, and of those turned, from one micro-batch to the next."""
    count = sum(
        elements
        for item, elements in trained_weights(model, layout, spans)
        if item.linear and item.layer is not None and item.group is not WeightGroup.ROUTER
    )
    return MemoryPart("weights in 8 bits", 2 * count, f"(1 + 1) B x {count:,}, as they are and turned")


def _scores(layers: Sequence[Layer], layout: Layout, recipe: Recipe, tokens: float) -> list[MemoryPart]:
    if not recipe.attention_in_steps or recipe.transformer_engine:
        return []
    mixers = [layer.mixer for layer in layers if isinstance(layer.mixer, GroupedAttention | LatentAttention)]
    heads = max((mixer.heads for mixer in mixers), default=0) / layout.tensor
    formula = (
        f"{recipe.each} B x {heads:g} heads x {tokens:,.0f} tokens x {recipe.sequence:,}, for products to write to"
    )
    return [MemoryPart("scores of attention", round(recipe.each * heads * tokens * recipe.sequence), formula)]


def _workspaces(layers: Sequence[Layer], recipe: Recipe) -> list[MemoryPart]:
    """
    What cuBLAS works in: PyTorch's for each of its threads, and those of TransformerEngine's layers.

    Megatron-Core's routers multiply by TransformerEngine's product whatever the layers are
    (`RouterGatingLinearFunction`).
    """
    if recipe.gpu is Gpu.NONE and not recipe.transformer_engine:
        return []
    sizes = _workspace_sizes()[_TESTED if recipe.gpu is Gpu.NONE else recipe.gpu]
    each = recipe.cublas_workspace << 10 or sizes.pytorch
    nbytes, formula = _THREADS * each, f"{_THREADS} x {each:,} B that cuBLAS works in"
    routers = any(isinstance(layer.ffn, MoeFfn) for layer in layers)
    spaces = 0
    if recipe.transformer_engine:
        spaces = 1 + (_OVERLAP_STREAMS if recipe.overlap_tensor else 0)
        spaces += _GROUP_STREAMS if recipe.grouped_experts and routers else 0
    elif routers and recipe.of_megatron:  # Only Megatron-Core's routers need one.
        spaces = 1
    if spaces:
        nbytes += spaces * sizes.transformer_engine
        formula += f", and {spaces} x {sizes.transformer_engine:,} B of TransformerEngine"
    return [MemoryPart("workspaces", nbytes, formula)]


def timed_phases(
    phases: Mapping[str, Sequence[MemoryPart]], layers: Sequence[Layer], recipe: Recipe
) -> dict[str, list[MemoryPart]]:
    """
    What is held in the first step beside `phases` while kernels with several forms are timed, of `layers` on a GPU.

    Before each try a buffer is overwritten that empties the second cache: of the cache's size for kernels that
    PyTorch compiles (`InductorBenchmarker`), of 256 MiB for those of Triton (`get_empty_cache_for_benchmark`), of
    which scans of one kernel are made. A compiled loss has its turn before the way back has a product to work on.
    """
    found: dict[str, list[MemoryPart]] = {}
    if recipe.gpu is Gpu.NONE:
        return found
    sizes = _workspace_sizes()[recipe.gpu]
    if recipe.loss is Loss.COMPILED and LOSS_PHASE in phases and sizes.level_2 is not None:
        buffer = MemoryPart("buffer of timed kernels", sizes.level_2, f"{sizes.level_2:,} B: as large as the L2 cache")
        each = recipe.cublas_workspace << 10 or sizes.pytorch
        later = MemoryPart("workspace of the way back", -each, f"{each:,} B that no product has asked for yet")
        found[f"{LOSS_PHASE}, timed"] = [*phases[LOSS_PHASE], buffer, later]
    scans = any(isinstance(layer.mixer, GatedDeltaNet | Mamba2) for layer in layers)
    if scans and not recipe.scan_in_steps:
        size = int(table("memplan.models.training", "workspaces.json")["timing"]["triton"])
        buffer = MemoryPart("buffer of timed kernels", size, f"{size:,} B that Triton overwrites")
        found[f"{BACKWARD_PHASE}, timed"] = [*phases[BACKWARD_PHASE], buffer]
    return found


@dataclass(frozen=True, slots=True)
class _WorkspaceSizes:
    """Bytes of one workspace of cuBLAS, as PyTorch and as TransformerEngine allot it, and of the L2 cache."""

    pytorch: int
    transformer_engine: int
    level_2: int | None


@cache
def _workspace_sizes() -> Mapping[Gpu, _WorkspaceSizes]:
    rows = table("memplan.models.training", "workspaces.json")["generations"]
    return {
        Gpu(row["name"]): _WorkspaceSizes(row["pytorch"], row["transformer_engine"], row["level_2"]) for row in rows
    }
