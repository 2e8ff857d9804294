"""Simulated runs: a plan executed by a machine that deviates as asked, as a profile directory in the real files' format."""

from memplan.simulator.noise import Behaviour
from memplan.simulator.simulation import simulate

__all__ = ["Behaviour", "simulate"]
