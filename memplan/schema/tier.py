"""The levels of the memory hierarchy."""

from __future__ import annotations

from enum import Enum


class Tier(str, Enum):
    """A level of the memory hierarchy, nearest to the compute units first."""

    L0A = "L0A"
    L0B = "L0B"
    L0C = "L0C"
    L1 = "L1"
    UB = "UB"
    L2 = "L2"
    HBM = "HBM"
    HOST = "HOST"
    REMOTE = "REMOTE"
