"""Readers of compiled graphs and of plans made by others: MindIR, IR dumps, SOMAS, GE, ONNX, and running cells."""

from memplan.readers.dispatch import read_graph
from memplan.readers.mindspore_ops import Target
from memplan.readers.plans import read_plan

__all__ = ["Target", "read_graph", "read_plan"]
