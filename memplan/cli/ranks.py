"""`memplan ranks DIR`: every rank and step of a large profile in totals, slow ranks and slow links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import YES, JsonOption, print_json, print_table, progress_bar
from memplan.core.units import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from memplan.traces.summaries import RankSummary

DirectoryArgument = Annotated[
    Path, typer.Argument(help="A profile directory, or a folder of them.", show_default=False)
]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="Processes to read with; one for each processor by default.", min=1, show_default=False),
]
SchedulerOption = Annotated[
    str | None, typer.Option(help="Read on the Dask cluster with this scheduler address.", show_default=False)
]

_MOST_LINES = 20


def command(
    directory: DirectoryArgument,
    *,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> int:
    """
    Sum up every rank of a profile: time by step, memory peaks, slow ranks and slow links.

    Ranks are read in parallel, on this machine or on a Dask cluster, and only totals are kept.
    """
    from memplan.traces.summaries import slow_links, slow_ranks, summarise_ranks

    with progress_bar() as progress:
        summaries = summarise_ranks(directory, workers=workers, scheduler=scheduler, progress=progress)
    ranks, links = slow_ranks(summaries), slow_links(summaries)
    if as_json:
        slow = [{"rank": rank, "step": step, "excess": excess} for rank, step, excess in ranks]
        keys = ("source", "target", "transport", "bytes_per_second", "share_of_mean")
        print_json(
            {
                "ranks": [asdict(summary) for summary in summaries],
                "slow_ranks": slow,
                "slow_links": [dict(zip(keys, link, strict=True)) for link in links],
            }
        )
        return YES
    _print(summaries)
    if ranks:
        rows = [(rank, step, f"+{excess:.1%}") for rank, step, excess in ranks[:_MOST_LINES]]
        print_table("ranks that compute longer than the mean", ("rank", "step", "excess"), rows, right=(0, 1, 2))
    if links:
        slowest = [
            (f"{source} -> {target}", transport, format_rate(rate), f"{share:.1%}")
            for source, target, transport, rate, share in links[:_MOST_LINES]
        ]
        print_table("links slower than the mean of their kind", ("link", "transport", "rate", "of mean"), slowest)
    return YES


def _print(summaries: list[RankSummary]) -> None:
    rows = [row for summary in summaries for row in _rows(summary)]
    header = ("rank", "device", "step", "computing", "comm. not overlapped", "free", "peak reserved", "")
    print_table(f"{len(summaries)} ranks", header, rows, right=(0, 2, 3, 4, 5, 6))


def _rows(summary: RankSummary) -> list[Sequence[object]]:
    """One row for each step of a rank, or one that says why there is none."""
    peak = max((size for _, size in summary.peaks), default=None)
    shown = None if peak is None else format_bytes(peak)
    if summary.error is not None or not summary.steps:
        return [(summary.rank, summary.device, None, None, None, None, shown, summary.error or "no steps")]
    return [
        (
            summary.rank,
            summary.device,
            step.step,
            format_duration(step.computing_ns),
            format_duration(step.communication_not_overlapped_ns),
            format_duration(step.free_ns),
            shown,
            f"notes: {len(summary.notes)}" if summary.notes else "",
        )
        for step in summary.steps
    ]
