"""What is given up between two uses is made anew by ops that run once more, and by nothing else."""
from __future__ import annotations

from memplan.graph import Graph, TensorKind
from memplan.graph.access import accesses
from memplan.graph.repeats import GivenUp, Repeat, RepeatRules, may_repeat, repeated_ops, with_repeats
from tests.planner.graphs import Builder, forward_and_back


def rules_of(graph: Graph) -> RepeatRules:
    return RepeatRules(graph, [True] * len(graph.ops))
