"""The Plan and all it holds, its JSON form, and its memory curves."""

from memplan.schema.curve import Curve, memory_curve, step_starts
from memplan.schema.plan import (
    SCHEMA_VERSION,
    LinkUse,
    Placement,
    Plan,
    PlannedAttribute,
    PlannedKernel,
    PlannedOp,
    PlannedOperand,
    PlannedTensor,
    PlanOrigin,
    Source,
    Tier,
    TierUse,
    Transfer,
)
from memplan.schema.serialise import load_plan, plan_from_json, plan_to_json, save_plan
from memplan.schema.summary import headline

__all__ = [
    "SCHEMA_VERSION",
    "Curve",
    "LinkUse",
    "Placement",
    "Plan",
    "PlanOrigin",
    "PlannedAttribute",
    "PlannedKernel",
    "PlannedOp",
    "PlannedOperand",
    "PlannedTensor",
    "Source",
    "Tier",
    "TierUse",
    "Transfer",
    "headline",
    "load_plan",
    "memory_curve",
    "plan_from_json",
    "plan_to_json",
    "save_plan",
    "step_starts",
]
