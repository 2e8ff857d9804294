"""Plans as what other tools read: tables, traces, settings of runtimes, and simulated profiles."""

from memplan.export.behaviour import Behaviour
from memplan.export.registry import EXPORTERS, Exporter, export
from memplan.export.simulation import simulate
from memplan.export.vllm_ascend import vllm_ascend_settings

__all__ = ["EXPORTERS", "Behaviour", "Exporter", "export", "simulate", "vllm_ascend_settings"]
