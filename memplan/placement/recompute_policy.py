"""Whether a plan may run ops a second time."""

from __future__ import annotations

from enum import Enum


class RecomputePolicy(str, Enum):
    """`auto`: where it makes the step shorter; `never`."""

    AUTO = "auto"
    NEVER = "never"
