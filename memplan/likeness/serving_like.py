"""A prefill or decode step from its kernels: tokens, sequences, and how products are divided among ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set

from memplan.core.errors import InputError
from memplan.graph import DTYPE_BITS
from memplan.likeness.kernel_kinds import KernelSteps
from memplan.likeness.layout_like import place_in_layout
from memplan.likeness.model_products import layer_products, layer_weight_dtypes, plain_dtype
from memplan.likeness.setting import LikeSettings
from memplan.likeness.training_shapes import head_columns, held_experts, makes_logits, norm_rows
from memplan.models.architecture import ModelConfig
from memplan.models.precision import precision_names
from memplan.schema import Certainty
from memplan.traces.parallel_groups import ParallelGroups

_RANKS = (1, 2, 4, 8, 16, 32)
_UNDEFINED = "undefined"
_KEYS = 3
"""Axes of keys that are written to a cache: tokens, heads and what a head is wide."""


def serving_like(
    model: ModelConfig, step: KernelSteps, groups: ParallelGroups, rank: int, settings: LikeSettings
) -> None:
    """Find out which step of `model` the kernels of `step` are."""
    rows, sampled, cached = norm_rows(model, step), _sampled_rows(model, step), _cached_tokens(step)
    if rows is None:
        raise InputError(
            "no norm that the profile holds is as wide as {} ({:,})",
            model.name,
            model.hidden_size,
            remedy="give the config.json of the model that ran",
        )
    _products(model, step, settings)
    _phase(rows, sampled, cached, settings)
    experts = held_experts(step)
    if model.experts is not None and experts and model.experts.experts % experts == 0:
        settings.put("ep", model.experts.experts // experts, f"{experts} of {model.experts.experts} experts a rank")
    if "dp" not in settings and "ep" in settings and settings.get("ep") > 1 and "tp" in settings:
        replicas = max(1, settings.get("ep") // settings.get("tp"))
        settings.put("dp", replicas, "engines share experts among the ranks of all replicas", Certainty.LIKELY)
    for name in ("tp", "pp", "dp", "cp", "ep"):
        if name not in settings:
            settings.put(name, 1, "nothing in the profile tells it", Certainty.ASSUMED)
    _whole_shared(model, step, settings)
    place_in_layout(groups, rank, settings)
    if "stage" not in settings:
        settings.put("stage", 0, "nothing in the profile tells it", Certainty.ASSUMED)
    _sequences(model, step, rows, sampled, cached, settings)


def _products(model: ModelConfig, step: KernelSteps, settings: LikeSettings) -> None:
    """The division and the precision under which the model's products are those that ran."""
    found = {
        (kind.product[1], kind.product[2], plain_dtype(kind.dtypes[0]))
        for kind, _ in step.counted()
        if kind.product is not None and kind.dtypes
    }
    shapes = {item[:2] for item in found}
    weights = {
        plain_dtype(kind.dtypes[1])
        for kind, _ in step.counted()
        if kind.family in ("product", "grouped_product") and len(kind.dtypes) > 1
    }
    best = (0.0, 0, 0.0, 0.0, "")
    for ranks in (settings.get("tp"),) if "tp" in settings else _RANKS:
        fits = [item for name in precision_names() if (item := _fit(model, ranks, name, found, shapes, weights))]
        if not fits:
            continue
        # Shapes tell the ranks, the types of what is read the precision.
        same = max(item[0] for item in fits)
        typed, alike, _, name = max((item[1], item[2], -order, item[3]) for order, item in enumerate(fits))
        best = max(best, (same, -ranks, typed, alike, name))
    same, ranks, typed, _, name = best
    if not same:
        settings.contradictions.append(f"none of the products that ran is one of {model.name} as it is published")
        return
    sure = Certainty.FOLLOWS if same > 0.6 else Certainty.LIKELY
    settings.put("tp", -ranks, f"{same:.0%} of a layer's weights have their shapes on so many ranks", sure)
    if typed:
        settings.put("weights", name, f"{typed:.0%} of a layer's products read the types it says", Certainty.LIKELY)


def _fit(
    model: ModelConfig,
    ranks: int,
    name: str,
    found: Set[tuple[int, int, str]],
    shapes: Set[tuple[int, int]],
    weights: Set[str],
) -> tuple[float, float, float, str] | None:
    """Shares of a layer's products that ran, with their types, and of types of weights; `None` where none can be."""
    try:
        expected, read = layer_products(model, ranks, name), layer_weight_dtypes(model, ranks, name)
    except InputError:
        return None
    count = max(1, len(expected))
    # Profilers have no name for types of less than a byte.
    told = {_UNDEFINED if DTYPE_BITS.get(name, 8) < 8 and _UNDEFINED in weights else name for name in read}
    alike = len(told & weights) / max(1, len(told | weights))
    return len({item[:2] for item in expected} & shapes) / count, len(expected & found) / count, alike, name


