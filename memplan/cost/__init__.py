"""How long each op takes on a given chip, and what limits it."""

from memplan.cost.rates import Rates, rates
from memplan.cost.roofline import OpCost, op_cost

__all__ = ["OpCost", "Rates", "op_cost", "rates"]
