"""The settings of an engine: how it is started, what it makes of that, and which attention kernel it takes."""

from memplan.kv.settings.attention_choice import cache_types
from memplan.kv.settings.resolve import resolve
from memplan.kv.settings.serving_options import Choice, EngineSettings, ServingOptions

__all__ = ["Choice", "EngineSettings", "ServingOptions", "cache_types", "resolve"]