def _whole_shared(model: ModelConfig, step: KernelSteps, settings: LikeSettings) -> None:
    """Whether each rank has the shared experts whole, where their products tell."""
    ranks, experts = settings.get("tp"), model.experts
    if "whole_shared" in settings or ranks == 1 or experts is None or not experts.shared_intermediate:
        return
    ran = {kind.product[1:] for kind, _ in step.counted() if kind.product is not None}
    columns = (2 if experts.gated else 1) * experts.shared_intermediate
    whole, split = ((columns // share, model.hidden_size) in ran for share in (1, ranks))
    if whole != split:
        settings.put(
            "whole_shared", whole, f"products of shared experts have {columns // (1 if whole else ranks):,} columns"
        )


def _phase(rows: int, sampled: int | None, cached: int | None, settings: LikeSettings) -> None:
    """
    Decode where every token is sampled but those that pad the step.

    Engines pad a step to a size that a captured graph or all ranks of a tensor-parallel group have; a prompt has two
    tokens or more, so that a step of fewer than two for each one sampled prefills nothing.
    """
    tokens = rows if cached is None else cached
    decode = sampled is None or tokens < 2 * sampled
    every = max(rows, sampled or 0, cached or 0)  # norms may see a share of them
    why = f"{every:,} tokens a step, {'no' if sampled is None else f'{sampled:,}'} of them sampled"
    if decode and sampled is not None and sampled < rows:
        why = f"{rows:,} rows a step, {sampled:,} of them sampled and the others padding"
    settings.put(
        "phase", "decode" if decode else "prefill", why, Certainty.LIKELY if sampled is None else Certainty.FOLLOWS
    )


def _cached_tokens(step: KernelSteps) -> int | None:
    """Tokens whose keys and values kernels write to the cache in one go; `None` where no kernel tells them."""
    written = Counter[int]()
    for kind, number in step.counted():
        if kind.family == "cache_write" and kind.inputs and len(kind.inputs[0]) == _KEYS:
            written[kind.inputs[0][0]] += number
    return max(written, key=lambda tokens: written[tokens], default=None)


def _sampled_rows(model: ModelConfig, step: KernelSteps) -> int | None:
    """Rows that logits are made of."""
    rows, heads = Counter[int](), head_columns(model, step)
    for kind, number in step.counted():
        found = kind.product
        if found is not None and found[1] in heads and makes_logits(kind, model):
            rows[found[0]] += number
    return max(rows, key=lambda row: rows[row], default=None)


def _sequences(
    model: ModelConfig,
    step: KernelSteps,
    rows: int,
    sampled: int | None,
    cached: int | None,
    settings: LikeSettings,
) -> None:
    data = settings.get("dp")
    if "sequence_parallel" not in settings:
        # More tokens than norms see: each rank has a share of them, the last of which may be padded.
        told = max(sampled or 0, cached or 0)
        seen = told if told > rows else _gathered_tokens(model, step, rows, settings.get("tp"))
        spread = rows < seen <= rows * settings.get("tp")
        settings.put("sequence_parallel", spread, "norms see all tokens" if not spread else f"norms of {rows:,} rows")
    tokens = rows * (settings.get("tp") if settings.get("sequence_parallel") else 1)
    if settings.get("phase") == "decode":
        drafts = _drafts(model, step)
        if model.mtp_layers:
            settings.put("mtp", drafts, f"{drafts} joins of token and hidden state a step", Certainty.LIKELY)
        each = 1 + (settings.get("mtp") if "mtp" in settings else settings.take("mtp") or 0)
        real = tokens if sampled is None else min(tokens, sampled)  # the others pad the step
        settings.put("batch", max(1, real // each) * data, f"{real:,} tokens a step on each of {data} replicas")
    else:
        number = sampled or 1
        settings.put("batch", number * data, f"{number:,} rows sampled on each of {data} replicas")
        settings.put(
            "context", max(1, tokens // number), f"{tokens:,} tokens of {number:,} sequences", Certainty.LIKELY
        )


def _gathered_tokens(model: ModelConfig, step: KernelSteps, rows: int, ranks: int) -> int:
    """
    Tokens of the layers' first products and of gates where these are all ranks' `rows`; 0 where none are.

    Gates of experts see a token as often as it is routed, and tell nothing.
    """
    found = Counter[int]()
    for kind, number in step.counted():
        if kind.product is not None and kind.product[2] == model.hidden_size:
            found[kind.product[0]] += number
        elif model.experts is None and kind.family == "gate" and kind.inputs and kind.inputs[0]:
            found[kind.inputs[0][0]] += number
    whole = {tokens: number for tokens, number in found.items() if rows * (ranks - 1) < tokens <= rows * ranks}
    return max(whole, key=lambda tokens: whole[tokens], default=0)


def _drafts(model: ModelConfig, step: KernelSteps) -> int:
    """Runs of multi-token prediction for one run of the head on the verified tokens."""
    width = model.hidden_size
    joins = step.count(lambda kind: kind.product is not None and kind.product[1:] == (width, 2 * width))
    columns = head_columns(model, step)
    heads = step.count(
        lambda kind: kind.product is not None and kind.product[1] in columns and makes_logits(kind, model)
    )
    return round(joins / (heads - joins)) if joins and heads > joins else 0
