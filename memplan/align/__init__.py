"""The alignment of a plan with what ran: which measured kernel is which planned op, without names."""

from memplan.align.alignment import Alignment, OpMatches, align
from memplan.align.assignment import HOW, MatchedBy
from memplan.align.kernel_scopes import KernelScopes

__all__ = ["HOW", "Alignment", "KernelScopes", "MatchedBy", "OpMatches", "align"]
