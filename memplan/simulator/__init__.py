"""Simulated runs: a plan executed by a machine that deviates as asked, as a profile directory like real ones."""

from memplan.simulator.noise import Behaviour
from memplan.simulator.simulation import simulate

__all__ = ["Behaviour", "simulate"]
