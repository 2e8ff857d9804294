"""Plans as what other tools read: tables, traces, settings of runtimes, and simulated profiles."""

from memplan.export.behaviour import Behaviour
from memplan.export.simulation import simulate

__all__ = ["Behaviour", "simulate"]
