"""What a training step holds beside its states and what waits for the way back, phase by phase."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from memplan.core.errors import InputError
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.parallel import Layout, on_stages, rank_elements, sharing_ranks
from memplan.models.training.recipe_choices import Loss, Sharding
from memplan.models.training.saved_item import Saved, made_anew, of_experts, swapped
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import Split, Weight, WeightGroup
from memplan.models.weights import JOIN, weights

_SINGLE = 4
_MATRIX = 2
ONE_WEIGHT = "gradient of one weight"
BROUGHT_BACK = 2
"""Layers whose swapped tensors are on the device at once: the one that runs back and the one whose turn is next."""


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """One line of the breakdown and what it follows from."""

    name: str
    nbytes: int
    formula: str


def trained_weights(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> Iterator[tuple[Weight, int]]:
    """The weights of the layers of `spans`, and of what stands around them, each with its elements on one rank."""
    again = model.tied_embeddings or bool(model.mtp_layers)
    for item in _weights(model):
        if on_stages(model, spans, item, copied=again and item.name == "embed_tokens"):
            yield item, rank_elements(item, layout)


@lru_cache(maxsize=8)
def _weights(model: ModelConfig) -> tuple[Weight, ...]:
    """
    All weights as they are trained: tensor-parallel ranks divide the projection that joins a further token with the
    hidden state (Megatron-Core's `MultiTokenPredictionLayer`), which engines have whole on each.
    """
    return tuple(
        replace(item, split=Split.WIDTH, units=item.shape[0]) if item.own_name == JOIN else item
        for item in weights(model, mtp=True)
    )


def weights_of(model: ModelConfig, layer: Layer) -> Iterator[Weight]:
    """The weights of one layer, whole."""
    return (item for item in _weights(model) if item.layer == layer.index)


def hosted_output(model: ModelConfig, layers: Sequence[Layer], layout: Layout, recipe: Recipe) -> float:
    """
    Bytes a token of what the experts of one layer hand back, which goes to the host where they are made anew.

    The gradient of the router needs it (MindSpeed's unpermute_without_activation.py). The last layer that went forward
    keeps its own until the next one does, and into the next step.
    """
    most = max((layer.ffn.per_token for layer in layers if isinstance(layer.ffn, MoeFfn)), default=0)
    shards = layout.tensor if recipe.sequence_parallel else 1
    return recipe.each * model.hidden_size * most / shards if recipe.zero_memory_layers and most > 1 else 0.0


def backward_parts(
    model: ModelConfig,
    layers: Sequence[Layer],
    kept: Sequence[tuple[Saved, ...]],
    layout: Layout,
    recipe: Recipe,
    tokens: float,
    recomputed: int,
) -> list[MemoryPart]:
    """Gradients of one layer's widest pair of tensors, and what recomputing it brings back."""
    hidden = recipe.each * model.hidden_size
    widest = max(max((item.nbytes for item in items), default=0.0) for items in kept)
    second = max(sorted((item.nbytes for item in items), reverse=True)[1] if len(items) > 1 else 0.0 for items in kept)
    made = not recipe.lora_rank and not (recipe.transformer_engine and recipe.fused_gradients)
    largest = 0 if not made else _largest_product(model, layers, layout, recipe)
    parts = [
        MemoryPart(
            "gradients of activations",
            round(tokens * (widest + second + hidden)),
            f"({widest:,.0f} + {second:,.0f} + {hidden:,.0f}) B a token: of the two widest tensors and the residual",
        ),
        MemoryPart(
            ONE_WEIGHT,
            recipe.each * largest,
            f"{recipe.each} B x {largest:,} before it is added to its buffer",
        ),
    ]
    if recomputed:
        return [*parts, recomputed_layer(kept, tokens)]
    most = max(sum(item.nbytes for item in items if made_anew(item, recipe)) for items in kept)
    if most:
        parts.append(
            MemoryPart("recomputed tensors", round(tokens * most), f"{most:,.0f} B a token of one layer at a time")
        )
    if recipe.swap_attention or recipe.swap_attended:
        back = sorted((sum(item.nbytes for item in items if swapped(item, recipe)) for items in kept), reverse=True)
        brought = sum(back[:BROUGHT_BACK])
        parts.append(
            MemoryPart(
                "attention brought back",
                round(tokens * brought),
                f"{brought:,.0f} B a token of a layer and the next one",
            )
        )
    if recipe.zero_memory_layers:
        most = max(sum(item.nbytes for item in items if of_experts(item)) for items in kept)
        parts.append(MemoryPart("experts again", round(tokens * most), f"{most:,.0f} B a token of one layer"))
        output = hosted_output(model, layers, layout, recipe)
        parts.append(
            MemoryPart(
                "outputs of experts",
                round(3 * tokens * output),
                f"3 x {output:,.0f} B a token: back from the host, its gradient, and that of the last layer forward",
            )
        )
    if recipe.recompute_attention:
        again = max(sum(item.nbytes for item in items if item.softmax or item.attended) for items in kept)
        parts.append(MemoryPart("attention again", round(tokens * again), f"{again:,.0f} B a token of one layer"))
    return parts


def _largest_product(model: ModelConfig, layers: Sequence[Layer], layout: Layout, recipe: Recipe) -> int:
    """Elements of the largest weight of one product on a rank: of all its experts at once where they are grouped."""
    numbers, sizes = {layer.index for layer in layers}, dict[tuple[int | None, str], int]()
    for item in _weights(model):
        if item.linear and item.layer in numbers:
            grouped = recipe.grouped_experts and item.group is WeightGroup.EXPERTS
            each = 1 if grouped else max(1, -(-item.copies // layout.expert))
            key = item.layer, parameter_of(item)
            sizes[key] = sizes.get(key, 0) + rank_elements(item, layout) // each
    return max(sizes.values(), default=0)


def recomputed_layer(kept: Sequence[tuple[Saved, ...]], tokens: float) -> MemoryPart:
    """All that a layer made anew keeps, of the one that keeps most."""
    most = max(sum(item.nbytes for item in items) for items in kept)
    return MemoryPart("recomputed layer", round(tokens * most), f"{most:,.0f} B a token of one layer at a time")


def tied_head(model: ModelConfig, layout: Layout, recipe: Recipe) -> MemoryPart:
    """Where head and embedding are one weight on one rank, autograd adds both gradients up before it hands them on."""
    table = model.vocab_size * model.hidden_size // layout.tensor
    each = recipe.each
    return MemoryPart("gradient of the head", each * table, f"{each} B x {table:,}, until the embedding's joins it")


def embedding_parts(model: ModelConfig, layout: Layout, recipe: Recipe, freed: int) -> list[MemoryPart]:
    """
    By then the pass that reaches the embedding has freed its activations, `freed` bytes.

    A float32 gradient is its own accumulator.
    """
    table = model.vocab_size * model.hidden_size // layout.tensor
    parts = [
        MemoryPart("freed activations", -freed, "of the pass that has come back to the embedding"),
        MemoryPart("gradient of the embedding", recipe.each * table, f"{recipe.each} B x {table:,}"),
    ]
    if not recipe.float32:
        wide = f"4 B x {table:,}: EmbeddingDenseGrad's workspace"
        parts.append(MemoryPart("its float32 accumulator", _SINGLE * table, wide))
    return parts


_LOSSES = {
    Loss.IN_PLACE: (1, "float32 copy of the logits, whose 16-bit gradient takes the place of the logits"),
    Loss.COPIED: (2, "float32 copy of the logits, and another less their maximum"),
    Loss.COMPILED: (2, "float32 copy of the logits, and its compiled gradient"),
    Loss.TE: (0, "none, as the gradient takes the place of the logits"),
    Loss.EAGER: (3, "float32 logarithms of the softmax, their gradient and the logits'"),
}
"""Float32 copies of the logits that are alive at once."""
_SPREAD_LOSS = (4, "float32 logarithms of the softmax, their gradient, the softmax and both together")
"""The same of PyTorch's `loss_parallel`, whose way back is written out op by op (`tensor/parallel/loss.py`)."""
_PIECES = 8
"""In how many pieces losses work that do so: the default of torchtune's and torchtitan's chunked ones."""
_CHUNKED = (Loss.INDUCTOR, Loss.CHUNKED, Loss.PIECES)


def _pieces(recipe: Recipe) -> int:
    """In how many pieces the loss makes the gradient of the logits."""
    return _PIECES if recipe.loss in (Loss.CHUNKED, Loss.PIECES) else 1


def _chunked_loss(recipe: Recipe, logits: float, *, spread: bool) -> list[MemoryPart]:
    """Of so many `logits` what PyTorch's loss holds whose kernels are compiled, or which works piece by piece."""
    if spread and recipe.loss is not Loss.PIECES:
        raise InputError("a loss of a spread vocabulary is not modelled with --loss {}", recipe.loss.value)
    compiled = recipe.loss is Loss.INDUCTOR or recipe.compiled_layers
    pieces = _pieces(recipe)
    kept = recipe.each * logits / (pieces if recipe.loss is Loss.PIECES else 1)
    what = f"{recipe.each} B a token and vocabulary entry"
    if compiled and not spread:
        made, how = recipe.each * logits / pieces, f"{recipe.each} B: the gradient"
    else:
        copies, how = _SPREAD_LOSS if spread else _LOSSES[Loss.EAGER]
        if recipe.loss is Loss.CHUNKED:
            # Logarithms of every piece are kept in the place of its logits.
            kept, copies, what = _SINGLE * logits, copies - 1, f"{_SINGLE} B: float32 logarithms of the softmax"
        made = copies * _SINGLE * logits / pieces
    of = f", of one of {pieces} pieces" if pieces > 1 else ""
    return [
        MemoryPart("logits", round(kept), what + (of if recipe.loss is Loss.PIECES else "")),
        MemoryPart("loss", round(made), how + of),
    ]


def loss_parts(model: ModelConfig, layout: Layout, recipe: Recipe, tokens: float) -> list[MemoryPart]:
    """What is alive of the logits when their gradient is made, and what the head keeps."""
    width = model.hidden_size / (layout.tensor if recipe.sequence_parallel else 1)
    steps = (0 if recipe.float32 else _SINGLE) + recipe.each
    each = recipe.each + (steps if recipe.norms_in_steps else 0)
    read = MemoryPart(
        "last norm", round(tokens * each * width), f"{each} B x {width:,.0f} a token, which the head reads"
    )
    if recipe.loss is Loss.FUSED:
        return [read]
    logits = tokens * model.vocab_size / layout.tensor
    if recipe.loss in _CHUNKED:
        return [read, *_chunked_loss(recipe, logits, spread=layout.tensor > 1)]
    copies, what = _SPREAD_LOSS if recipe.loss is Loss.EAGER and layout.tensor > 1 else _LOSSES[recipe.loss]
    if recipe.float32 and recipe.loss not in (Loss.EAGER, Loss.TE):
        copies, what = copies - 1, "the first float32 copy are the logits themselves"
    further = len(model.predictions)
    each = recipe.held_logits if recipe.loss is Loss.EAGER else recipe.each
    parts = [
        read,
        MemoryPart("logits", round(each * logits), f"{each} B a token and vocabulary entry"),
        MemoryPart("loss", round(copies * _SINGLE * logits), f"{copies * _SINGLE} B: {what}"),
    ]
    if recipe.capped_logits:
        nbytes = round(recipe.each * logits)
        parts.append(MemoryPart("tanh of the logits", nbytes, f"{recipe.each} B: what bounds them, for the way back"))
    waits = recipe.each if recipe.loss is Loss.TE else _SINGLE
    if further:
        nbytes = round(further * waits * logits)
        parts.append(
            MemoryPart("losses of further tokens", nbytes, f"{waits} B of each of {further}, until their way back")
        )
    if recipe.forward_passes_first(layout.pipeline) and recipe.micro_batches > 1:
        waiting = recipe.micro_batches - 1
        nbytes = round(waiting * waits * logits)
        parts.append(MemoryPart("losses that wait", nbytes, f"{waits} B of each of {waiting} micro-batches"))
    return parts


def freed_logits(model: ModelConfig, layout: Layout, recipe: Recipe, tokens: float) -> int:
    """
    Bytes of the block that 16-bit logits leave in PyTorch's allocator where a loop lets them go.

    All that an `eager` loss asks for later is in float32, twice as large, so that none of it fits there.
    """
    if recipe.loss is not Loss.EAGER or recipe.float32 or recipe.held_logits == recipe.each:
        return 0
    return round(recipe.each * tokens * model.vocab_size / layout.tensor)


def head_parts(model: ModelConfig, layout: Layout, recipe: Recipe, tokens: float) -> list[MemoryPart]:
    """
    What is alive when the way back has come through the head, whose gradient autograd makes before it is added up;
    empty where products add it up themselves, where it waits, and where the loss is fused with it.
    """
    fused = recipe.transformer_engine and recipe.fused_gradients
    if fused or recipe.lora_rank or recipe.loss is Loss.FUSED or (recipe.deferred_head and layout.pipeline > 1):
        return []
    table = model.vocab_size * model.hidden_size // layout.tensor
    logits = round(recipe.each * tokens * model.vocab_size / layout.tensor / _pieces(recipe))
    hidden = round(recipe.each * tokens * model.hidden_size)
    return [
        MemoryPart("gradient of the logits", logits, f"{recipe.each} B a token and vocabulary entry"),
        MemoryPart(
            "input of the head and its gradient", 2 * hidden, f"2 x {recipe.each} B x {model.hidden_size:,} a token"
        ),
        MemoryPart("gradient of the head", recipe.each * table, f"{recipe.each} B x {table:,}"),
    ]


def deferred_head(model: ModelConfig, layout: Layout, recipe: Recipe, tokens: float) -> MemoryPart:
    """What waits on a pipeline's last stage for the head's weight gradient, with `tokens` a micro-batch and rank."""
    waiting = min(recipe.deferred_head, recipe.micro_batches)
    each = tokens * (model.vocab_size / layout.tensor + model.hidden_size)
    formula = (
        f"{recipe.each} B x {each:,.0f} of each of {waiting} micro-batches: the head's input and its outputs' gradient"
    )
    return MemoryPart("head's gradient that waits", round(waiting * recipe.each * each), formula)


_JOINED = {"gate_proj": "up_proj", "q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
"""Projections that are one parameter in Megatron."""


def parameter_of(item: Weight) -> str:
    """The name of the parameter that a weight is, or is a part of."""
    name = item.own_name
    return item.name.removesuffix(name) + _JOINED.get(name, name)


ROWS_SPLIT = frozenset({"o_proj", "out_proj", "o_b_proj", "down_proj"})
"""Projections whose inputs are spread over the tensor-parallel ranks, not their outputs."""


def linear_shapes(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> set[tuple[int, int]]:
    """Rows and columns of the weights of products on one rank that holds the layers of `spans`, each shape once."""
    rows: dict[tuple[int | None, str, int], int] = {}
    last = any(span.stop == len(model.layers) for span in spans)
    for item, count in trained_weights(model, layout, spans):
        tied = item.group is WeightGroup.EMBEDDING and item.name == "embed_tokens" and model.tied_embeddings
        product = item.linear or item.group is WeightGroup.LM_HEAD or (tied and last)
        if not product or len(item.shape) != _MATRIX:
            continue
        if item.group in (WeightGroup.ROUTER, WeightGroup.VISION):
            continue
        one = count // max(1, -(-item.copies // layout.expert))
        columns = one // item.shape[0] if item.own_name in ROWS_SPLIT else item.shape[1]
        key = item.layer, parameter_of(item), columns
        rows[key] = rows.get(key, 0) + one // columns
    return {(height, columns) for (_, _, columns), height in rows.items()}


def _largest_piece(
    model: ModelConfig,
    layout: Layout,
    recipe: Recipe,
    spans: tuple[range, ...],
    *,
    experts: bool,
    ranks: int,
) -> int:
    """
    Elements of the largest parameter, or piece of one, of which a rank has the states that `ranks` may divide.

    Parameters stand one behind the other in a buffer, the last one first, which is cut into as many equal shares as
    there are ranks (Megatron's `param_and_grad_buffer`); those of experts have a buffer of their own, in which a
    rank's experts of a layer are one parameter if their products are grouped.
    """
    grouped = recipe.grouped_experts or not experts
    sizes: dict[tuple[int | None, str], int] = {}
    copies: dict[tuple[int | None, str], int] = {}
    for item, count in trained_weights(model, layout, spans):
        still = item.group is WeightGroup.VISION and recipe.frozen_vision
        if (item.group is WeightGroup.EXPERTS) is experts and not still:
            key = item.layer, parameter_of(item)
            sizes[key] = sizes.get(key, 0) + count
            copies[key] = 1 if grouped else -(-item.copies // layout.expert)
    share = max(1, -(-sum(sizes.values()) // (ranks if recipe.sharding is Sharding.DISTRIBUTED else 1)))
    largest = start = 0
    for size in (sizes[key] // copies[key] for key in reversed(sizes) for _ in range(copies[key])):
        stop = start + size
        before = min(size, share - start % share)
        whole = share if size - before >= share else 0
        largest = max(largest, before, whole, min(size - before, stop % share))
        start = stop
    return largest


def optimizer_parts(
    model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...], moments: int
) -> list[MemoryPart]:
    """
    Adam works on one parameter at a time, in place; before it a gradient may be clipped into a float32 copy, and
    moments in 16 bits are widened for it together with their gradient. Where it steps over lists it has a square root
    of each second moment, half of the `moments` bytes of both.
    """
    if recipe.foreach_optimizer:
        return [MemoryPart("list of denominators", moments // 2, "of as many values as one of the moments")]
    data_ranks, expert_ranks = sharing_ranks(layout, recipe.optimizer_instances)
    largest = max(
        _largest_piece(model, layout, recipe, spans, experts=False, ranks=data_ranks),
        _largest_piece(model, layout, recipe, spans, experts=True, ranks=expert_ranks),
    )
    each = _SINGLE * (3 if recipe.half_moments else 1 if recipe.clip_copies else 0)
    return [
        MemoryPart(
            "parameter being updated", each * largest, f"{each} B x {largest:,}: the largest of the rank's share"
        ),
    ]
