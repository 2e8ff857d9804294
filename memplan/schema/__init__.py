"""The Plan and all it holds, its JSON form, and its memory curves: each is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from memplan.schema.changes import PlanChange, plan_change
    from memplan.schema.curve import Curve, memory_curve, step_starts
    from memplan.schema.decode import load_plan, plan_from_json
    from memplan.schema.json_schema import plan_json_schema
    from memplan.schema.peak import PeakShare, PlanPeak, plan_peak
    from memplan.schema.plan import (
        SCHEMA_VERSION,
        Bound,
        Certainty,
        LinkUse,
        Placement,
        Plan,
        PlannedAttribute,
        PlannedKernel,
        PlannedOp,
        PlannedOperand,
        PlannedProgram,
        PlannedTensor,
        PlanOrigin,
        PlanSetting,
        StepPart,
        TierUse,
        Transfer,
        plan_to_json,
    )
    from memplan.schema.planned_tiling import OnChipBuffer, OnChipPlan, OnChipUse, PlannedTiling
    from memplan.schema.source import Source
    from memplan.schema.summary import plan_headline
    from memplan.schema.tier import Tier
    from memplan.schema.whole_step import PlannedStep, StepPartName, planned_step

__all__ = [
    "SCHEMA_VERSION",
    "Bound",
    "Certainty",
    "Curve",
    "LinkUse",
    "OnChipBuffer",
    "OnChipPlan",
    "OnChipUse",
    "PeakShare",
    "Placement",
    "Plan",
    "PlanChange",
    "PlanOrigin",
    "PlanPeak",
    "PlanSetting",
    "PlannedAttribute",
    "PlannedKernel",
    "PlannedOp",
    "PlannedOperand",
    "PlannedProgram",
    "PlannedStep",
    "PlannedTensor",
    "PlannedTiling",
    "Source",
    "StepPart",
    "StepPartName",
    "Tier",
    "TierUse",
    "Transfer",
    "load_plan",
    "memory_curve",
    "plan_change",
    "plan_from_json",
    "plan_headline",
    "plan_json_schema",
    "plan_peak",
    "plan_to_json",
    "planned_step",
    "step_starts",
]

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Curve", "memory_curve", "step_starts"), "memplan.schema.curve"),
        **dict.fromkeys(("load_plan", "plan_from_json"), "memplan.schema.decode"),
        **dict.fromkeys(("PlanChange", "plan_change"), "memplan.schema.changes"),
        "Source": "memplan.schema.source",
        **dict.fromkeys(("PeakShare", "PlanPeak", "plan_peak"), "memplan.schema.peak"),
        **dict.fromkeys(
            (
                "SCHEMA_VERSION",
                "Bound",
                "Certainty",
                "LinkUse",
                "Placement",
                "Plan",
                "PlannedAttribute",
                "PlannedKernel",
                "PlannedOp",
                "PlannedOperand",
                "PlannedProgram",
                "PlannedTensor",
                "PlanOrigin",
                "PlanSetting",
                "StepPart",
                "TierUse",
                "Transfer",
                "plan_to_json",
            ),
            "memplan.schema.plan",
        ),
        **dict.fromkeys(("PlannedStep", "StepPartName", "planned_step"), "memplan.schema.whole_step"),
        **dict.fromkeys(("OnChipBuffer", "OnChipPlan", "OnChipUse", "PlannedTiling"), "memplan.schema.planned_tiling"),
        "Tier": "memplan.schema.tier",
        "plan_headline": "memplan.schema.summary",
        "plan_json_schema": "memplan.schema.json_schema",
    },
)
