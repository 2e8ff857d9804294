"""Who serves: the names of engines, their releases, and how these run steps."""

from memplan.engines.names import CAPTURED, DEFAULT_ENGINE
from memplan.engines.releases import GRAPHS, StepMode, engine_is_known, nearest_release, step_mode

__all__ = ["CAPTURED", "DEFAULT_ENGINE", "GRAPHS", "StepMode", "engine_is_known", "nearest_release", "step_mode"]
