"""Readers of compiled graphs: MindIR, IR dumps, SOMAS, GE, ONNX, and running cells."""

from memplan.readers.dispatch import read_graph
from memplan.readers.mindir.op_table import Target

__all__ = ["Target", "read_graph"]
