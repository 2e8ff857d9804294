"""Micro-batches, layers of a stage and the pipeline's schedule, from passes through the layers."""

from __future__ import annotations

import math

from memplan.likeness.layer_passes import LayerPasses
from memplan.likeness.setting import LikeSettings
from memplan.likeness.training_shapes import TrainingShapes
from memplan.models.architecture import ModelConfig
from memplan.models.training.recipe_choices import Schedule
from memplan.schema import Certainty


def passes_like(model: ModelConfig, shapes: TrainingShapes, settings: LikeSettings) -> None:
    """Micro-batches, how many layers each goes through on this rank, and in how many runs of layers."""
    marks, passes = shapes.embeddings or shapes.heads, shapes.passes
    if not shapes.backward or passes is None:
        return
    if marks and not passes.cut and shapes.backward % marks == 0:
        what = "lookups of tokens" if shapes.embeddings else "products that make logits"
        layers, number = shapes.backward // marks, marks
        chunks = _chunks(layers, passes, settings)
        settings.put("micro_batches", number, f"{marks} {what} a step")
        evidence = f"{shapes.backward} gradients of attention in {marks} micro-batches"
    else:
        chunks = _chunks_by_stages(len(model.layers), passes, settings)
        layers, number = passes.layers * chunks, -(-passes.micro_batches // chunks)
        evidence = f"runs of {passes.layers} attentions" + (f", {chunks} of them a stage" if chunks > 1 else "")
        ways = f"{passes.forward} ways forward and {passes.backward} back through {evidence}"
        if passes.cut:
            why = f"the profile holds part of a step, {ways}: there may be more"
            settings.put("micro_batches", max(marks, number), why, Certainty.LIKELY)
        else:
            settings.put("micro_batches", number, ways)
    settings.put("layers_of_stage", layers, evidence)
    if chunks > 1:
        why = f"micro-batches go through {chunks} runs of {passes.layers} layers, and elsewhere in between"
        settings.put("schedule", Schedule.INTERLEAVED, why)
        settings.put("chunks", chunks, why)
    if "pp" not in settings:
        whole = len(model.layers)
        alone = shapes.embeddings and shapes.heads and chunks == 1
        stages = 1 if alone or layers >= whole else math.ceil(whole / layers)
        sure = Certainty.FOLLOWS if whole % layers == 0 else Certainty.LIKELY
        settings.put("pp", stages, f"{layers} of {whole} layers a rank", sure)


def _chunks(layers: int, passes: LayerPasses, settings: LikeSettings) -> int:
    """Runs of layers that a micro-batch goes through one after the other, with transfers between them."""
    ring = "cp" in settings and settings.get("cp") > 1  # sends keys around within a layer
    if ring or ("pp" in settings and settings.get("pp") == 1) or layers % passes.layers:
        return 1
    return layers // passes.layers


def _chunks_by_stages(whole: int, passes: LayerPasses, settings: LikeSettings) -> int:
    """
    The same where nothing marks the whole way of a micro-batch, from the stages that share the layers.

    More micro-batches go ahead than there are stages only where each has several runs of layers.
    """
    stages = settings.get("pp") if "pp" in settings else 1
    if stages == 1 or whole % (stages * passes.layers) or passes.ahead is None or passes.ahead <= stages:
        return 1
    chunks = whole // (stages * passes.layers)
    further = passes.ahead - 1 - (chunks - 1) * stages
    return int(chunks) if further % 2 == 0 and 0 <= further <= 2 * (stages - 1) else 1


def schedule_like(shapes: TrainingShapes, settings: LikeSettings) -> None:
    """GPipe or 1F1B, by the micro-batches that go forward before the first comes back."""
    if "schedule" in settings or shapes.passes is None or shapes.passes.ahead is None:
        return
    first, total = shapes.passes.ahead, settings.get("micro_batches")
    expected = min(settings.get("pp") - settings.get("stage"), total)
    if settings.get("pp") > 1 and first == total > expected:
        settings.put("schedule", Schedule.GPIPE, f"all {total} micro-batches go forward before the first comes back")
    elif settings.get("pp") > 1 and first == expected:
        why = f"{expected} micro-batches go forward before the first comes back"
        settings.put("schedule", Schedule.ONE_F_ONE_B, why)
