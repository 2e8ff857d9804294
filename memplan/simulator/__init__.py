"""Simulated runs: a plan executed by a machine that deviates as asked, as a profile directory like real ones."""

from memplan.simulator.faults.known_faults import FAULTS, STRENGTHS, ChosenFault, chosen_fault
from memplan.simulator.job_layouts import LAYOUTS
from memplan.simulator.job_profile import planted_memory, planted_ns, simulate_job
from memplan.simulator.noise import Behaviour
from memplan.simulator.simulation import simulate

__all__ = [
    "FAULTS",
    "LAYOUTS",
    "STRENGTHS",
    "Behaviour",
    "ChosenFault",
    "chosen_fault",
    "planted_memory",
    "planted_ns",
    "simulate",
    "simulate_job",
]
