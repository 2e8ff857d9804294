"""Times that are far from all others of a profile: a start of 0, or a duration of years, which would hide the rest."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.sentence import Sentence

_NEAR_NS = 3600 * 10**9
_TIMES_THE_SPAN = 1000
_MOST_SHARE = 0.02
_FEWEST = 3  # of two, nothing tells which is the one that is far


def far_times(start_ns: Int64s, duration_ns: Int64s | None = None) -> Bools:
    """
    Rows whose time is out of all proportion: none, unless they are single ones.

    Far is more than an hour and more than a thousand times the span of the middle four fifths away from the median; a
    duration is as far as it is long. Where more than one row in fifty is far, several recordings lie in one file, and
    none is set aside.
    """
    far = np.zeros(len(start_ns), dtype=np.bool_)
    if len(start_ns) < _FEWEST:
        return far
    longest = 0 if duration_ns is None else int(duration_ns.max())
    if int(start_ns.max()) - int(start_ns.min()) <= _NEAR_NS and longest <= _NEAR_NS:
        return far
    ordered = np.sort(start_ns)
    middle, tenth = int(ordered[len(ordered) // 2]), max(len(ordered) // 10, 1)
    span = int(ordered[-1 - tenth]) - int(ordered[tenth])
    limit = max(_NEAR_NS, min(span, _NEAR_NS) * _TIMES_THE_SPAN)
    far = np.abs(start_ns - middle) > limit
    if duration_ns is not None:
        far |= duration_ns > limit
    return far if int(far.sum()) <= max(len(far) * _MOST_SHARE, 1) else np.zeros(len(far), dtype=np.bool_)


def far_note(count: int, what: str) -> Sentence:
    """What to say of rows that are set aside for their time."""
    return Sentence("{} {} with a time far from all others set aside", (count, Sentence(what)))
