"""
Summaries of many ranks: read where the files lie, in other processes or on a Dask cluster; only totals travel.

A rank's summary is a few kilobytes whatever its profile holds, so that a thousand ranks fit anywhere.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from statistics import mean
from typing import Any

from memplan.core.errors import CancelledError, InputError, MemplanError
from memplan.core.progress import Progress, silent
from memplan.core.workers import most_workers
from memplan.traces.communication_times import (
    CommunicationTotal,
    TransportTotal,
    communication_totals,
    transport_totals,
)
from memplan.traces.discover import find_ranks
from memplan.traces.file_kinds import FileKind
from memplan.traces.link_totals import SLOW_LINK, LinkTotal, link_totals, slower_links
from memplan.traces.notes import Notebook
from memplan.traces.parallel_groups import ParallelGroups, parallel_groups
from memplan.traces.profile import LinkTraffic, Note, OpTotal, Overlap, StepTimes
from memplan.traces.rank import RankProfile, RankReader
from memplan.traces.rank_source import RankSource
from memplan.traces.readers.choice import open_reader
from memplan.traces.readers.trace_file import SMALL

# From msprof-analyze: its rule for slow ranks flags a spread of 5 % of the mean.
SLOW_RANK = 0.05
_MOST_OPS = 50
_KILLED = "the process that read it was killed, perhaps for want of memory; try again with one worker"
_STAGED = ("batchsendrecv", "send", "receive", "hcom_send", "hcom_receive", "hcom_batchSendRecv")
"""How communications between pipeline stages are called in a matrix."""


@dataclass(frozen=True, slots=True)
class RankSummary:
    """
    One rank in totals: bytes and nanoseconds. `slices` counts its timeline, `ops` are the types that took most time.

    `peaks` is the highest reserved (else allocated) memory by component, `communications` and `transports` what the
    profiler took apart of its communications. `error` says why the rank could not be read.
    """

    rank: int
    device: str
    span_ns: tuple[int, int]
    slices: int
    steps: Sequence[StepTimes]
    overlap: Overlap | None
    ops: Sequence[OpTotal]
    peaks: Sequence[tuple[str, int]]
    links: Sequence[LinkTraffic]
    notes: Sequence[Note]
    error: str | None = None
    groups: ParallelGroups = field(default_factory=ParallelGroups)
    communications: Sequence[CommunicationTotal] = ()
    transports: Sequence[TransportTotal] = ()

    @property
    def stage(self) -> int | None:
        """Its pipeline stage, `None` where the profile doesn't tell."""
        return self.groups.stage_of(self.rank)


def summarise_ranks(
    path: str | Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
    cache: Path | None = None,
    notes: Notebook | None = None,
) -> list[RankSummary]:
    """
    Summaries of all ranks of the profile at `path`, in order of rank.

    Runs on `workers` processes (`most_workers` by default; 1: in this one), or on the Dask cluster whose
    scheduler has the address `scheduler`; its workers must see the same files under the same names. A rank that
    can't be read has an `error`; `notes` gets what the search for ranks left out. Raises `InputError` where there is no
    profile, or no such scheduler.
    """
    path = Path(path)
    sources = find_ranks(path, notes or Notebook(path))
    if scheduler is not None:
        return _on_dask(sources, path, scheduler, progress, cache)
    if all(source.of_cluster for source in sources):
        return _of_cluster(sources, path, progress)
    workers = min(workers or most_workers(), len(sources))
    if workers <= 1:
        found = []
        for done, source in enumerate(sources):
            progress(done, len(sources), "ranks")
            found.append(summary_of(source, path, cache, None, progress))
        return found
    return _on_processes(sources, path, workers, progress, cache)


def summary_of(
    source: RankSource, root: Path, cache: Path | None, threads: int | None, progress: Progress = silent
) -> RankSummary:
    """The summary of one rank, read with so many threads (`None`: one for each processor)."""
    notes = Notebook(root)
    return _summed(source, lambda progress: open_reader(source, notes, progress, cache, threads), notes, progress)


def _of_cluster(sources: Sequence[RankSource], root: Path, progress: Progress) -> list[RankSummary]:
    """Summaries from files that tell of all ranks, which are read once."""
    from memplan.traces.cluster_files import read_cluster
    from memplan.traces.readers.cluster_reader import ClusterReader

    files, found = read_cluster(sources[0].files, Notebook(root), progress), []
    for done, source in enumerate(sources):
        progress(done, len(sources), "ranks")
        notes = Notebook(root)
        found.append(_summed(source, partial(_opened, ClusterReader(files, source.rank, notes)), notes, progress))
    return found


def _opened(reader: RankReader, _progress: Progress) -> RankReader:
    return reader


def _summed(
    source: RankSource, opened: Callable[[Progress], RankReader], notes: Notebook, progress: Progress
) -> RankSummary:
    groups = parallel_groups(source.metadata)
    try:
        rank = RankProfile(source.rank, opened)
        curves = rank.memory_curves(progress).values()
        peaks = [
            (curve.component, int(values.max()))
            for curve in curves
            if (values := curve.reserved if curve.reserved is not None else curve.allocated) is not None and len(values)
        ]
        device = rank.device
        rank.timeline(progress)
        communications = rank.communications(progress)
        return RankSummary(
            rank=source.rank,
            device=device,
            span_ns=rank.span_ns,
            slices=sum(track.count for track in rank.tracks),
            steps=list(rank.steps(progress)),
            overlap=rank.overlap(),
            ops=list(rank.top_ops(_MOST_OPS)),
            peaks=peaks,
            links=list(rank.links(progress)),
            notes=notes.notes,
            groups=groups,
            communications=communication_totals(communications),
            transports=transport_totals(communications),
        )
    except CancelledError:
        raise
    except MemplanError as error:
        return _unread(source, str(error), notes.notes)


