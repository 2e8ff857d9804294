"""
memplan plans the memory hierarchy of Ascend NPUs and compares the plan with CANN profiles.

Everything is imported on first use, so that `import memplan` costs nothing in a training script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core import version
from memplan.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from memplan.core.errors import InputError, MemplanError
    from memplan.planner import plan
    from memplan.readers.pytorch.live import TrainingStep
    from memplan.runtime.callback import Callback
    from memplan.runtime.watch import MemoryWatch
    from memplan.schema import Plan, load_plan
    from memplan.traces import open_profile

__version__ = version.MEMPLAN_VERSION

__all__ = [
    "Callback",
    "InputError",
    "MemoryWatch",
    "MemplanError",
    "Plan",
    "TrainingStep",
    "__version__",
    "load_plan",
    "open_profile",
    "plan",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Callback": "memplan.runtime.callback",
        "InputError": "memplan.core.errors",
        "MemoryWatch": "memplan.runtime.watch",
        "MemplanError": "memplan.core.errors",
        "Plan": "memplan.schema",
        "TrainingStep": "memplan.readers.pytorch.live",
        "load_plan": "memplan.schema",
        "open_profile": "memplan.traces",
        "plan": "memplan.planner",
    },
)
