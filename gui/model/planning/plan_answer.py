"""A plan that was tried out: what was asked, the plan as a session to look at, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.core.units import KIB, MIB, format_bytes, format_change, format_duration, format_share, parse_bytes
from memplan.gui.model.document import make_document
from memplan.gui.model.overview.head_figures import HeadFigure
from memplan.gui.model.session.session import Session
from memplan.gui.model.timeline.drawing_loops import DrawingLoops
from memplan.requests.plan_request import PlanRequest
from memplan.schema import Plan, Tier

_LEAST, _STOPS = 0.3, 28
"""The slider goes from that share of what is needed up to all of it, in so many equal stops, and then to no limit."""


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """The plan of `request`, and a session of its own to look at it."""

    request: PlanRequest
    plan: Plan
    session: Session

    @property
    def peak(self) -> int:
        """The highest address in use in HBM, in bytes."""
        use = self.plan.tier(Tier.HBM)
        return use.peak if use is not None else 0

    @property
    def step_ns(self) -> int | None:
        """How long the whole step takes with its moves, which may outlast its ops; `None` without times."""
        return self.plan.step_ns if self.plan.timed else None


def tried_plan(
    request: PlanRequest, quick: bool = False, progress: Progress = silent, *, loops: DrawingLoops | None = None
) -> PlanAnswer:
    """
    Plan `request`, to be drawn by `loops`; long, meant for a worker. With `quick` the first plan that fits is taken.

    Raises `InputError` for what can't be planned.
    """
    plan = request.plan(quick=quick, progress=progress)
    progress(0, 1, "views")
    return PlanAnswer(request, plan, Session(make_document(plan, plan_path=request.source), loops=loops))


def is_final(quick: PlanAnswer) -> bool:
    """Whether a quick answer is the best one: no other is faster where nothing has to move."""
    return quick.plan.fits and not quick.plan.transfers


def without_limit(request: PlanRequest) -> PlanRequest:
    """The same with all the memory that the chip has."""
    return replace(request, hbm=None)


def hbm_stops(need: int) -> list[int | None]:
    """Sizes of HBM in bytes for a slider, from a share of `need` to all of it; the last, `None`, is no limit."""
    unit = MIB if need > 512 * MIB else KIB
    stops = [need * (_LEAST + (1 - _LEAST) * place / (_STOPS - 1)) for place in range(_STOPS)]
    sizes = sorted({max(-(-round(size) // unit), 1) * unit for size in stops})
    return [*sizes, None]


def size_words(size: int | None) -> str | None:
    """A size as a command line takes it."""
    if size is None:
        return None
    return f"{size // MIB}MiB" if size % MIB == 0 else f"{size // KIB}KiB"


def plan_figures(found: PlanAnswer, free: PlanAnswer | None) -> list[HeadFigure]:
    """What follows of it, beside `free`, the same without a limit of memory, where that is known."""
    plan, use = found.plan, found.plan.tier(Tier.HBM)
    figures = []
    if found.step_ns is not None:
        figures.append(
            HeadFigure(Sentence("Step time"), format_duration(found.step_ns), _slower(found, free), "timeline")
        )
    if use is not None:
        held: Text = Sentence("lower bound {}", (format_bytes(use.lower_bound),))
        if use.capacity is not None:
            values = (format_share(use.peak / use.capacity) if use.capacity else "–", format_bytes(use.capacity), held)
            held = Sentence("{} of {}; {}", values)
        figures.append(HeadFigure(Sentence("Memory peak"), format_bytes(use.peak), held, "memory", not plan.fits))
    figures.append(_moves(plan))
    verdict = Sentence("fits") if plan.fits else Sentence("does not fit")
    figures.append(HeadFigure(Sentence("Verdict"), verdict, _rests_on(plan), "overview", not plan.fits))
    return figures


def _slower(found: PlanAnswer, free: PlanAnswer | None) -> Text:
    if free is None or not free.step_ns or found.step_ns is None or free is found:
        return Sentence("as planned")
    values = (format_change(found.step_ns / free.step_ns - 1), format_duration(free.step_ns))
    return Sentence("{} against {} with all the memory", values)


def _moves(plan: Plan) -> HeadFigure:
    moved = sum(move.size for move in plan.transfers)
    waits = sum(op.stalled_ns for op in plan.ops)
    if not plan.transfers:
        return HeadFigure(Sentence("Moves"), Sentence("none"), Sentence("nothing leaves HBM"), "memory")
    note = Sentence("{} [move|moves]; ops wait {} for them", (f"{len(plan.transfers):,}", format_duration(waits)))
    return HeadFigure(Sentence("Moves"), format_bytes(moved), note, "memory")


def _rests_on(plan: Plan) -> Text:
    told = Sentence("{} [op|ops] on {}", (f"{len(plan.ops):,}", plan.chip))
    return told if plan.fits else Sentence("{} missing; {}", (format_bytes(plan.missing_bytes), told))


TRIED_HEADER = ("HBM", "Peak", "Moved", "Step time", "Fits")


def tried_rows(found: Sequence[PlanAnswer]) -> list[tuple[Text, ...]]:
    """One row a plan that was tried, as text."""
    return [
        (
            format_bytes(parse_bytes(item.request.hbm)) if item.request.hbm else Sentence("no limit"),
            format_bytes(item.peak),
            format_bytes(sum(move.size for move in item.plan.transfers)),
            format_duration(item.step_ns) if item.step_ns is not None else "–",
            Sentence("yes") if item.plan.fits else Sentence("no"),
        )
        for item in found
    ]


def source_name(path: Path) -> str:
    """A model by its folder, a graph by its file."""
    return path.parent.name if path.name == "config.json" else path.name