def _on_processes(
    sources: Sequence[RankSource], root: Path, workers: int, progress: Progress, cache: Path | None
) -> list[RankSummary]:
    # Forking spares every worker its imports, and scripts their `if __name__ == "__main__"`; with threads about (a
    # window's) it is not safe.
    methods = multiprocessing.get_all_start_methods()
    alone = threading.active_count() == 1 and sys.platform.startswith("linux")
    method = "fork" if alone else "forkserver" if "forkserver" in methods else "spawn"
    if method == "fork":
        _load_compiled(sources)
    context = multiprocessing.get_context(method)
    found = _in_pool(sources, root, workers, context, progress, cache)
    # A process that was killed takes what the pool had yet to do with it: that is read again, each rank by itself.
    for source in sources:
        if source.rank not in found:
            progress(len(found), len(sources), "ranks")
            found |= _in_pool([source], root, 1, context, silent, cache)
            found.setdefault(source.rank, _unread(source, _KILLED))
    return sorted(found.values(), key=lambda summary: summary.rank)


def _in_pool(
    sources: Sequence[RankSource],
    root: Path,
    workers: int,
    context: BaseContext,
    progress: Progress,
    cache: Path | None,
) -> dict[int, RankSummary]:
    """Summaries by rank, of all `sources` or, where a process was killed, of those that were done before."""
    found: dict[int, RankSummary] = {}
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        waiting = {pool.submit(summary_of, source, root, cache, 1) for source in sources}
        while waiting:
            progress(len(found), len(sources), "ranks")
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                summary = future.result()
                found[summary.rank] = summary
    except BrokenExecutor:
        pool.shutdown(cancel_futures=True)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    else:
        pool.shutdown()
    return found


def _unread(source: RankSource, why: str, notes: Sequence[Note] = ()) -> RankSummary:
    return RankSummary(source.rank, "", (0, 0), 0, [], None, [], [], [], notes, why)


def _load_compiled(sources: Sequence[RankSource]) -> None:
    """Load, once for all workers, the compiled code that large traces need; nothing where all are small."""
    sizes = (path.stat().st_size for source in sources for path in source.of(FileKind.TRACE) if path.exists())
    if any(size > SMALL for size in sizes):
        from memplan.traces.scan.state import ScanState

        ScanState(1)


def _on_dask(
    sources: Sequence[RankSource], root: Path, scheduler: str, progress: Progress, cache: Path | None
) -> list[RankSummary]:
    try:
        import distributed
    except ImportError:
        raise InputError("a scheduler needs Dask", remedy="pip install 'memplan[dask]'") from None
    dask: Any = distributed  # it has no types
    try:
        client: Any = dask.Client(scheduler, timeout=20, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            "no Dask scheduler answers at {}", scheduler, remedy="give its address, such as tcp://host:8786"
        ) from error
    try:
        root = root.resolve()
        futures = [client.submit(summary_of, source, root, cache, 1, pure=False) for source in sources]
        found: list[RankSummary] = []
        for _, summary in dask.as_completed(futures, loop=client.loop, with_results=True):
            found.append(summary)
            progress(len(found), len(sources), "ranks")
        return sorted(found, key=lambda one: one.rank)
    finally:
        client.close()


def slow_ranks(summaries: Sequence[RankSummary], threshold: float = SLOW_RANK) -> list[tuple[int, int | None, float]]:
    """
    Ranks that compute longer than the mean of their peers by more than `threshold` of it: rank, step, excess (a share).

    In synchronous training every other rank waits for these. Peers are the ranks of one pipeline stage in one step:
    other stages have other work. Ranks whose stage is unknown are peers of each other unless they send to and receive
    from each other, which ranks of several stages do. Worst first.
    """
    peers: dict[tuple[int | None, int | None], list[tuple[int, int]]] = {}
    for summary in summaries:
        if summary.stage is None and any(use.op.startswith(_STAGED) for use in summary.links):
            continue
        for step in {step.step: step for step in summary.steps}.values():
            if step.computing_ns is not None:
                peers.setdefault((summary.stage, step.step), []).append((summary.rank, step.computing_ns))
    found = []
    for (_, number), times in peers.items():
        average = mean(time for _, time in times)
        for rank, time in times:
            if len(times) > 1 and average > 0 and time > average * (1 + threshold):
                found.append((rank, number, time / average - 1))
    return sorted(found, key=lambda entry: (-entry[2], entry[0]))


def job_links(summaries: Sequence[RankSummary]) -> list[LinkTotal]:
    """Totals of all links between the ranks, by global rank."""
    return link_totals(
        {summary.rank: summary.links for summary in summaries}, {summary.rank: summary.groups for summary in summaries}
    )


def slow_links(
    summaries: Sequence[RankSummary], threshold: float = SLOW_LINK
) -> list[tuple[int, int, str, float, float]]:
    """
    Links slower than the mean of their transport by more than `threshold` of it, worst first.

    Each is source, target, transport, bytes per second over all its uses, and that as a share of the mean.
    """
    return [
        (link.source, link.target, link.transport, link.bytes_per_second, share)
        for link, share in slower_links(job_links(summaries), threshold)
    ]
