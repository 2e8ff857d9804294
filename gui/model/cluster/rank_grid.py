"""The ranks of a profile by their steps: who computes, communicates, idles or holds how much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.core.text_enum import TextEnum
from memplan.core.units import format_bytes, format_change, format_duration, format_rate
from memplan.gui.model.cluster.heat_grid import HeatGrid
from memplan.gui.model.session.session import Session
from memplan.traces.link_totals import SLOW_LINK, LinkTotal, link_totals, slower_links
from memplan.traces.process_memory import process_memory
from memplan.traces.summaries import SLOW_RANK

if TYPE_CHECKING:
    from memplan.findings import Diagnosis
    from memplan.findings.step_breakdown import StepBreakdown


class RankMeasure(TextEnum):
    """What a grid of ranks shows."""

    COMPUTING = "Computing"
    EXPOSED = "Exposed communication"
    IDLE = "Idle"
    STEP = "Step time"
    PEAK = "Memory peak"


_OF_STEP: dict[RankMeasure, Callable[[StepBreakdown], int]] = {
    RankMeasure.COMPUTING: lambda step: step.computed_ns,
    RankMeasure.EXPOSED: lambda step: step.exposed_ns + step.bubble_ns,
    RankMeasure.IDLE: lambda step: step.idle_total_ns,
    RankMeasure.STEP: lambda step: step.length_ns,
}


@dataclass(frozen=True, slots=True)
class MeasuredRanks:
    """A grid of ranks, the rank of each row, and in a sentence who is slow among equals."""

    ranks: tuple[int, ...]
    grid: HeatGrid
    verdict: Sentence


def rank_excess(diagnosis: Diagnosis) -> dict[int, float]:
    """By how much of it the computing time of each rank is above the median of the other ranks with the same work."""
    from memplan.findings.rules.rank_rules import computing_of, stage_peers

    found = {}
    for peers in stage_peers(diagnosis.job):
        times = {rank: computing_of(diagnosis.job.ranks[rank]) for rank in peers}
        for rank in peers:
            usual = median(time for other, time in times.items() if other != rank)
            if usual > 0:
                found[rank] = times[rank] / usual - 1
    return found


def rank_grid(session: Session, measure: RankMeasure) -> MeasuredRanks | None:
    """All ranks by step, grouped by pipeline stage; `None` before the profile is diagnosed."""
    found = session.diagnosis
    if found is None:
        return None
    jobs = found.job.ranks
    stages = {rank: facts.case.profile.groups.stage_of(rank) for rank, facts in jobs.items()}
    ranks = tuple(sorted(jobs, key=lambda rank: (-1 if stages[rank] is None else stages[rank] or 0, rank)))
    excess = rank_excess(found)
    values: dict[tuple[int, int], float] = {}
    texts: dict[tuple[int, int], str] = {}
    columns: list[Text] = []
    if measure is RankMeasure.PEAK:
        columns = [Sentence("peak")]
        for row, rank in enumerate(ranks):
            process = process_memory(jobs[rank].case.profile.memory_curves())
            if process is not None:
                values[row, 0], texts[row, 0] = float(process.held), format_bytes(process.held)
    else:
        taken = _OF_STEP[measure]
        numbers = {_number(place, step) for rank in ranks for place, step in enumerate(jobs[rank].steps)}
        places = {number: column for column, number in enumerate(sorted(numbers))}
        columns = [Sentence("step {}", (str(number),)) for number in places]
        for row, rank in enumerate(ranks):
            for place, step in enumerate(jobs[rank].steps):
                cell = row, places[_number(place, step)]
                values[cell], texts[cell] = float(taken(step)), format_duration(taken(step))
    slow = {rank for rank, share in excess.items() if share > SLOW_RANK}
    warned = frozenset(
        cell for cell in values if ranks[cell[0]] in slow and measure in (RankMeasure.COMPUTING, RankMeasure.STEP)
    )
    groups: dict[int, Text] = {}
    for row, rank in enumerate(ranks):
        stage = stages[rank]
        if stage is not None and len(set(stages.values())) > 1 and (row == 0 or stages[ranks[row - 1]] != stage):
            groups[row] = Sentence("stage {}", (str(stage),))
    notes = [format_change(excess[rank]) if rank in excess else "" for rank in ranks]
    rows = [Sentence("rank {}", (str(rank),)) for rank in ranks]
    return MeasuredRanks(ranks, HeatGrid(rows, columns, values, texts, warned, notes, groups), _verdict(excess))


def _number(place: int, step: StepBreakdown) -> int:
    return place + 1 if step.step is None else step.step


def _verdict(excess: dict[int, float]) -> Sentence:
    """Who is slow among equals."""
    if not excess:
        return Sentence("No two ranks are known to do the same work")
    worst = max(excess, key=lambda rank: excess[rank])
    if excess[worst] <= SLOW_RANK:
        return Sentence("No rank computes much longer than its peers; the slowest is rank {}, by {}",
                        (str(worst), format_change(excess[worst])))  # fmt: skip
    count = sum(share > SLOW_RANK for share in excess.values())
    values = (str(worst), format_change(excess[worst]), str(count))
    if count == 1:
        return Sentence("Rank {} is slow: it computes {} against the median of its peers", values[:2])
    return Sentence(
        "Rank {} is the slowest: it computes {} against the median of its peers; {} [rank is|ranks are] slow", values
    )


def rank_links(session: Session, progress: Progress = silent) -> list[LinkTotal]:
    """The links between ranks; reads every rank's communication matrix, so it is for a worker."""
    profile = session.document.profile
    if profile is None:
        return []
    uses, groups = {}, {}
    for done, number in enumerate(profile.ranks):
        progress(done, len(profile.ranks), "links between ranks")
        rank = profile.rank(number)
        uses[number], groups[number] = rank.links(progress), rank.groups
    return link_totals(uses, groups)


def link_grid(links: list[LinkTotal]) -> HeatGrid | None:
    """
    The rate of every link from the rank of its row to that of its column; slow ones are warned of.

    Each rank tells what it sends: rows are the ranks that tell, not all that are sent to.
    """
    if not links:
        return None
    sources, targets = sorted({link.source for link in links}), sorted({link.target for link in links})
    rows = {rank: row for row, rank in enumerate(sources)}
    columns = {rank: column for column, rank in enumerate(targets)}
    values: dict[tuple[int, int], float] = {}
    texts: dict[tuple[int, int], str] = {}
    for link in links:
        cell = rows[link.source], columns[link.target]
        if link.bytes_per_second > values.get(cell, 0.0):
            values[cell], texts[cell] = link.bytes_per_second, format_rate(link.bytes_per_second)
    warned = frozenset((rows[link.source], columns[link.target]) for link, _ in slower_links(links, SLOW_LINK))
    return HeatGrid(list(map(str, sources)), list(map(str, targets)), values, texts, warned, fewer_is_worse=True)
