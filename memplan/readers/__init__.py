"""Readers of compiled graphs: MindIR, IR dumps, SOMAS, GE, ONNX, and running cells; imported when a graph is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from memplan.readers.dispatch import read_graph
    from memplan.readers.mindir.op_table import Target

__all__ = ["Target", "read_graph"]

__getattr__ = lazy_names(
    __name__, {"Target": "memplan.readers.mindir.op_table", "read_graph": "memplan.readers.dispatch"}
)
