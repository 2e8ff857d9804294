"""Plans that other planners made, as Plans of ours."""

from memplan.imports.plans import are_plans, read_plan

__all__ = ["are_plans", "read_plan"]
