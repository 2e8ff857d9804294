"""Whether one run is worse than another by more than is allowed: the gate between two profiles."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_duration, format_share
from memplan.findings.profile_change import ProfileChange


@dataclass(frozen=True, slots=True)
class RegressionLimits:
    """By what share a step may take longer, and the highest allocated memory grow; `None`: by any."""

    time: float | None = None
    memory: float | None = None


def regressions(change: ProfileChange, limits: RegressionLimits) -> tuple[Sentence, ...]:
    """What grew by more than `limits` from the earlier run to the later one; empty where the gate is open."""
    found = []
    if limits.time is not None and change.before_ns > 0:
        share = change.change_ns / change.before_ns
        if share > limits.time:
            steps = format_duration(change.before_ns), format_duration(change.after_ns)
            found.append(
                Sentence(
                    "a step takes {} instead of {}: {} more, and {} are allowed",
                    (steps[1], steps[0], format_share(share, 1), format_share(limits.time, 1)),
                )
            )
    if limits.memory is not None and change.before_peak and change.after_peak is not None:
        share = change.after_peak / change.before_peak - 1
        if share > limits.memory:
            peaks = format_bytes(change.before_peak), format_bytes(change.after_peak)
            found.append(
                Sentence(
                    "the peak is {} instead of {}: {} more, and {} are allowed",
                    (peaks[1], peaks[0], format_share(share, 1), format_share(limits.memory, 1)),
                )
            )
    return tuple(found)
