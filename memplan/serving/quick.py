"""`quick_step_ns`: the time of a step from two layers of each kind, for searches over many layouts."""

from __future__ import annotations

from dataclasses import replace

from memplan.hardware import Chip
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import ServedStep
from memplan.serving.constants import Constants
from memplan.serving.steptime import StageTime, step_time


def quick_step_ns(
    model: ModelConfig, layout: Layout, step: ServedStep, chip: str | Chip, *, fixed: Constants | None = None
) -> int:
    """
    Nanoseconds of a step as `step_time` gives them, in a tenth of the time.

    Two layers of each kind are costed and the second one counted as often as the model has more of them. What L2 still
    holds of the layer before may differ where kinds take turns; for all published models tried it does not. Models
    whose layers share caches, and pipelines, are costed whole.
    """
    kinds = _kinds(model)
    if layout.pipeline > 1 or any(_shares(layer) for layer in model.layers) or 2 * len(kinds) > len(model.layers):
        return step_time(model, layout, step, chip, fixed=fixed).duration_ns
    # Two of each kind: the second one finds its stream as a layer in the middle of the model does.
    layers = [layer for first, second, _ in kinds for layer in (first, second)]
    short = step_time(replace(model, layers=tuple(layers)), layout, step, chip, fixed=fixed)
    spans = _spans(short.stages[0])
    return short.duration_ns + sum((count - 2) * spans[second.index] for _, second, count in kinds)


def _kinds(model: ModelConfig) -> list[tuple[Layer, Layer, int]]:
    """Each kind of layer in the order it first appears: its first two layers, and how many there are."""
    found: dict[object, list[Layer]] = {}
    for layer in model.layers:
        found.setdefault((layer.mixer, layer.ffn, layer.norms, layer.lookup), []).append(layer)
    beyond = len(model.layers) + len(model.mtp_layers)
    return [
        (items[0], items[1] if len(items) > 1 else replace(items[0], index=beyond + number), len(items))
        for number, items in enumerate(found.values())
    ]


def _shares(layer: Layer) -> bool:
    return layer.mixer is not None and layer.mixer.reads is not None


def _spans(stage: StageTime) -> dict[int, int]:
    """Nanoseconds that the step grows by with each layer, by its index."""
    ends: dict[int, int] = {}
    before = 0
    spans: dict[int, int] = {}
    for item in stage.ops:
        parts = item.op.name.split(".", 2)
        end = item.start_ns + item.duration_ns
        if parts[0] == "layers" and parts[1].isdigit():
            index = int(parts[1])
            if index not in ends:
                ends[index] = before
                spans[index] = 0
            spans[index] = max(spans[index], end - ends[index])
        before = max(before, end)
    return spans
