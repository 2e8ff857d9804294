"""
The graph of a MindSpore cell or training step in the running process: compiled, never executed, no weights copied.

Only this module of the readers imports MindSpore, and only when it is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from time import time_ns
from typing import Any

from memplan.core.errors import InputError, UnboundShapeError
from memplan.core.progress import Progress, silent
from memplan.graph.model import Graph
from memplan.readers.mindir.file import read_mindir
from memplan.readers.mindir.op_table import Target

_compilations = count()


def mindspore_module() -> Any:
    """MindSpore, imported now; raises `InputError` where it is not installed."""
    try:
        import mindspore
    except ImportError as error:
        raise InputError(
            "MindSpore can't be imported: {}",
            error,
            remedy="install the mindspore extra: pip install memplan[mindspore]",
        ) from None
    return mindspore


def has_saved_tensor_hooks() -> bool:
    """Whether this MindSpore can keep elsewhere what an op saves for the way back, as PyNative mode of 2.10 can."""
    return hasattr(mindspore_module(), "saved_tensors_hooks")


JITTED = "jit"
"""The mode of what `mindspore.jit` compiles as a whole, whatever mode is set."""


def is_jitted(value: Any) -> bool:
    """Whether a function, or the `construct` of a cell, has been through `mindspore.jit`."""
    return hasattr(getattr(value, "construct", value), "__wrapped_by_jit__")


def is_cell(value: Any) -> bool:
    """Whether `value` is a `mindspore.nn.Cell`, told without importing MindSpore."""
    return any(kind.__name__ == "Cell" and kind.__module__ == "mindspore.nn.cell" for kind in type(value).__mro__)


def is_model(value: Any) -> bool:
    """Whether `value` is a `mindspore.train.Model`, told without importing MindSpore."""
    kinds = type(value).__mro__
    return any(kind.__name__ == "Model" and kind.__module__ == "mindspore.train.model" for kind in kinds)


def capture(
    source: Any,
    *inputs: Any,
    layers: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    target: Target = Target.ASCEND,
    progress: Progress = silent,
) -> Graph:
    """
    The graph that MindSpore compiles for `source(*inputs)`.

    `source` is an `nn.Cell`, a function of tensors such as a training step (decorated with `ms.jit` or not) or an
    `ms.Model`, whose training network is taken; `inputs` are what it will be called with (tensors, or
    `Tensor(shape=..., dtype=...)` without data). A cell is compiled for its current `set_train` state, in PyNative
    mode as well; what was compiled before stays usable. With `layers`, a model built with fewer equal layers is
    extended to that many. Raises `InputError` when it can't be compiled or its layers don't repeat.
    """
    mindspore = mindspore_module()
    if isinstance(source, mindspore.Model):
        source = source.train_network
    name = getattr(source, "__name__", type(source).__name__)
    is_routine = callable(source) and hasattr(source, "__name__")
    if not isinstance(source, mindspore.nn.Cell) and not is_routine:
        raise InputError(
            "a mindspore.nn.Cell, a function or a mindspore.Model is expected, found {}",
            name,
            remedy="name the cell that is run, the training step or the file that it was exported to",
        )
    for place, given in enumerate(inputs):
        if type(given).__module__.partition(".")[0] == "numpy":
            raise InputError(
                "input {} is an array of numpy", place, place=name, remedy="inputs must be Tensors: mindspore.Tensor(x)"
            )
    with _in_graph_mode(mindspore):
        data = _traced(source, inputs, name) if is_routine else _compiled(source, inputs, name)
    try:
        return read_mindir(data, name, shapes=shapes, target=target, progress=progress, layers=layers)
    except UnboundShapeError as error:
        label, _, dims = error.suggestion.partition("=")
        raise InputError(
            error.message, path=name, place=error.place, remedy=f'bind them with shapes={{"{label}": ({dims})}}'
        ) from None


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
    except _FAILURES as error:
        raise _refusal(error, name) from None
    return _present(data, name)


# OSError: what is compiled has no source that can be read.
_FAILURES = (RuntimeError, TypeError, ValueError, AttributeError, OSError)


def _traced(function: Any, inputs: tuple[Any, ...], name: str) -> bytes:
    """MindIR of a function, with the parameters that it uses; a `ms.jit` around it is taken off."""
    try:
        from mindspore.graph.api import _JitExecutor
    except ImportError:  # MindSpore 2.9 and before
        from mindspore.common.api import _JitExecutor

    plain = getattr(function, "__wrapped__", function)
    try:
        executor = _JitExecutor(plain, time_ns())
        phase = executor.compile(plain.__name__, *inputs, phase=f"export.memplan.{next(_compilations)}")
        data = executor._get_func_graph_proto(plain, phase, "mind_ir")
    except _FAILURES as error:
        raise _refusal(error, name) from None
    return _present(data, name)


def _refusal(error: Exception, name: str) -> InputError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, OSError):
        return InputError(
            "{} can't be compiled: MindSpore reads the source of what it compiles, and found none", name,
            remedy="define cells and step functions in a file (in a notebook, a cell with %%writefile) and import them",
        )  # fmt: skip
    return InputError("{} can't be compiled: {}", name, first, remedy="check that it runs with these inputs")


def _present(data: Any, name: str) -> bytes:
    if not data:
        raise InputError("MindSpore gave no graph for {}", name, remedy="check that it returns something")
    return bytes(data)
