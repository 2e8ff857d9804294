"""How long a step takes: time to the first token, time per token, tokens per second of a layout; a step of training."""

from memplan.serving.constants import Constants, accepted, constants
from memplan.serving.stage_times import OpTime, StageTime
from memplan.serving.steptime import StepShare, StepTime, step_time
from memplan.serving.training_time import StageParts, TrainingTime, training_time

__all__ = [
    "Constants",
    "OpTime",
    "StageParts",
    "StageTime",
    "StepShare",
    "StepTime",
    "TrainingTime",
    "accepted",
    "constants",
    "step_time",
    "training_time",
]
