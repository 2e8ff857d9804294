"""What checkpoints, frameworks and layers of several projections call those of a model (`projections.json`)."""

from __future__ import annotations

from memplan.core.resources import table


def projections_called(name: str) -> tuple[str, ...]:
    """The projections that `name` is, its own (`q_proj`) or one that a checkpoint, Megatron or a fused layer has."""
    called = table("memplan.models", "projections.json")["called"]
    return fused_projections(name) or (called.get(name, name),)


def fused_projections(name: str) -> tuple[str, ...]:
    """
    The projections that `name` holds as one layer, with one adapter then: a matrix from their input and one to all
    their outputs (PEFT, `LoraLayer.update_layer` by the layer's sizes). None where it is one of its own.
    """
    return tuple(table("memplan.models", "projections.json")["fused"].get(name, ()))
