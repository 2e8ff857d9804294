"""How long a serving step takes: time to the first token, time per token, tokens per second of a layout."""

from memplan.serving.constants import Constants, accepted, constants
from memplan.serving.steptime import OpTime, StageTime, StepShare, StepTime, step_time

__all__ = [
    "Constants",
    "OpTime",
    "StageTime",
    "StepShare",
    "StepTime",
    "accepted",
    "constants",
    "step_time",
]
