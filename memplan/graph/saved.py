"""What layers save for the way back, which a framework can keep on the host between the two passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from memplan.graph.access import accesses
from memplan.graph.model import Graph, TensorKind


@dataclass(frozen=True, slots=True)
class SavedTensors:
    """`tensors` are storages that layers save in the forward pass; the way back begins with op `turn`."""

    turn: int
    tensors: frozenset[int]

    def away(self, tensor: int, uses: tuple[int, ...]) -> tuple[int, int] | None:
        """The half-open steps between the passes of a storage with `uses`; `None` where it isn't saved between them."""
        forward = [step for step in uses if step < self.turn]
        if tensor not in self.tensors or not forward or len(forward) == len(uses):
            return None
        return forward[-1] + 1, next(step for step in uses if step >= self.turn)

    def needed(self, tensor: int, uses: tuple[int, ...]) -> tuple[int, ...]:
        """The steps at which a storage with `uses` has to be in HBM where only what is saved may leave it between."""
        if not uses:
            return uses
        begin, end = self.away(tensor, uses) or (uses[-1] + 1, uses[-1] + 1)
        return (*range(uses[0], begin), *range(end, uses[-1] + 1))


def saved_by_layers(graph: Graph, owner: Callable[[str], str | None], turn: int) -> SavedTensors:
    """What layers save in `graph`, whose way back begins with op `turn`; `owner` tells the layer of a weight's name."""
    owners = {tensor.index: owner(tensor.name) for tensor in graph.tensors if tensor.kind is TensorKind.WEIGHT}
    readers = first_readers(owners, (access.reads for access in accesses(graph)[:turn]))
    kinds = {tensor.index: tensor.kind for tensor in graph.tensors}
    kept = (index for index, layer in readers.items() if layer and kinds[index] is TensorKind.ACTIVATION)
    return SavedTensors(turn, frozenset(kept))


def first_readers(owners: Mapping[int, str | None], reads: Iterable[Iterable[int]]) -> dict[int, str | None]:
    """
    The layer that reads each storage first, by what each op `reads`; `owners` are the layers of weights.

    A layer runs from the first read of one of its own weights to that of one of what comes behind it. Where one weight
    serves several layers the first has it all.
    """
    left = set(owners)
    running: str | None = None
    found: dict[int, str | None] = {}
    for read in reads:
        new = [index for index in read if index in left]
        left.difference_update(new)
        if new:
            running = owners[new[0]]
        for index in read:
            found.setdefault(index, running)
    return found
