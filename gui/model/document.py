"""What one window shows: a plan, a profile, or both on one time axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memplan.gui.model.time_axis import TimeAxis, at_first_kernel, plan_only
from memplan.schema import Plan
from memplan.traces.profile import Profile, RankProfile

Aligner = Callable[[Plan, RankProfile], TimeAxis]


@dataclass(frozen=True)
class Document:
    """
    A plan and the profile of one rank; either may be missing.

    `origin_ns` is the profile clock's time that views count from: the earliest of what is shown.
    """

    plan: Plan | None = None
    plan_path: Path | None = None
    profile: Profile | None = None
    rank: RankProfile | None = None
    axis: TimeAxis = plan_only()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return self.plan is None and self.profile is None

    @property
    def simulated(self) -> bool:
        """Whether the profile says that a simulator wrote it."""
        return self.profile is not None and self.profile.simulated

    @property
    def span_ns(self) -> tuple[int, int]:
        """From the earliest to the latest moment of what is shown, on the profile's clock."""
        spans = []
        if self.rank is not None:
            spans.append(self.rank.span_ns)
        if self.plan is not None:
            start = int(self.axis.profile_ns[0] - self.axis.plan_ns[0])
            spans.append((start, start + self.plan.makespan_ns))
        spans = [span for span in spans if span[1] > span[0]]
        if not spans:
            return 0, 1_000_000
        return min(start for start, _ in spans), max(end for _, end in spans)

    @property
    def origin_ns(self) -> int:
        """What the views' time zero is on the profile's clock."""
        return self.span_ns[0]

    @property
    def name(self) -> str:
        """Short name for the window's title."""
        parts = []
        if self.plan is not None:
            parts.append(self.plan_path.name if self.plan_path is not None else self.plan.origin.graph)
        if self.profile is not None:
            parts.append(self.profile.path.name or str(self.profile.path))
        return " + ".join(parts)


def make_document(
    plan: Plan | None = None,
    profile: Profile | None = None,
    *,
    plan_path: Path | None = None,
    rank: int | None = None,
    align: Aligner = at_first_kernel,
) -> Document:
    """
    A document of `plan` and rank `rank` of `profile` (its first by default), put on one axis by `align`.

    Raises `KeyError` for a rank that the profile doesn't hold.
    """
    ranks = tuple(profile.ranks) if profile is not None else ()
    chosen = None
    if profile is not None and ranks:
        chosen = profile.rank(ranks[0] if rank is None else rank)
    axis = align(plan, chosen) if plan is not None and chosen is not None else plan_only()
    return Document(plan=plan, plan_path=plan_path, profile=profile, rank=chosen, axis=axis)
