"""Plans that other planners made, as Plans of ours."""

from memplan.imports.plans import read_plan

__all__ = ["read_plan"]
