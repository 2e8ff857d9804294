"""
The time of a step from a few layers of each kind: for searches that ask for hundreds of steps.

Layers that run the same ops take the same time, and a step is one layer after the other, so its time is linear in how
many there are of each kind: a model with two of each says what is between them, one with two more of a kind what a
layer of that kind takes. Pipeline stages share them evenly; what passes between stages is left out. Tests hold it
against `step_time`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace

from memplan.hardware import Chip
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving.constants import accepted
from memplan.serving.steptime import StepTime, step_time

_FEW, _MORE = 2, 2
_MOST_KINDS = 6
"""With more kinds of layers than this the whole model is as quick."""


@dataclass(frozen=True, slots=True)
class StepPoint:
    """
    A step in nanoseconds: how long it takes, how soon the next can start, and what of it the host takes however little
    there is to do. A sequence gets `yielded` tokens of it.
    """

    duration_ns: float
    pace_ns: float
    overhead_ns: float
    yielded: float


def fast_step(
    model: ModelConfig, layout: Layout, step: ServedStep, chip: Chip, *, acceptance: float | None, engine: str
) -> StepPoint:
    """`step` of `model` in `layout`, as `step_time` has it; raises `InputError` where that does."""
    kinds = [_kind(layer) for layer in model.layers]
    counts = Counter(kinds)
    short = {kind: min(count, _FEW) for kind, count in counts.items()}
    grown = [kind for kind, count in counts.items() if count > _FEW + _MORE]
    whole = len(counts) > _MOST_KINDS or not grown or model.attention_residuals
    if whole or any(layer.mixer is not None and layer.mixer.reads is not None for layer in model.layers):
        return _point(step_time(model, layout, step, chip, acceptance=acceptance, engine=engine))
    short |= {kind: count for kind, count in counts.items() if kind not in grown}
    stages, layout = layout.pipeline, replace(layout, pipeline=1, stage_layers=())

    def timed(taken: dict[Hashable, int]) -> StepTime:
        return step_time(_shortened(model, kinds, taken), layout, step, chip, acceptance=acceptance, engine=engine)

    base = timed(short)
    duration = float(base.duration_ns)
    for kind in grown:
        more = timed({**short, kind: short[kind] + _MORE})
        duration += (more.duration_ns - base.duration_ns) / _MORE * (counts[kind] - short[kind])
    yielded = 1.0
    if step.phase is Phase.DECODE:
        yielded += accepted(step.speculative) if acceptance is None else acceptance
    overhead = _overhead(base)
    return StepPoint(duration, (duration - overhead) / stages + overhead, overhead, yielded)


def _point(found: StepTime) -> StepPoint:
    yielded = found.tokens_per_sequence if found.step.phase is Phase.DECODE else 1.0
    pace = found.step.batch * found.tokens_per_sequence / found.tokens_per_second * 1e9
    return StepPoint(found.duration_ns, pace, _overhead(found), yielded)


def _overhead(found: StepTime) -> float:
    return found.duration_ns - sum(stage.duration_ns for stage in found.stages)


def _kind(layer: Layer) -> Hashable:
    return (None if layer.mixer is None else layer.mixer.alike, layer.ffn, layer.norms, layer.lookup)


def _shortened(model: ModelConfig, kinds: list[Hashable], taken: dict[Hashable, int]) -> ModelConfig:
    """`model` with the first so many layers of each kind."""
    left = dict(taken)
    kept: list[Layer] = []
    for layer, kind in zip(model.layers, kinds, strict=True):
        if left[kind]:
            left[kind] -= 1
            kept.append(replace(layer, index=len(kept)))
    after = [replace(layer, index=len(kept) + number) for number, layer in enumerate(model.mtp_layers)]
    return replace(model, layers=tuple(kept), mtp_layers=tuple(after))
