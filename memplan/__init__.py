"""
memplan plans the memory hierarchy of Ascend NPUs and compares the plan with CANN profiles.

Everything is imported on first use, so that `import memplan` costs nothing in a training script.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from memplan.core import version

if TYPE_CHECKING:
    from memplan.core.errors import InputError, MemplanError
    from memplan.planner import plan
    from memplan.schema import Plan, load_plan
    from memplan.traces import open_profile

__version__ = version.MEMPLAN_VERSION

_EXPORTS = {
    "InputError": "memplan.core.errors",
    "MemplanError": "memplan.core.errors",
    "Plan": "memplan.schema",
    "load_plan": "memplan.schema",
    "open_profile": "memplan.traces",
    "plan": "memplan.planner",
}

__all__ = ["InputError", "MemplanError", "Plan", "__version__", "load_plan", "open_profile", "plan"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value
