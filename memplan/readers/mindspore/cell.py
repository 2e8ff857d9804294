"""
The graph of a MindSpore cell in the running process: compiled, never executed, no weights copied.

Only this module of the readers imports MindSpore, and only when it is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.graph.model import Graph
from memplan.readers.mindir.file import read_mindir
from memplan.readers.mindir.op_table import Target
from memplan.readers.replicate import replicate_layers

_compilations = count()


def mindspore_module() -> Any:
    """MindSpore, imported now; raises `InputError` where it is not installed."""
    try:
        import mindspore
    except ImportError as error:
        raise InputError(
            f"MindSpore can't be imported: {error}",
            remedy="install the mindspore extra: pip install memplan[mindspore]",
        ) from None
    return mindspore


def is_cell(value: Any) -> bool:
    """Whether `value` is a `mindspore.nn.Cell`, told without importing MindSpore."""
    return any(kind.__name__ == "Cell" and kind.__module__ == "mindspore.nn.cell" for kind in type(value).__mro__)


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
    data). The cell is compiled for its current `set_train` state, in PyNative mode as well; what it was compiled for
    before stays usable. With `layers`, a model built with fewer equal layers is extended to that many. Raises
    `InputError` when the cell can't be compiled or its layers don't repeat.
    """
    mindspore = mindspore_module()
    name = type(cell).__name__
    if not isinstance(cell, mindspore.nn.Cell):
        raise InputError(f"a mindspore.nn.Cell is expected, found {name}")
    with _in_graph_mode(mindspore):
        data = _compiled(cell, inputs, name)
    graph = read_mindir(data, name, shapes=shapes, target=target, progress=progress)
    return graph if layers is None else replicate_layers(graph, layers)


@contextmanager
def _in_graph_mode(mindspore: Any) -> Iterator[None]:
    """Compile as in graph mode where the program runs op by op; the mode is then what it was."""
    mode = mindspore.get_context("mode")
    if mode == mindspore.GRAPH_MODE:
        yield
        return
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    try:
        yield
    finally:
        mindspore.set_context(mode=mode)


def _compiled(cell: Any, inputs: tuple[Any, ...], name: str) -> bytes:
    """MindIR of the cell without weights, by the way that MindSpore's own export takes before it adds them."""
    from mindspore.common import api

    executor = api._cell_graph_executor
    try:
        # Phases called export stop before the backend, so that nothing is built for the host's own device. A phase
        # is compiled once: what was changed in the cell since then would not be seen.
        phase, _ = executor.compile(cell, *inputs, phase=f"export.memplan.{next(_compilations)}", do_convert=False)
        data = executor._get_func_graph_proto(cell, phase, "mind_ir")
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "check that the cell runs with these inputs"
        raise InputError(f"{name} can't be compiled: {first}", remedy=remedy) from None
    if not data:
        raise InputError(f"MindSpore gave no graph for {name}", remedy="check that its construct returns something")
    return bytes(data)
