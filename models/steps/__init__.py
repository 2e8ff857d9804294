"""The op graph of one step of a language model on one rank: prefill, decode, training."""

from memplan.models.steps.options import Phase, Step
from memplan.models.steps.served_step import stage_spans, step_graph
from memplan.models.steps.training_step import training_graph

__all__ = ["Phase", "Step", "stage_spans", "step_graph", "training_graph"]
