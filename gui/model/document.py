"""What one window shows: a plan, a profile, or both on one time axis."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memplan.compare import TimeMap
from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.gui.model.model_places import ModelPlaces
from memplan.schema import planned_step

if TYPE_CHECKING:
    from memplan.compare import Comparison
    from memplan.schema import Plan, PlannedStep
    from memplan.traces.directory import Profile
    from memplan.traces.rank import RankProfile


def moved_to(profile_ns: int) -> TimeMap:
    """The map that puts the plan's start at `profile_ns` and keeps its own pace."""
    return TimeMap(np.zeros(1, dtype=np.int64), np.array([profile_ns], dtype=np.int64), anchored=False)


_PLAN_TIME = Sentence("plan time")
MOST_DEVIATIONS = 500
"""Differences between plan and profile that a document keeps, the costliest; how many there are in all is kept too."""


@dataclass(frozen=True)
class Document:
    """
    A plan and the profile of one rank; either may be missing.

    `axis` puts planned time on the profile's clock and `basis` says what that rests on. `comparison` is there when
    both are and the profile holds kernels; `places` are its kernels in the model's words, where planned ops were found.
    `compared_step` is the step that was asked for, `None` where it is the one of median length. With `own_clock` the
    plan keeps its own pace from where the compared step begins, rather than that of the run.
    """

    plan: Plan | None = None
    plan_path: Path | None = None
    profile: Profile | None = None
    rank: RankProfile | None = None
    comparison: Comparison | None = None
    axis: TimeMap = field(default_factory=lambda: moved_to(0))
    basis: Text = _PLAN_TIME
    places: ModelPlaces | None = None
    compared_step: int | None = None
    own_clock: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return self.plan is None and self.profile is None and self.rank is None

    @property
    def bare(self) -> bool:
        """Whether a profile is open that holds nothing of its rank: no slice, no kernel, no memory."""
        if self.rank is None:
            return False
        return not any(track.count for track in self.rank.tracks) and not self.rank.memory_components()

    @property
    def simulated(self) -> bool:
        """Whether the profile says that a simulator wrote it."""
        return self.profile is not None and self.profile.simulated

    @property
    def counted(self) -> str:
        """
        What is counted where no time is known: `event` of a history of allocations, `step` of a plan without times.

        Empty where times are known.
        """
        if self.profile is None:
            return "step" if self.plan is not None and not self.plan.timed else ""
        if self.rank is None or self.rank.tracks or self.rank.span_ns[0] != 0:
            return ""
        from memplan.traces.readers.snapshot import NUMBERED  # with its reader: a window starts without

        return "event" if any(note.text == NUMBERED for note in self.profile.notes) else ""

    @property
    def planned_step_ns(self) -> int | None:
        """
        How long the planned step takes from its first to its last kernel, as it is compared with a run.

        What is before the first kernel and after the last is in `Plan.step_ns` and not in here.
        """
        step = self.planned_step
        return None if step is None else step.span_ns

    @property
    def planned_step(self) -> PlannedStep | None:
        """The planned step in its parts, as the run that it is compared with can have it."""
        if self.plan is None:
            return None
        return planned_step(self.plan, simulated=self.comparison is not None and self.comparison.simulated)

    @property
    def span_ns(self) -> tuple[int, int]:
        """From the earliest to the latest moment of what is shown, on the profile's clock."""
        spans = []
        if self.rank is not None:
            spans.append(self.rank.span_ns)
        if self.plan is not None:
            spans.append((self.axis.to_profile(0), self.axis.to_profile(self.plan.makespan_ns)))
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
    step: int | None = None,
    progress: Progress = silent,
) -> Document:
    """
    A document of `plan` and rank `rank` of `profile` (its first by default), compared if both are there.

    `step` is the number of the step that is compared, the one of median length by default.

    Raises `KeyError` for a rank that the profile doesn't hold.
    """
    ranks = tuple(profile.ranks) if profile is not None else ()
    chosen = None
    if profile is not None and ranks:
        chosen = profile.rank(ranks[0] if rank is None else rank)
        chosen.read_for_window(progress)
        if chosen.chip is not None:
            from memplan.hardware import chips

            chips()  # by this worker: the overview asks what the chip holds, and to read them all takes a moment
    if plan is None or profile is None or chosen is None:
        return Document(plan, plan_path, profile, chosen)
    from memplan.compare import compare  # with the alignment and all that it knows of ops: a window starts without

    try:
        found = compare(plan, profile, rank=chosen.rank, step=step, limit=MOST_DEVIATIONS, progress=progress)
    except InputError as error:
        start = moved_to(chosen.span_ns[0])
        why = Sentence("both begin together: {}", (error.message,))
        return Document(plan, plan_path, profile, chosen, None, start, why)
    summary = found.summary
    basis = (
        Sentence(
            "{} of {} planned [op|ops] found in the profile", (f"{summary.matched_ops:,}", f"{summary.planned_ops:,}")
        )
        if found.time_map.anchored
        else Sentence("both begin together: no op of the plan is in the profile")
    )
    progress(0, 1, "naming kernels")
    kernels = chosen.kernels(progress) if found.places is not None else None
    places = ModelPlaces(found.places, kernels) if found.places is not None and kernels is not None else None
    return Document(plan, plan_path, profile, chosen, found, found.time_map, basis, places, step)


def on_own_clock(document: Document, own: bool) -> Document:
    """`document` with its plan on its own clock, or again on that of the run; as it is without a comparison."""
    found = document.comparison
    if found is None or own == document.own_clock:
        return document
    if not own:
        return replace(document, axis=found.time_map, own_clock=False)
    return replace(document, axis=moved_to(found.time_map.to_profile(0)), own_clock=True)
