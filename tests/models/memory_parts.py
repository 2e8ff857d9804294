"""Parts of a predicted peak by their names."""

from __future__ import annotations

from memplan.models.training.memory import TrainingMemory


def part(memory: TrainingMemory, name: str) -> int:
    """Bytes of all parts of this name, 0 where there is none."""
    return sum(item.nbytes for item in memory.parts if item.name == name)
