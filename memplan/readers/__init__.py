"""Readers of compiled graphs: MindIR, IR dumps, SOMAS and GE plans, ONNX, and running cells."""

from memplan.readers.dispatch import read_graph
from memplan.readers.mindspore_ops import Target

__all__ = ["Target", "read_graph"]
