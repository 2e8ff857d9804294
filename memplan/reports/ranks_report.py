"""Every rank and step of a large profile in totals, slow ranks and slow links."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from memplan.reports.profile_report import gravest, note_remark
from memplan.reports.report import Column, Quantity, Remark, Report, ReportCell, ReportTable, Severity, section
from memplan.reports.step_pictures import rank_matrix
from memplan.traces.profile import Note
from memplan.traces.summaries import RankSummary, job_links, slow_links, slow_ranks

_MOST_ROWS = 20
_MOST_WORLD = 65536
_MOST_NOTES = 3

_RANKS = (
    Column("rank", Quantity.TEXT),
    Column("device"),
    Column("stage"),
    Column("step"),
    Column("length", Quantity.DURATION),
    Column("computing", Quantity.DURATION),
    Column("comm. not overlapped", Quantity.DURATION),
    Column("free", Quantity.DURATION),
    Column("peak reserved", Quantity.BYTES),
    Column("", key="remark"),
)
_SLOW_RANKS = (Column("rank"), Column("step"), Column("excess", Quantity.CHANGE))
_COMMUNICATIONS = (
    Column("rank", Quantity.TEXT),
    Column("communications", Quantity.COUNT),
    Column("elapsed", Quantity.DURATION),
    Column("waiting", Quantity.DURATION),
    Column("link"),
    Column("moved", Quantity.BYTES),
    Column("rate", Quantity.RATE),
)
_MOST_LINKS = 64
_LINKS = (Column("link"), Column("transport"), Column("moved", Quantity.BYTES), Column("rate", Quantity.RATE))
_SLOW_LINKS = (
    Column("link"),
    Column("transport"),
    Column("rate", Quantity.RATE),
    Column("of mean", Quantity.SHARE),
)


def ranks_report(summaries: Sequence[RankSummary], search: Sequence[Note] = ()) -> Report:
    """Totals of every rank and step, who is slower than the others, and what the `search` for ranks left out."""
    left_out = [note_remark(note) for note in gravest(search)]
    ranks, links = slow_ranks(list(summaries)), slow_links(list(summaries))
    rows = tuple(row for summary in summaries for row in _rows(summary))
    sections = [section("", ReportTable(_RANKS, rows))]
    if ranks:
        slow = tuple(ranks[:_MOST_ROWS])
        sections.append(
            section(
                "Ranks that compute longer than the mean of their stage",
                ReportTable(_SLOW_RANKS, slow, total=len(ranks)),
            )
        )
    waits = tuple(row for summary in summaries for row in _communication_rows(summary))
    if waits:
        table = ReportTable(_COMMUNICATIONS, waits[:_MOST_LINKS], total=len(waits))
        sections.append(section("Communications of each rank", table))
    totals = job_links(list(summaries))
    if totals:
        rates = {(link.source, link.target): link.bytes_per_second for link in totals}
        rows_of = tuple(
            (f"{one.source} -> {one.target}", one.transport, one.size, one.bytes_per_second) for one in totals
        )
        table = ReportTable(_LINKS, rows_of[:_MOST_LINKS], total=len(rows_of))
        everyone = sorted({end for pair in rates for end in pair})
        sections.append(
            section("Links between ranks", table, rank_matrix(everyone, rates, title="GB/s from row to column"))
        )
    if links:
        slowest = tuple(
            (f"{source} -> {target}", transport, rate, share)
            for source, target, transport, rate, share in links[:_MOST_ROWS]
        )
        sections.append(
            section("Links slower than the mean of their kind", ReportTable(_SLOW_LINKS, slowest, total=len(links)))
        )

    def document() -> dict[str, Any]:
        keys = ("source", "target", "transport", "bytes_per_second", "share_of_mean")
        return {
            "notes": [note.plain for note in search],
            "ranks": [asdict(summary) for summary in summaries],
            "slow_ranks": [{"rank": rank, "step": step, "excess": excess} for rank, step, excess in ranks],
            "links": [asdict(link) for link in totals],
            "slow_links": [dict(zip(keys, link, strict=True)) for link in links],
        }

    return Report(
        title=f"{len(summaries)} ranks",
        sections=tuple(sections),
        notes=(*left_out, *_remarks(summaries)),
        document=document,
    )


def _remarks(summaries: Sequence[RankSummary]) -> Iterator[Remark]:
    """What the table leaves unsaid: ranks that are not there, stages that nothing tells, notes of the readers."""
    world = max((summary.groups.world or 0 for summary in summaries), default=0)
    absent = sorted(set(range(min(world, _MOST_WORLD))) - {summary.rank for summary in summaries})
    if absent and world <= _MOST_WORLD:
        listed = ", ".join(map(str, absent[:_MOST_ROWS]))
        yield Remark(f"Of a job of {world} ranks these are not here: {listed}", Severity.WARNING)
    if len({summary.stage for summary in summaries}) > 1:
        yield Remark("Ranks are compared within their pipeline stage: other stages have other work")
    for summary in summaries:
        for note in gravest(summary.notes)[:_MOST_NOTES]:
            yield note_remark(note, f"rank {summary.rank}: ")


def _communication_rows(summary: RankSummary) -> Iterator[tuple[ReportCell, ...]]:
    """How long a rank communicated and waited in it, a row for each kind of link; nothing where no file tells."""
    told = summary.communications
    times = (
        sum(one.count for one in told), sum(one.elapsed_ns for one in told), sum(one.wait_ns for one in told),
    )  # fmt: skip
    for link in summary.transports:
        yield summary.rank, *times, link.transport, link.size, link.bytes_per_second
    if told and not summary.transports:
        yield summary.rank, *times, None, None, None


def _rows(summary: RankSummary) -> Iterator[tuple[ReportCell, ...]]:
    """One row for each step of a rank, or one that says why there is none."""
    peak = max((size for _, size in summary.peaks), default=None)
    if summary.error is not None or not summary.steps:
        yield (
            summary.rank,
            summary.device,
            summary.stage,
            None,
            None,
            None,
            None,
            None,
            peak,
            summary.error or "no steps",
        )
        return
    remark = f"notes: {len(summary.notes)}" if summary.notes else ""
    for step in summary.steps:
        times = (step.length_ns, step.computing_ns, step.communication_not_overlapped_ns, step.free_ns)
        number = None if step.step is None else str(step.step)
        yield summary.rank, summary.device, summary.stage, number, *times, peak, remark
