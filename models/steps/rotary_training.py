"""Rotary positions in a training step."""

from __future__ import annotations

from memplan.models.steps.emit import StepEmitter


def rotate(e: StepEmitter, name: str, x: int, dim: int) -> int:
    """Rotary positions, where none are learnt; cosines and sines are made anew for every call and kept."""
    if e.model.position_rows:
        return x
    angles = e.act(f"{name}.cos", (e.tokens, dim)), e.act(f"{name}.sin", (e.tokens, dim))
    e.op(f"{name}.angles", "Cos", (), angles)
    out = e.act(f"{name}.rotated", e.shape(x))
    e.op(f"{name}.rotary", "RotaryMul", (x, *angles), (out,))
    return out
