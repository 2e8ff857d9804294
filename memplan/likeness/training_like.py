"""The recipe of a training step from its kernels, or from its traffic between ranks where there are no kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.likeness.layout_like import place_in_layout, stage_by_order
from memplan.likeness.pass_like import passes_like, schedule_like
from memplan.likeness.setting import LikeSettings
from memplan.likeness.training_shapes import TrainingShapes, tensor_ranks
from memplan.models.architecture import ModelConfig
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.parallel import Layout, sharing_ranks, stage_spans
from memplan.models.training.recipe_choices import Schedule, Sharding
from memplan.models.training.states import held_elements
from memplan.schema import Certainty
from memplan.traces.parallel_groups import ParallelGroups
from memplan.traces.profile import LinkTraffic

_HALF = 2
_NEAR = 0.03
"""How far the optimiser's elements may lie from a rank's share, for padding of buckets."""
_MOST_RANKS = 1024
_STAGE_LAYERS = ("stage_layers", "first_stage_layers", "last_stage_layers")


def training_like(
    model: ModelConfig,
    shapes: TrainingShapes | None,
    links: Sequence[LinkTraffic],
    groups: ParallelGroups,
    rank: int,
    settings: LikeSettings,
) -> None:
    """Find out how `model` was trained; `shapes` are those of the rank's kernels, `None` where it has none."""
    if shapes is not None:
        if shapes.shaped and shapes.norm_rows is None and (shapes.norms[0] or shapes.attention is None):
            raise InputError(
                "no norm that the profile holds is as wide as {} ({:,})",
                model.name,
                model.hidden_size,
                remedy="give the config.json of the model that ran",
            )
        _tensor_ranks(model, shapes, settings)
        _context_ranks(model, shapes, settings)
        _tokens(shapes, settings)
        passes_like(model, shapes, settings)
        _experts(model, shapes, settings)
    _transferred(model, links, settings)
    for name, what in (
        ("tp", "no product is divided"),
        ("pp", "nothing is sent to another stage"),
        ("cp", "no group of it"),
        ("ep", "no group of it"),
    ):
        if name not in settings:
            settings.put(name, 1, f"{what} as far as the profile tells", Certainty.ASSUMED)
    if shapes is not None:
        _replicas(model, shapes, settings)
    if "dp" not in settings:
        # So many replicas at least are needed for experts to be dealt over their ranks.
        least = max(1, settings.get("ep") // (settings.get("tp") * settings.get("cp")))
        settings.put("dp", least, "nothing in the profile tells it", Certainty.ASSUMED)
    place_in_layout(groups, rank, settings)
    _stage(model, shapes, rank, settings)
    _recipe(model, shapes, settings)
    _samples(settings)


def _tensor_ranks(model: ModelConfig, shapes: TrainingShapes, settings: LikeSettings) -> None:
    ranks = None if shapes.attention is None else tensor_ranks(model, shapes.attention)
    if shapes.attention is None or ranks is None:
        return
    each = shapes.attention.heads
    settings.put("tp", ranks, f"attention of {each} heads a rank; the model has {ranks * each}")


def _tokens(shapes: TrainingShapes, settings: LikeSettings) -> None:
    context = settings.get("cp") if "cp" in settings else 1
    if shapes.attention is None:
        if shapes.norm_rows is not None:
            spread = settings.get("tp") if "sequence_parallel" in settings and settings.get("sequence_parallel") else 1
            _one_sample(shapes.norm_rows * spread * context, f"norms of {shapes.norm_rows:,} rows", settings)
        return
    attention = shapes.attention
    if attention.sequences is None:
        _one_sample(attention.tokens * context, f"attention over {attention.tokens:,} tokens packed into one", settings)
    else:
        settings.put("micro_batch", attention.sequences, f"attention over {attention.sequences} sequences at once")
        times = f" on each of {context} context-parallel ranks" if context > 1 else ""
        settings.put("context", attention.tokens * context, f"attention of {attention.tokens:,} queries{times}")
    if "sequence_parallel" not in settings and "tp" in settings and settings.get("tp") > 1 and shapes.norm_rows:
        tokens, ranks = (attention.sequences or 1) * attention.tokens, settings.get("tp")
        if shapes.norm_rows in (tokens, tokens // ranks):
            settings.put(
                "sequence_parallel",
                shapes.norm_rows != tokens,
                f"norms of {shapes.norm_rows:,} rows, {tokens:,} tokens",
            )


def _one_sample(tokens: int, evidence: str, settings: LikeSettings) -> None:
    """Samples and tokens of each can't be told apart: one sample, unless it is given how many."""
    size = settings.take("micro_batch") or 1
    if "micro_batch" not in settings:
        settings.put("micro_batch", 1, f"{evidence}: how many samples they are is not told", Certainty.ASSUMED)
    settings.put("context", tokens // size, evidence, Certainty.LIKELY)


def _context_ranks(model: ModelConfig, shapes: TrainingShapes, settings: LikeSettings) -> None:
    """Keys and values that were gathered for fewer queries."""
    heads = next((layer.mixer for layer in model.layers if isinstance(layer.mixer, GroupedAttention)), None)
    if "cp" in settings or heads is None or shapes.keys_per_query is None or "tp" not in settings:
        return
    ranks = settings.get("tp")
    usual = max(1, heads.kv_heads // ranks) / (heads.heads / ranks)
    times = shapes.keys_per_query / usual
    if round(times) > 1 and abs(times - round(times)) < 0.01:
        settings.put("cp", round(times), f"attention reads {round(times)} times as many keys as it has queries")


def _experts(model: ModelConfig, shapes: TrainingShapes, settings: LikeSettings) -> None:
    if model.experts is None or not shapes.experts or "ep" in settings:
        return
    if model.experts.experts % shapes.experts == 0:
        settings.put(
            "ep", model.experts.experts // shapes.experts, f"{shapes.experts} of {model.experts.experts} experts a rank"
        )


def _transferred(model: ModelConfig, links: Sequence[LinkTraffic], settings: LikeSettings) -> None:
    """Tokens and micro-batches from what pipeline stages send each other: `tokens x hidden` in 16 bits each time."""
    sent = [link for link in links if "sendrecv" in link.op.lower() and link.transport != "LOCAL" and link.size]
    each = [link.size for link in sent if "-total" not in link.op]
    if not each:
        return
    unit = min(each)
    tokens, rest = divmod(unit, _HALF * model.hidden_size)
    if rest or not tokens:
        return
    evidence = f"{unit:,} B sent between pipeline stages at a time: {tokens:,} tokens of {model.hidden_size:,}"
    spread = settings.get("tp") if "sequence_parallel" in settings and settings.get("sequence_parallel") else 1
    context = settings.get("cp") if "cp" in settings else 1
    if "context" not in settings:
        _one_sample(tokens * spread * context, evidence, settings)
    total = max((link.size for link in sent if "-total" in link.op), default=0)
    if "micro_batches" not in settings and total and total % unit == 0:
        settings.put(
            "micro_batches",
            total // unit,
            f"{total:,} B sent to the other stage in pieces of {unit:,} B",
            Certainty.LIKELY,
        )


def _replicas(model: ModelConfig, shapes: TrainingShapes, settings: LikeSettings) -> None:
    """Replicas, and whether they share the optimiser's states, from how many elements one rank updates."""
    if not shapes.updated:
        return
    layers = settings.get("layers_of_stage") if "layers_of_stage" in settings else None
    layout = _layout(settings)
    best: tuple[float, int, Sharding] | None = None
    sizes = [settings.get("dp")] if "dp" in settings else [1 << power for power in range(11)]
    stages = [settings.get("stage")] if "stage" in settings else sorted({0, layout.pipeline // 2, layout.pipeline - 1})
    for size in sizes:
        for sharding in (Sharding.NONE, Sharding.DISTRIBUTED):
            if sharding is Sharding.NONE and size > 1 and "dp" not in settings:
                continue
            for stage in stages:
                expected = _updated(model, layout, size, sharding, stage, layers)
                miss = abs(expected - shapes.updated) / shapes.updated if expected else 1.0
                if best is None or miss < best[0] - 1e-9:
                    best = miss, size, sharding
    if best is None or best[0] > _NEAR:
        return
    _, size, sharding = best
    evidence = f"{shapes.updated:,} elements updated by {shapes.optimizer}"
    if "dp" not in settings and size > 1:
        settings.put("dp", size, f"{evidence}: the rank's share of its parameters")
    elif "dp" not in settings:
        settings.put(
            "dp", 1, f"{evidence}, all of the rank's: one replica, or some that share nothing (--dp, --sharding none)",
            Certainty.ASSUMED,
        )  # fmt: skip
    if size * layout.context == 1:
        settings.put("sharding", Sharding.DISTRIBUTED, "one replica: nothing to share", Certainty.ASSUMED)
    else:
        share = "a share" if sharding is Sharding.DISTRIBUTED else "all"
        settings.put("sharding", sharding, f"{evidence}, {share} of the rank's parameters")


def _updated(
    model: ModelConfig, layout: Layout, data: int, sharding: Sharding, stage: int, layers: int | None
) -> float:
    """Elements that one of `data` replicas updates on `stage`."""
    ranks = replace(layout, data=data)
    try:
        span = stage_spans(len(model.layers), _with_layers(model, ranks, stage, layers))[stage]
        dense, experts = held_elements(replace(model, mtp_layers=()), ranks, (span,))
    except InputError:
        return 0.0
    if sharding is Sharding.NONE:
        return dense + experts
    sharing, expert_sharing = sharing_ranks(ranks)
    return dense / sharing + experts / expert_sharing


def _layout(settings: LikeSettings) -> Layout:
    return Layout(
        tensor=settings.get("tp"),
        pipeline=settings.get("pp"),
        data=settings.get("dp") if "dp" in settings else 1,
        expert=settings.get("ep"),
        context=settings.get("cp"),
    )


def _with_layers(model: ModelConfig, layout: Layout, stage: int, layers: int | None) -> Layout:
    """`layout` with `layers` on `stage` where even stages would have another number."""
    if layers is None or len(stage_spans(len(model.layers), layout)[stage]) == layers:
        return layout
    told: list[int | None] = [None] * layout.pipeline
    told[stage] = layers
    return replace(layout, stage_layers=tuple(told))


def _stage(model: ModelConfig, shapes: TrainingShapes | None, rank: int, settings: LikeSettings) -> None:
    """The pipeline stage, and its layers where stages are uneven."""
    stages = settings.get("pp")
    if "stage" not in settings:
        found, evidence, certainty = *stage_by_order(rank, settings), Certainty.LIKELY
        if shapes is not None:
            if shapes.embeddings:
                found, evidence, certainty = 0, "tokens are looked up", Certainty.FOLLOWS
            elif shapes.heads:
                found, evidence, certainty = stages - 1, "logits are made", Certainty.FOLLOWS
            elif "layers_of_stage" in settings and "micro_batches" in settings:
                first = 0 if shapes.passes is None else shapes.passes.ahead or 0
                if 0 < first < settings.get("micro_batches") and 0 < stages - first < stages - 1:
                    found, certainty = stages - first, Certainty.FOLLOWS
                    evidence = f"{first} micro-batches go forward before the first comes back (1F1B)"
        settings.put("stage", found, evidence, certainty)
    elif shapes is not None and shapes.embeddings and settings.get("stage") != 0:
        settings.contradictions.append(f"stage is {settings.get('stage')}, but tokens are looked up as on the first")
    stage = settings.get("stage")
    if "layers_of_stage" not in settings or not 0 <= stage < stages:
        return
    layers, total = settings.get("layers_of_stage"), len(model.layers)
    if stages == 1 and layers != total:
        settings.contradictions.append(f"the step goes through {layers} layers, the model has {total}")
        return
    even = _with_layers(model, _layout(settings), stage, layers)
    if even.stage_layers and not settings.given(*_STAGE_LAYERS):
        text = ",".join("" if count is None else str(count) for count in even.stage_layers)
        settings.put("stage_layers", text, f"{layers} layers on stage {stage}; the other stages share the rest")


def _recipe(model: ModelConfig, shapes: TrainingShapes | None, settings: LikeSettings) -> None:
    """Recomputation, schedule and what else a recipe holds."""
    if shapes is not None and shapes.backward:
        layers = settings.get("layers_of_stage") if "layers_of_stage" in settings else shapes.backward
        again = round(layers * (shapes.forward - shapes.backward) / shapes.backward)
        norms = shapes.norms[0] / shapes.norms[1] - 1 if shapes.norms[1] else 0.0
        told = f"{shapes.forward} attentions, {shapes.backward} gradients of it"
        if again > 0 and norms < again / layers / 2:
            why = f"{told}, but norms once: attention alone is computed again"
            settings.put("recompute_layers", 0, why)
            settings.put("recompute_attention", True, why)
        else:
            settings.put("recompute_layers", min(max(again, 0), layers), told)
        cheap = again <= 0 and shapes.gates[1] > 0 and shapes.gates[0] >= 1.5 * shapes.gates[1]
        settings.put(
            "recompute_cheap", cheap, f"{shapes.gates[0]} activation functions, {shapes.gates[1]} gradients of them"
        )
        schedule_like(shapes, settings)
    for name, value, why in (
        ("micro_batch", 1, ""), ("micro_batches", 1, "one a rank"), ("sequence_parallel", False, ""),
        ("sharding", Sharding.DISTRIBUTED, "Megatron's and MindSpeed's usual way"),
        ("schedule", Schedule.ONE_F_ONE_B, "Megatron's default"), ("recompute_layers", 0, ""),
        ("recompute_cheap", False, ""),
    ):  # fmt: skip
        if name not in settings:
            settings.put(name, value, f"nothing in the profile tells it{': ' + why if why else ''}", Certainty.ASSUMED)
    if "context" not in settings and settings.take("context") is None:
        raise InputError("the profile does not tell how long sequences of {} are", model.name, remedy="give --sequence")
    if shapes is not None and shapes.dtype is not None:
        settings.put("precision", shapes.dtype.removeprefix("DT_").lower(), "type of most matrix products")
    if shapes is not None and shapes.optimizer is not None:
        settings.put("optimizer", shapes.optimizer, "its kernels")


def _samples(settings: LikeSettings) -> None:
    """Samples of a step, which say how many micro-batches there are where they are given."""
    each = settings.get("micro_batch") * settings.get("dp")
    total = settings.take("global_batch")
    if total is None:
        settings.put("global_batch", each * settings.get("micro_batches"), "micro-batches of all replicas")
        return
    count, rest = divmod(total, each)
    if rest or not count:
        raise InputError("{} samples a step can't be divided into micro-batches of {} on all replicas", total, each)
    settings.correct("micro_batches", count, f"{total} samples a step, as given")
