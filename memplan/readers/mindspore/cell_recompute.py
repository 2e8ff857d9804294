"""Recomputation of whole cells: set as `Cell.recompute` sets it, and taken back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from types import MappingProxyType
from typing import Any

from memplan.core.errors import InputError

_LISTS = frozenset({"CellList", "SequentialCell"})
_STATE = ("_recompute_cell", "_has_config_recompute", "_scope", "output_recompute")
"""What `Cell.recompute` changes in a cell and the cells inside it (MindSpore 2.10, `nn/cell.py`)."""
_FLAGS = "_func_graph_flags"
_ABSENT = object()


class RecomputeWay(Enum):
    """
    How PyNative mode runs a recomputed cell again: what `Cell.recompute` is told (MindSpore 2.10).

    `NEEDED`: up to the last tensor that it had saved, by hooks on saved tensors, which alone follow tensors inside
    tuples and keyword arguments. `WHOLE`: to its end, for where that last tensor is one of several outputs of a kernel:
    stopped there, as at a layer norm, MindSpore ends the step with `input_args_info_stack_ is empty`. `DRAWN`: as a
    whole by a backward function of its own, the one way in which it draws the same random numbers again.
    """

    NEEDED = MappingProxyType({"use_reentrant": False})
    WHOLE = MappingProxyType({"use_reentrant": False, "early_stop": False})
    DRAWN = MappingProxyType({"use_reentrant": True})


def list_members(root: Any) -> dict[str, Any]:
    """Cells by dotted name that stand in a list of several: the layers of `root`, the outermost lists only."""
    found: dict[str, Any] = {}
    for name, cell in root.cells_and_names():
        inside = any(name == outer or name.startswith(f"{outer}.") for outer in found)
        if type(cell).__name__ in _LISTS and len(cell) > 1 and not inside:
            prefix = f"{name}." if name else ""
            found.update({f"{prefix}{inner}": member for inner, member in cell.name_cells().items()})
    return found


def recompute_cell(cell: Any, version: str, way: RecomputeWay = RecomputeWay.NEEDED) -> Callable[[], None]:
    """
    Have `cell` keep only what goes into it; returns what takes that back. `way` is how PyNative mode runs it again.

    Raises `InputError` where this MindSpore can't, or the cell is recomputed by itself or with one around it already.
    """
    change = getattr(cell, "recompute", None)
    if change is None or not callable(change):
        raise InputError(
            "Cell.recompute is not in MindSpore {}", version, remedy="use MindSpore 2.9 or newer, or plan without it"
        )
    if getattr(cell, "_has_config_recompute", False):
        raise InputError("a cell that the plan recomputes is recomputed by the script already")
    before = [
        (
            inner,
            {key: inner.__dict__.get(key, _ABSENT) for key in _STATE},
            dict(getattr(inner, "_func_graph_flags", {})),
        )
        for _, inner in cell.cells_and_names()
    ]

    def undo() -> None:
        for inner, state, flags in before:
            for key, value in state.items():
                if value is not _ABSENT:
                    inner.__dict__[key] = value
                else:
                    inner.__dict__.pop(key, None)
            if hasattr(inner, _FLAGS):
                getattr(inner, _FLAGS).clear()
                getattr(inner, _FLAGS).update(flags)

    known = inspect.signature(change).parameters
    options = {name: value for name, value in way.value.items() if name in known}
    try:
        change(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        undo()
        raise InputError("Cell.recompute of MindSpore {} refuses: {}", version, error) from None
    return undo


@contextmanager
def recomputed_cells(cells: Sequence[Any], version: str) -> Iterator[None]:
    """`cells` recomputed for as long as the context lasts."""
    with ExitStack() as stack:
        for cell in cells:
            stack.callback(recompute_cell(cell, version))
        yield
