"""Kernels as the rows of a profile's table have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.kernel_rows import kernel_of_row
from memplan.cost.kernels.op_classes import op_class


class KernelColumns(Protocol):
    """
    The columns of a profile's kernels that tell what they are; one row a kernel, in order of start.

    Columns of formats are empty where the file has none.
    """

    @property
    def duration_ns(self) -> NDArray[np.int64]: ...
    @property
    def block_count(self) -> NDArray[np.int64]: ...
    @property
    def type(self) -> Sequence[str]: ...
    @property
    def core(self) -> Sequence[str]: ...
    @property
    def input_shapes(self) -> Sequence[str]: ...
    @property
    def input_dtypes(self) -> Sequence[str]: ...
    @property
    def input_formats(self) -> Sequence[str]: ...
    @property
    def output_shapes(self) -> Sequence[str]: ...
    @property
    def output_dtypes(self) -> Sequence[str]: ...
    @property
    def output_formats(self) -> Sequence[str]: ...
    @property
    def pmu(self) -> Mapping[str, NDArray[np.float64]]: ...


def kernel_at(columns: KernelColumns, row: int) -> Kernel:
    """
    The kernel of a row; the cores it used are left for the model to say, as when it predicts.

    A `MemSet` that tells no operands clears the results of the kernel behind it where that adds to them; before one
    that writes each element once it clears a workspace, whose size is not told.
    """
    kernel = _told(columns, row)
    if kernel.type == _CLEARS and not kernel.operands and row + 1 < len(columns.type):
        cleared = _told(columns, row + 1)
        if cleared.inputs and cleared.outputs and _adds_up(cleared.type):
            return replace(kernel, outputs=cleared.outputs)
    return kernel


_CLEARS = "MemSet"
_WRITES_ONCE = frozenset({"vector", "fill", "slice", "transpose", "optimizer", "pooling"})
_ADDS_WINDOWS = frozenset({"pooling", "max_pooling_gradient"})
"""Gradients of windows that overlap are added up, the classes of elementwise kernels that are."""


def _adds_up(op_type: str) -> bool:
    rule = op_class(op_type)
    return rule.kind not in _WRITES_ONCE or rule.rule in _ADDS_WINDOWS


def _told(columns: KernelColumns, row: int) -> Kernel:
    return kernel_of_row(
        columns.type[row],
        columns.input_shapes[row],
        columns.input_dtypes[row],
        columns.output_shapes[row],
        columns.output_dtypes[row],
        input_formats=columns.input_formats[row] if columns.input_formats else "",
        output_formats=columns.output_formats[row] if columns.output_formats else "",
        core=columns.core[row],
    )
