"""How far measured kernels are off the model, and what that says of kernels like them."""

from memplan.cost.deviations.carried_places import carried_places
from memplan.cost.deviations.fitting import fitted_deviations
from memplan.cost.deviations.measured_deviations import Deviations, Member
from memplan.cost.deviations.prior import Prior
from memplan.cost.deviations.traits import CLEARED_L2, UNKNOWN_L2, L2State, PlainTimes, Trait, mean_place, trait_of

__all__ = [
    "CLEARED_L2",
    "UNKNOWN_L2",
    "Deviations",
    "L2State",
    "Member",
    "PlainTimes",
    "Prior",
    "Trait",
    "carried_places",
    "fitted_deviations",
    "mean_place",
    "trait_of",
]
