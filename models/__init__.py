"""Models: sample graphs to plan, and published language models read from their `config.json`."""

from memplan.models.architecture import ModelConfig
from memplan.models.config import load_config, supported_families
from memplan.models.weights import ParameterCounts, parameter_counts, weights

__all__ = ["ModelConfig", "ParameterCounts", "load_config", "parameter_counts", "supported_families", "weights"]
