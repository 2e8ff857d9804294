"""What costs time or memory in a profile, where, why, and what to do about it."""

from memplan.findings.diagnose import Diagnosis, diagnose
from memplan.findings.finding import Confidence, Evidence, Finding, Place, Remedy

__all__ = ["Confidence", "Diagnosis", "Evidence", "Finding", "Place", "Remedy", "diagnose"]
