"""The nodes of an unfolded program, kept to find the order in which MindSpore would run them."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.readers.mindir.execution_order import execution_order


class ScheduleTrace:
    """Every node visited while a program without conditions is unfolded, with the nodes it takes."""

    def __init__(self) -> None:
        self._types: list[str] = []
        self._inputs: list[list[int]] = []
        self._ops: list[int | None] = []

    def add(self, type_: str, sources: Sequence[int], op: int | None) -> int:
        """Append a node of `type_` that takes the nodes `sources` (-1: none) and became `op`; returns its index."""
        self._types.append(type_)
        self._inputs.append([source for source in sources if source >= 0])
        self._ops.append(op)
        return len(self._types) - 1

    def order(self, result: Sequence[int]) -> list[int]:
        """Indices of the ops needed for the nodes `result`, in MindSpore's order."""
        nodes = execution_order(self._types, self._inputs, [step for step in result if step >= 0])
        return [op for op in (self._ops[node] for node in nodes) if op is not None]
