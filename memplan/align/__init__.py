"""The alignment of a plan with what ran: which measured kernel is which planned op, without names."""

from memplan.align.alignment import Alignment, OpMatches, align, tokens_planned_and_run
from memplan.align.assignment import HOW, MatchedBy
from memplan.align.kernel_scopes import KernelScopes, place_in_words
from memplan.align.scope_times import ScopeTime, ScopeTimes, mean_probability, scope_times

__all__ = [
    "HOW",
    "Alignment",
    "KernelScopes",
    "MatchedBy",
    "OpMatches",
    "ScopeTime",
    "ScopeTimes",
    "align",
    "mean_probability",
    "place_in_words",
    "scope_times",
    "tokens_planned_and_run",
]
