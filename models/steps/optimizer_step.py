"""
The end of a training step: gradients summed over the replicas, Adam on the rank's share, weights gathered again.

Gradients lie in buckets, one behind the other, the last registered weight first; with a shared optimiser each rank
updates an equal part of every bucket, whatever weights it cuts through (Megatron-LM core/distributed
param_and_grad_buffer.py and core/optimizer/distrib_optimizer.py, DeepSpeed's flat partitions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from memplan.graph import TensorKind, dense_bytes
from memplan.models.steps.emit import StepEmitter
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.step_recipe import Recipe

_STATES = ("master", "exp_avg", "exp_avg_sq")


def optimise(e: StepEmitter, buffers: Mapping[int, int], recipe: Recipe, *, stage: int, data_rank: int) -> None:
    """Ops that end the step of data-parallel rank `data_rank`; `buffers` holds the gradient of each weight."""
    shares = recipe.sharding is not Sharding.NONE
    buckets = _buckets(e, buffers, stage)
    groups = {name: _replicas(e, name, data_rank) for name in buckets}
    e.phase = "grad_sync"
    for name, weights in buckets.items():
        group, replicas, _ = groups[name]
        if replicas > 1:
            gradients = [buffers[weight] for weight in weights]
            kind = "ReduceScatter" if shares else "AllReduce"
            e.op(f"{name}.exchange", kind, gradients, gradients, rank_size=replicas, group=group)
    if "embedding" in buckets:
        # Both stages that hold the tied matrix need the sum of their gradients.
        for weight in buckets["embedding"]:
            gradient = buffers[weight]
            e.op("embedding.tie", "AllReduce", (gradient,), (gradient,), rank_size=2, group="embd")
    e.phase = "optimizer"
    owned = [
        (weight, own)
        for name, weights in buckets.items()
        for weight, own in _owned(e, weights, *_part_of(groups[name], shares))
    ]
    gradients = [own_gradient(e, weight, buffers[weight], own, recipe) for weight, own in owned]
    # Weights that decay are one group of parameters, vectors that don't are another (get_param_groups).
    for (weight, own), gradient in sorted(
        zip(owned, gradients, strict=True), key=lambda item: len(e.shape(item[0][0])) < 2
    ):
        update(e, weight, gradient, own, recipe)
    for name, weights in buckets.items():
        group, replicas, _ = groups[name]
        if shares and replicas > 1:
            whole = [e.view(f"{e.graph.names[weight]}.gathered", weight, e.shape(weight)) for weight in weights]
            e.op(f"{name}.gather", "AllGather", weights, whole, rank_size=replicas, group=group)


def _buckets(e: StepEmitter, buffers: Mapping[int, int], stage: int) -> dict[str, list[int]]:
    """
    Weights by bucket; a matrix that the first and the last stage share has one of its own, and so have experts that
    ranks share: fewer ranks repeat them.

    The last stage registers its copy of the shared matrix as its head, behind its layers, so that there it comes first.
    """
    weights = sorted(buffers, key=lambda weight: _registered(e, weight), reverse=True)
    tied = e.model.tied_embeddings and e.layout.pipeline > 1 and stage in (0, e.layout.pipeline - 1)
    alone = [weight for weight in weights if tied and e.graph.names[weight] == "embed_tokens"]
    experts = [weight for weight in weights if e.layout.expert > 1 and _is_expert(e, weight)]
    found = {"weights": [weight for weight in weights if weight not in alone and weight not in experts]}
    if experts:
        found["experts"] = experts
    if alone:
        found = {"embedding": alone, **found} if stage > 0 else {**found, "embedding": alone}
    return found


def _is_expert(e: StepEmitter, weight: int) -> bool:
    return e.op_scope(e.graph.names[weight]).part.startswith("experts.")


def _replicas(e: StepEmitter, bucket: str, data_rank: int) -> tuple[str, int, int]:
    """The group of ranks that repeat the weights of a bucket, how many they are, and which of them the rank is."""
    replicas = e.layout.data * e.layout.context
    if bucket != "experts":
        return "dp", replicas, data_rank
    repeated = max(1, replicas * e.tensor // e.layout.expert_ranks)
    return "edp", repeated, data_rank * e.tensor // e.layout.expert_ranks % repeated


def _part_of(group: tuple[str, int, int], shares: bool) -> tuple[int, int]:
    """Which part of how many a rank of a group updates."""
    _, replicas, rank = group
    return (rank, replicas) if shares else (0, 1)


def _registered(e: StepEmitter, weight: int) -> tuple[int, int, int]:
    """
    Where a weight stands among the model's.

    That is the order of use, but an attention module has its output projection before the joint one.
    """
    scope = e.op_scope(e.graph.names[weight])
    if scope.layer is None:
        return (-1 if scope.part == "embed_tokens" else 1 << 30, 0, weight)
    return scope.layer, 0 if scope.part == "norm.0" else 1 if scope.part == "o_proj" else 2, weight


def _owned(e: StepEmitter, weights: Sequence[int], rank: int, ranks: int) -> list[tuple[int, int]]:
    """Weights of a bucket with how many of their elements lie in the part of `rank`."""
    sizes = [prod(e.shape(weight)) for weight in weights]
    part = -(-sum(sizes) // ranks)
    begin, end, place, found = rank * part, (rank + 1) * part, 0, []
    for weight, size in zip(weights, sizes, strict=True):
        own = min(place + size, end) - max(place, begin)
        if own > 0:
            found.append((weight, own))
        place += size
    return found


def own_gradient(e: StepEmitter, weight: int, buffer: int, own: int, recipe: Recipe) -> int:
    """
    The gradient of `own` elements of a weight as Adam reads it.

    Of one in 16 bits that is a float32 copy, and all of them are made before any is read (Megatron-LM's
    `_copy_model_grads_to_main_grads`); with moments in 16 bits Adam takes it as it is.
    """
    name, kind = e.graph.names[weight], e.graph.dtypes[buffer]
    gradient = e.view(f"{name}.own", buffer, (own,), dense_bytes((own,), kind))
    if kind == "float32" or recipe.half_moments:
        return gradient
    wide = e.act(f"{name}.own.float32", (own,), "float32")
    e.op(f"{name}.own.cast", "Cast", (gradient,), (wide,))
    return wide


def update(e: StepEmitter, weight: int, gradient: int, own: int, recipe: Recipe) -> None:
    """
    Adam of `own` elements of a weight, whose float32 states are of those alone.

    Where the weight itself is the upper half of its float32 original, the other half stands beside it (MindSpeed's
    `--reuse-fp32-param`); a float32 weight is its own original.
    """
    name = e.graph.names[weight]
    single = e.graph.dtypes[weight] == "float32"
    states: list[int] = [weight] if single else []
    if not recipe.swap_optimizer:
        for label in _STATES[single:]:
            kind = e.dtype if recipe.half_moments and label != "master" else "float32"
            if recipe.reuse_fp32 and label == "master":
                label, kind = "residual", "int16"
            nbytes = dense_bytes((own,), kind)
            states.append(e.graph.tensor(f"{name}.{label}", (own,), kind, nbytes, TensorKind.OPTIMIZER_STATE))
    new = () if single else (e.view(f"{name}.new", weight, e.shape(weight)),)
    # Moments in 16 bits and their gradient are widened for it.
    widened = 3 * dense_bytes((own,), "float32") if recipe.half_moments else 0
    e.graph.op(
        f"{name}.adam",
        "ApplyAdamW",
        (*states, gradient),
        (*states, *new),
        stream=e.stream,
        workspace_bytes=widened,
        scope=e.op_scope(f"{name}.adam"),
    )
