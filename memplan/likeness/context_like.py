"""Tokens of a sequence where no shape tells them: as many as make attention take as long as it did."""

from __future__ import annotations

import math
from collections import Counter
from math import prod

import numpy as np

from memplan.core.units import format_duration
from memplan.hardware import Chip
from memplan.likeness.kernel_kinds import KernelKind, KernelSteps
from memplan.likeness.model_products import context_of
from memplan.likeness.setting import LikeSettings
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.precision import precision_names
from memplan.models.steps import Phase
from memplan.schema import Certainty
from memplan.traces.profile import Kernels

_CONTEXT = 4096
_APART = 0.3
"""How far, as a logarithm, a predicted length may lie from a power of two to be taken for it."""


def context_like(model: ModelConfig, kernels: Kernels, step: KernelSteps, chip: Chip, settings: LikeSettings) -> None:
    """How many tokens a decode step finds cached."""
    if settings.get("phase") != "decode" or settings.take("context") is not None:
        return
    taken = _attention_ns(kernels, step)
    layout = Layout(tensor=settings.get("tp"), data=settings.get("dp"), expert=settings.get("ep"))
    precision = settings.get("weights") if "weights" in settings else precision_names()[0]
    found = None
    if taken:
        found = context_of(model, layout, settings.get("batch"), precision, chip, taken, Phase.DECODE)
    if found is None:
        why = "kernels don't tell how long the sequences are: give --sequence"
        settings.put("context", _CONTEXT, why, Certainty.ASSUMED)
    else:
        why = f"attention takes {format_duration(round(taken))}, as predicted for so many tokens"
        settings.put("context", found, why, Certainty.LIKELY)


def trained_context_like(
    model: ModelConfig, kernels: Kernels, step: KernelSteps, chip: Chip, settings: LikeSettings
) -> None:
    """
    How many tokens a trained sequence has where kernels were recorded without shapes.

    That is a power of two if one is near enough; how many samples go through at once can't be told apart from that.
    """
    if settings.take("context") is not None:
        return
    taken = _attention_ns(kernels, step)
    if not taken:
        return
    ranks = settings.get("tp") if "tp" in settings else settings.take("tp") or 1
    size = settings.take("micro_batch") or 1
    found = context_of(model, Layout(tensor=ranks), size, precision_names()[0], chip, taken, Phase.PREFILL)
    if found is None:
        return
    whole = 1 << round(math.log2(found))
    if abs(math.log(found / whole)) > _APART:
        return
    settings.put(
        "micro_batch", size, "kernels have no shapes: how many samples they are of is not told", Certainty.ASSUMED
    )
    why = f"attention takes {format_duration(round(taken))}, as predicted for {found:,} tokens of {size} sample(s)"
    settings.put("context", whole, why, Certainty.LIKELY)


def _attention_ns(kernels: Kernels, step: KernelSteps) -> float:
    """
    The usual time of the attention that takes longest, 0 where there is none.

    Of steps of several kinds in one profile only the kind with most attentions counts: those of as many queries.
    """
    found = [(number, kind) for number, kind in enumerate(step.kinds) if kind.family == "attention"]
    counts = np.bincount(step.kind, minlength=len(step.kinds))
    queries = Counter[int]()
    for number, kind in found:
        queries[_queries(kind)] += int(counts[number])
    usual = max(queries, key=lambda size: (queries[size], -size), default=0)
    return max(
        (
            float(np.median(kernels.duration_ns[step.kind == number]))
            for number, kind in found
            if _queries(kind) == usual
        ),
        default=0.0,
    )


def _queries(kind: KernelKind) -> int:
    return prod(kind.inputs[0]) if kind.inputs else 0
