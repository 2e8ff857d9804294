"""Programs that run in this process: their graphs as they are, and with some of their modules recomputed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from memplan.graph.model import Graph
from memplan.graph.saved import SavedTensors
from memplan.readers.mindir.op_table import Target
from memplan.readers.pytorch.live import TorchProgram, is_torch
from memplan.schema import PlannedProgram


class LiveProgram(Protocol):
    """A step of a framework's program, which can be read but is never run on the device."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Dotted names of the modules that can be recomputed, in the order in which they run: layers of a list."""
        ...

    def graph(self, recomputed: Collection[str] = ()) -> Graph:
        """The graph of a step in which `recomputed` modules keep only what goes into them."""
        ...

    def saved(self, graph: Graph, recomputed: Collection[str], /) -> SavedTensors | None:
        """What of `graph` its framework can keep on the host between the passes; `None` where it can't at all."""
        ...

    def told(self, recomputed: Collection[str]) -> PlannedProgram:
        """The program as a plan records it."""
        ...


def live_program(
    source: Any,
    inputs: tuple[Any, ...],
    *,
    layers: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    kernels: Target | None = None,
) -> LiveProgram:
    """
    The program `source(*inputs)`: a MindSpore cell, step function or `Model`, or what PyTorch runs.

    Raises `InputError` for anything else, and where its framework can't be imported.
    """
    if is_torch(source, inputs):
        return TorchProgram(source, inputs, layers=layers, kernels=kernels)
    from memplan.readers.mindspore.cell_program import CellProgram

    return CellProgram(source, inputs, layers=layers, shapes=shapes, kernels=kernels)
