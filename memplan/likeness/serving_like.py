"""A prefill or decode step from its kernels: tokens, sequences, and how products are divided among ranks."""

from __future__ import annotations

from collections import Counter

from memplan.core.errors import InputError
from memplan.likeness.kernel_kinds import KernelSteps
from memplan.likeness.layout_like import place_in_layout
from memplan.likeness.model_products import layer_products, plain_dtype
from memplan.likeness.setting import LikeSettings
from memplan.likeness.training_shapes import held_experts, makes_logits, norm_rows
from memplan.models.architecture import ModelConfig
from memplan.models.precision import precision_names
from memplan.schema import Certainty
from memplan.traces.parallel_groups import ParallelGroups

_RANKS = (1, 2, 4, 8, 16, 32)


def serving_like(
    model: ModelConfig, step: KernelSteps, groups: ParallelGroups, rank: int, settings: LikeSettings
) -> None:
    """Find out which step of `model` the kernels of `step` are."""
    rows, sampled = norm_rows(model, step), _sampled_rows(model, step)
    if rows is None:
        raise InputError(
            f"no norm that the profile holds is as wide as {model.name} ({model.hidden_size:,})",
            remedy="give the config.json of the model that ran",
        )
    _products(model, step, settings)
    _phase(rows, sampled, settings)
    experts = held_experts(step)
    if model.experts is not None and experts and model.experts.experts % experts == 0:
        settings.put("ep", model.experts.experts // experts, f"{experts} of {model.experts.experts} experts a rank")
    if "dp" not in settings and "ep" in settings and settings.get("ep") > 1 and "tp" in settings:
        replicas = max(1, settings.get("ep") // settings.get("tp"))
        settings.put("dp", replicas, "engines share experts among the ranks of all replicas", Certainty.LIKELY)
    for name in ("tp", "pp", "dp", "cp", "ep"):
        if name not in settings:
            settings.put(name, 1, "nothing in the profile tells it", Certainty.ASSUMED)
    place_in_layout(groups, rank, settings)
    if "stage" not in settings:
        settings.put("stage", 0, "nothing in the profile tells it", Certainty.ASSUMED)
    _sequences(model, step, rows, sampled, settings)


def _products(model: ModelConfig, step: KernelSteps, settings: LikeSettings) -> None:
    """The division and the precision under which the model's products are those that ran."""
    found = {
        (kind.product[1], kind.product[2], plain_dtype(kind.dtypes[0]))
        for kind, _ in step.counted()
        if kind.product is not None and kind.dtypes
    }
    shapes = {item[:2] for item in found}
    best = (0.0, 0, 0.0, "")
    for ranks in (settings.get("tp"),) if "tp" in settings else _RANKS:
        for order, name in enumerate(precision_names()):
            try:
                expected = layer_products(model, ranks, name)
            except InputError:
                continue
            same = len({item[:2] for item in expected} & shapes) / max(1, len(expected))
            typed = len(expected & found) / max(1, len(expected))
            if (same, -ranks, typed) > best[:3] and (typed or not order):
                best = same, -ranks, typed, name
    same, ranks, typed, name = best
    if not same:
        settings.contradictions.append(f"none of the products that ran is one of {model.name} as it is published")
        return
    sure = Certainty.FOLLOWS if same > 0.6 else Certainty.LIKELY
    settings.put("tp", -ranks, f"{same:.0%} of a layer's weights have their shapes on so many ranks", sure)
    if typed:
        settings.put("weights", name, f"{typed:.0%} of a layer's products read the types it says", Certainty.LIKELY)


def _phase(rows: int, sampled: int | None, settings: LikeSettings) -> None:
    decode = sampled is None or sampled >= rows
    why = f"{rows:,} tokens a step, {'no' if sampled is None else f'{sampled:,}'} of them sampled"
    settings.put(
        "phase", "decode" if decode else "prefill", why, Certainty.LIKELY if sampled is None else Certainty.FOLLOWS
    )


def _sampled_rows(model: ModelConfig, step: KernelSteps) -> int | None:
    """Rows that logits are made of."""
    rows = Counter[int]()
    for kind, number in step.counted():
        found = kind.product
        if found is not None and makes_logits(kind, model):
            rows[found[0]] += number
    return max(rows, key=lambda row: rows[row], default=None)


def _sequences(model: ModelConfig, step: KernelSteps, rows: int, sampled: int | None, settings: LikeSettings) -> None:
    data = settings.get("dp")
    if "sequence_parallel" not in settings:
        spread = sampled is not None and settings.get("tp") > 1 and rows * settings.get("tp") == sampled
        settings.put("sequence_parallel", spread, "norms see all tokens" if not spread else f"norms of {rows:,} rows")
    tokens = rows * (settings.get("tp") if settings.get("sequence_parallel") else 1)
    if settings.get("phase") == "decode":
        drafts = _drafts(model, step)
        if model.mtp_layers:
            settings.put("mtp", drafts, f"{drafts} joins of token and hidden state a step", Certainty.LIKELY)
        each = 1 + (settings.get("mtp") if "mtp" in settings else settings.take("mtp") or 0)
        settings.put("batch", max(1, tokens // each) * data, f"{tokens:,} tokens a step on each of {data} replicas")
    else:
        number = sampled or 1
        settings.put("batch", number * data, f"{number:,} rows sampled on each of {data} replicas")
        settings.put(
            "context", max(1, tokens // number), f"{tokens:,} tokens of {number:,} sequences", Certainty.LIKELY
        )


def _drafts(model: ModelConfig, step: KernelSteps) -> int:
    """Runs of multi-token prediction for one run of the head on the verified tokens."""
    width = model.hidden_size
    joins = step.count(lambda kind: kind.product is not None and kind.product[1:] == (width, 2 * width))
    heads = step.count(lambda kind: makes_logits(kind, model))
    return round(joins / (heads - joins)) if joins and heads > joins else 0
