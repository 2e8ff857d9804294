"""A MindSpore cell, or a function of one, as a program whose layers may be recomputed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from memplan.graph.model import Graph
from memplan.graph.saved import SavedTensors, saved_by_layers
from memplan.readers.mindir.op_table import Target
from memplan.readers.mindir.roles import is_of_gradients
from memplan.readers.mindspore.cell import JITTED, capture, has_saved_tensor_hooks, is_cell, is_jitted, mindspore_module
from memplan.readers.mindspore.cell_recompute import list_members, recomputed_cells
from memplan.readers.mindspore.float_copies import with_float_copies
from memplan.readers.mindspore.graph_by_graph import graph_by_graph
from memplan.readers.mindspore.kept_outputs import with_kept_outputs
from memplan.readers.mindspore.kernel_workspace import with_kernel_workspace
from memplan.readers.mindspore.op_by_op import op_by_op
from memplan.readers.mindspore.ready_order import in_ready_order
from memplan.readers.mindspore.rerun_results import is_in_order, with_rerun_results
from memplan.readers.mindspore.view_copies import with_view_copies
from memplan.readers.named_objects import named_objects
from memplan.schema import PlannedProgram


class CellProgram:
    """
    `source(*inputs)` in the mode that MindSpore is in: a cell, or a function that calls cells.

    `kernels` says whose kernels run it: by default those of the device that this process has set. `layers` extends a
    model of few equal layers to that many; then none of them can be recomputed by name.
    """

    def __init__(
        self,
        source: Any,
        inputs: tuple[Any, ...],
        *,
        layers: int | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        kernels: Target | None = None,
    ) -> None:
        mindspore = mindspore_module()
        self._inputs, self._layers, self._shapes = inputs, layers, shapes
        self._version = str(mindspore.__version__)
        if isinstance(source, mindspore.Model):
            source = source.train_network
        self._cell = source if is_cell(source) or not inspect.isroutine(source) else _as_cell(mindspore, source)
        self._name = getattr(source, "__name__", type(source).__name__)
        graph_mode = mindspore.get_context("mode") == mindspore.GRAPH_MODE
        self._mode = JITTED if is_jitted(source) else "graph" if graph_mode else "pynative"
        self._op_by_op = self._mode == "pynative"
        self._graph_by_graph = self._mode == "graph" and not is_cell(source)
        device = str(mindspore.get_context("device_target"))
        self._kernels = kernels or (Target.CPU if device == "CPU" else Target.ASCEND)
        self._cells = {} if layers is not None or not is_cell(self._cell) else list_members(self._cell)

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the cells in lists of several."""
        return tuple(self._cells)

    def graph(self, recomputed: Collection[str] = ()) -> Graph:
        """The compiled graph, in the order of the mode; raises `InputError` where it can't be compiled."""
        with recomputed_cells([self._cells[name] for name in recomputed], self._version):
            graph = capture(self._cell, *self._inputs, layers=self._layers, shapes=self._shapes, target=self._kernels)
        when_ready = self._kernels is Target.CPU
        if when_ready and not self._op_by_op:
            graph = with_float_copies(graph)
        if self._graph_by_graph:
            return graph_by_graph(graph, when_ready=when_ready)
        if not self._op_by_op:
            return in_ready_order(graph) if when_ready else graph
        if not recomputed:
            return self._in_python_order(graph, ())
        graph = with_kept_outputs(graph, recomputed)
        found = self._in_python_order(with_rerun_results(graph, recomputed), recomputed)
        return found if is_in_order(found) else self._in_python_order(graph, recomputed)

    def _in_python_order(self, graph: Graph, recomputed: Collection[str]) -> Graph:
        if self._kernels is Target.CPU:
            graph = with_kernel_workspace(with_view_copies(graph))
        return op_by_op(graph, recomputed)

    def saved(self, graph: Graph, recomputed: Collection[str], /) -> SavedTensors | None:
        """
        What layers save for the way back, for hooks on saved tensors, which PyNative mode has.

        Cells that are `recomputed` hold what goes into them by themselves.
        """
        turn = next((op.index for op in graph.ops if op.launches and is_of_gradients(op.name)), None)
        layers = {name: cell for name, cell in self._cells.items() if name not in recomputed}
        if not self._op_by_op or turn is None or not layers or not has_saved_tensor_hooks():
            return None
        owners = {str(item.name): name for name, cell in layers.items() for item in cell.get_parameters()}
        return saved_by_layers(graph, owners.get, turn)

    def told(self, recomputed: Collection[str]) -> PlannedProgram:
        """The program as a plan records it."""
        return PlannedProgram(
            "mindspore", self._version, self._mode, self._kernels.value, self._name, tuple(recomputed)
        )


def _as_cell(mindspore: Any, function: Callable[..., Any]) -> Any:
    """`function` as a cell that holds the cells which it calls; itself where it calls none."""
    named = {name.replace(".", "_"): value for name, value in named_objects(function).items() if is_cell(value)}
    inside = {id(inner) for cell in named.values() for _, inner in cell.cells_and_names() if inner is not cell}
    held = {name: cell for name, cell in named.items() if id(cell) not in inside}
    function = inspect.unwrap(function)
    if not held:
        return function

    class StepFunction(mindspore.nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self) -> None:
            super().__init__(auto_prefix=False)
            for name, cell in held.items():
                setattr(self, name, cell)

        def construct(self, *inputs: Any) -> Any:
            return function(*inputs)

    return StepFunction()
