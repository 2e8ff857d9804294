"""Who serves: the names of engines."""

from memplan.engines.names import CAPTURED, DEFAULT_ENGINE

__all__ = ["CAPTURED", "DEFAULT_ENGINE"]
