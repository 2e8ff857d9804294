"""The nodes of an unfolded program, kept to find the order in which MindSpore would run them."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.readers.mindir.execution_order import execution_order


class ScheduleTrace:
    """Every node visited while a program without conditions is unfolded, with the nodes it takes."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[int], int | None]] = []
        """Type, the nodes taken, and the op that each node became."""

    def add(self, type_: str, sources: Sequence[int], op: int | None) -> int:
        """Append a node of `type_` that takes the nodes `sources` (-1: none) and became `op`; returns its index."""
        self.nodes.append((type_, [source for source in sources if source >= 0], op))
        return len(self.nodes) - 1

    def order(self, result: Sequence[int]) -> list[int]:
        """Indices of the ops needed for the nodes `result`, in MindSpore's order."""
        types, inputs = [type_ for type_, _, _ in self.nodes], [sources for _, sources, _ in self.nodes]
        order = execution_order(types, inputs, [step for step in result if step >= 0])
        return [op for op in (self.nodes[node][2] for node in order) if op is not None]
