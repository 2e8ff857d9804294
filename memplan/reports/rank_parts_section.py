"""Ranks of one stage beside each other in the model's words: which part takes one of them longer than the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memplan.align import ScopeTime
from memplan.compare import compare
from memplan.core.progress import Progress, silent
from memplan.reports.report import Column, Quantity, ReportCell, ReportSection, ReportTable, section
from memplan.requests.plan_request import PlanRequest
from memplan.traces.directory import Profile

_MOST_RANKS = 16
_MOST_ROWS = 20
_COLUMNS = (
    Column("stage"),
    Column("phase"),
    Column("part"),
    Column("planned", Quantity.DURATION),
    Column("mean of ranks", Quantity.DURATION),
    Column("longest", Quantity.DURATION),
    Column("on rank"),
    Column("over the mean", Quantity.CHANGE),
)


@dataclass(frozen=True, slots=True)
class RankParts:
    """What a rank of pipeline stage `stage` spent on each `(phase, part)`, planned and measured."""

    rank: int
    stage: str
    parts: Mapping[tuple[str, str], ScopeTime]


def rank_parts(model: Path, profile: Profile, progress: Progress = silent) -> list[RankParts]:
    """The parts of every rank with kernels (the first sixteen), each against the plan like it."""
    with_kernels = [number for number in profile.ranks if profile.rank(number).kernels(progress) is not None]
    found = []
    for rank in with_kernels[:_MOST_RANKS]:
        plan = PlanRequest(model, rank=rank).plan_like(profile, progress=progress)
        stage = next((item.value for item in plan.settings if item.name == "stage"), "")
        times = compare(plan, profile, rank=rank, progress=progress).times
        if times is not None:
            found.append(RankParts(rank, stage, times.parts))
    return found


def rank_parts_section(found: Sequence[RankParts]) -> ReportSection:
    """Parts by what the slowest rank of a stage spends on them beyond the mean of its stage."""
    rows = sorted(_rows(found), key=lambda row: -row[0])
    table = ReportTable(_COLUMNS, tuple(cells for _, cells in rows), most=_MOST_ROWS)
    title = "By part of the model, the slowest rank of each stage beside the mean"
    if not found:
        return section(title, "no rank has kernels that the model's words could be given to")
    return section(title, table)


def _rows(found: Sequence[RankParts]) -> Iterator[tuple[int, tuple[ReportCell, ...]]]:
    stages: dict[str, list[RankParts]] = defaultdict(list)
    for item in found:
        stages[item.stage].append(item)
    for stage, ranks in stages.items():
        for key in {key: None for item in ranks for key in item.parts}:
            times = [(item.parts[key].measured if key in item.parts else 0, item.rank) for item in ranks]
            planned = max(item.parts[key].planned for item in ranks if key in item.parts)
            mean = sum(time for time, _ in times) // len(times)
            longest, rank = max(times, key=lambda entry: (entry[0], -entry[1]))
            over = longest / mean - 1 if mean and len(times) > 1 else None
            yield longest - mean, (stage, *key, planned, mean, longest, str(rank), over)
