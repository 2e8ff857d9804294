"""The op graph of one step of a language model on one rank: prefill, decode, training."""

from memplan.models.steps.model_graph import model_graph, model_settings
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.steps.served_step import step_graph
from memplan.models.steps.training_step import training_graph

__all__ = ["Phase", "ServedStep", "model_graph", "model_settings", "step_graph", "training_graph"]
