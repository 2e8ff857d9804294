"""
The time of a step from a few layers of each kind: for searches that ask for hundreds of steps.

Layers that run the same ops take the same time, and a step is one layer after the other: a model with two of each kind
says what a layer of it takes, the last of its kind from its first op to the next layer's, and what is around them.
Pipeline stages share them evenly; what passes between stages is left out. Tests hold it against `step_time`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace
from itertools import pairwise

from memplan.hardware import Chip
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving.constants import accepted, engine_host
from memplan.serving.stage_times import launches
from memplan.serving.steptime import StepTime, recurrent_layers, step_layers, step_time, unfused_layers

_FEW = 2
_MOST_KINDS = 8
"""With more kinds of layers than this the whole model is as quick."""


@dataclass(frozen=True, slots=True)
class StepPoint:
    """
    A step in nanoseconds: how long it takes, how soon the next can start, what of it is beside its kernels, and the
    least between two of them, in which the host launches them. A sequence gets `yielded` tokens of it.
    """

    duration_ns: float
    pace_ns: float
    overhead_ns: float
    yielded: float
    launched_ns: float = 0.0


def fast_step(
    model: ModelConfig,
    layout: Layout,
    step: ServedStep,
    chip: Chip,
    *,
    acceptance: float | None,
    engine: str,
    host_factor: float = 1.0,
) -> StepPoint:
    """`step` of `model` in `layout`, as `step_time` has it; raises `InputError` where that does."""
    kinds = [_kind(layer) for layer in model.layers]
    counts = Counter(kinds)
    grown = {kind: count - _FEW for kind, count in counts.items() if count > _FEW}
    whole = len(counts) > _MOST_KINDS or not grown or model.attention_residuals
    host, reads = engine_host(engine, alone=layout.ranks == 1).slower(host_factor), step.phase is Phase.PREFILL
    stages = layout.pipeline
    if whole or any(layer.mixer is not None and layer.mixer.reads is not None for layer in model.layers):
        found = step_time(model, layout, step, chip, acceptance=acceptance, engine=engine, host_factor=host_factor)
        return _point(found, host.launched(found.work.staged(stages), reads=reads))
    layout = layout.one_stage
    short, kept = _shortened(model, kinds)
    base = step_time(short, layout, step, chip, acceptance=acceptance, engine=engine)
    base = replace(base, duration_ns=base.hidden_host_ns)
    taken, kernels_of = _layer_times(base, len(kept)), _layer_kernels(base)
    last = {kind: number for number, kind in enumerate(kept)}
    more = sum(kernels_of[last[kind]] * count for kind, count in grown.items())
    work = replace(
        base.work,
        layers=step_layers(model, step),
        unfused=unfused_layers(model, step),
        recurrent=recurrent_layers(model, step),
        kernels=base.work.kernels + more,
    )
    captured = base.duration_ns + sum(taken[last[kind]] * count for kind, count in grown.items())
    kernels = captured - _overhead(base)
    yielded = 1.0
    if step.phase is Phase.DECODE:
        yielded += accepted(step.speculative, engine) if acceptance is None else acceptance
    duration, share = host.step(captured, work, reads=reads), work.staged(stages)
    pace = host.step(kernels / stages + _overhead(base), share, reads=reads)
    return StepPoint(duration, pace, duration - kernels, yielded, host.launched(share, reads=reads))


def _point(found: StepTime, launched: int) -> StepPoint:
    yielded = found.tokens_per_sequence if found.step.phase is Phase.DECODE else 1.0
    pace = found.step.batch * found.tokens_per_sequence / found.tokens_per_second * 1e9
    return StepPoint(found.duration_ns, pace, _overhead(found), yielded, launched)


def _overhead(found: StepTime) -> float:
    return found.duration_ns - sum(stage.duration_ns for stage in found.stages)


def _kind(layer: Layer) -> Hashable:
    return (None if layer.mixer is None else layer.mixer.alike, layer.ffn, layer.norms, layer.lookup)


def _shortened(model: ModelConfig, kinds: list[Hashable]) -> tuple[ModelConfig, list[Hashable]]:
    """`model` with the first two layers of each kind, and the kinds of those."""
    seen: Counter[Hashable] = Counter()
    layers: list[Layer] = []
    kept = []
    for layer, kind in zip(model.layers, kinds, strict=True):
        seen[kind] += 1
        if seen[kind] <= _FEW:
            layers.append(replace(layer, index=len(layers)))
            kept.append(kind)
    after = [replace(layer, index=len(layers) + number) for number, layer in enumerate(model.mtp_layers)]
    return replace(model, layers=tuple(layers), mtp_layers=tuple(after)), kept


def _layer_times(found: StepTime, layers: int) -> list[int]:
    """Nanoseconds of the main chain from the first op of each layer to the first one behind it."""
    starts: list[int] = []
    end = found.stages[0].duration_ns
    for item in found.stages[0].ops:
        layer = None if item.op.scope is None else item.op.scope.layer
        if item.op.stream:
            continue
        if layer is not None and layer == len(starts) < layers:
            starts.append(item.start_ns)
        elif len(starts) == layers and layer != layers - 1:
            end = item.start_ns
            break
    return [after - start for start, after in pairwise([*starts, end])]


def _layer_kernels(found: StepTime) -> Counter[int]:
    """Kernels launched in each layer, on the main chain and beside it."""
    launched = [item.op for item in found.stages[0].ops if item.duration_ns and launches(item.op)]
    return Counter(op.scope.layer for op in launched if op.scope is not None and op.scope.layer is not None)
