"""
The graph of a MindSpore cell in the running process: compiled, never executed, no weights copied.

Only this module of the readers imports MindSpore, and only when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.graph.model import Graph
from memplan.readers.mindir.file import read_mindir
from memplan.readers.mindir.op_table import Target
from memplan.readers.replicate import replicate_layers

_REMEDY = "call it in graph mode: mindspore.set_context(mode=mindspore.GRAPH_MODE)"


def capture(
    cell: Any,
    *inputs: Any,
    layers: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    target: Target = Target.ASCEND,
    progress: Progress = silent,
) -> Graph:
    """
    The graph that MindSpore compiles for `cell(*inputs)`.

    `cell` is an `nn.Cell`, `inputs` what it will be called with (tensors, or `Tensor(shape=..., dtype=...)` without
    data). The cell is compiled for its current `set_train` state; what it was compiled for before stays usable. With
    `layers`, a model built with fewer equal layers is extended to that many. Raises `InputError` when the cell can't
    be compiled or its layers don't repeat.
    """
    try:
        import mindspore
        from mindspore import nn
    except ImportError as error:
        raise InputError(
            f"MindSpore can't be imported: {error}",
            remedy="install the mindspore extra: pip install memplan[mindspore]",
        ) from None
    name = type(cell).__name__
    if not isinstance(cell, nn.Cell):
        raise InputError(f"a mindspore.nn.Cell is expected, found {name}")
    if mindspore.get_context("mode") != mindspore.GRAPH_MODE:
        raise InputError(f"{name} runs op by op and has no graph", remedy=_REMEDY)
    graph = read_mindir(_compiled(cell, inputs, name), name, shapes=shapes, target=target, progress=progress)
    return graph if layers is None else replicate_layers(graph, layers)


def _compiled(cell: Any, inputs: tuple[Any, ...], name: str) -> bytes:
    """MindIR of the cell without weights, by the way that MindSpore's own export takes before it adds them."""
    from mindspore.common import api

    executor = api._cell_graph_executor
    try:
        # Phases called export stop before the backend, so that nothing is built for the host's own device.
        phase, _ = executor.compile(cell, *inputs, phase="export.memplan", do_convert=False)
        data = executor._get_func_graph_proto(cell, phase, "mind_ir")
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "check that the cell runs with these inputs"
        raise InputError(f"{name} can't be compiled: {first}", remedy=remedy) from None
    if not data:
        raise InputError(f"MindSpore gave no graph for {name}", remedy=_REMEDY)
    return bytes(data)
