"""Every rank and step of a large profile in totals, slow ranks and slow links."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from memplan.reports.report import Column, Quantity, Report, ReportCell, ReportTable, section
from memplan.traces.summaries import RankSummary, slow_links, slow_ranks

_MOST_ROWS = 20

_RANKS = (
    Column("rank", Quantity.TEXT),
    Column("device"),
    Column("step"),
    Column("computing", Quantity.DURATION),
    Column("comm. not overlapped", Quantity.DURATION),
    Column("free", Quantity.DURATION),
    Column("peak reserved", Quantity.BYTES),
    Column("", key="remark"),
)
_SLOW_RANKS = (Column("rank"), Column("step"), Column("excess", Quantity.CHANGE))
_SLOW_LINKS = (
    Column("link"),
    Column("transport"),
    Column("rate", Quantity.RATE),
    Column("of mean", Quantity.SHARE),
)


def ranks_report(summaries: Sequence[RankSummary]) -> Report:
    """Totals of every rank and step, and who is slower than the others."""
    ranks, links = slow_ranks(list(summaries)), slow_links(list(summaries))
    rows = tuple(row for summary in summaries for row in _rows(summary))
    sections = [section("", ReportTable(_RANKS, rows))]
    if ranks:
        slow = tuple(ranks[:_MOST_ROWS])
        sections.append(
            section("Ranks that compute longer than the mean", ReportTable(_SLOW_RANKS, slow, total=len(ranks)))
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
            "ranks": [asdict(summary) for summary in summaries],
            "slow_ranks": [{"rank": rank, "step": step, "excess": excess} for rank, step, excess in ranks],
            "slow_links": [dict(zip(keys, link, strict=True)) for link in links],
        }

    return Report(title=f"{len(summaries)} ranks", sections=tuple(sections), document=document)


def _rows(summary: RankSummary) -> Iterator[tuple[ReportCell, ...]]:
    """One row for each step of a rank, or one that says why there is none."""
    peak = max((size for _, size in summary.peaks), default=None)
    if summary.error is not None or not summary.steps:
        yield summary.rank, summary.device, None, None, None, None, peak, summary.error or "no steps"
        return
    remark = f"notes: {len(summary.notes)}" if summary.notes else ""
    for step in summary.steps:
        times = (step.computing_ns, step.communication_not_overlapped_ns, step.free_ns)
        yield summary.rank, summary.device, step.step, *times, peak, remark
