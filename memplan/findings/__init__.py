"""
What costs time or memory in a profile, where, why, and what to do about it.

The rules and the readers that they rest on are imported when a profile is diagnosed: the window starts without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from memplan.findings.diagnosis import Diagnosis, diagnose
    from memplan.findings.finding import Confidence, Evidence, Finding, Place, Remedy

__all__ = ["Confidence", "Diagnosis", "Evidence", "Finding", "Place", "Remedy", "diagnose"]

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Diagnosis", "diagnose"), "memplan.findings.diagnosis"),
        **dict.fromkeys(("Confidence", "Evidence", "Finding", "Place", "Remedy"), "memplan.findings.finding"),
    },
)
