"""One profile for each rank: what is shown of several sessions, devices, processes and sets of counters."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.traces.devices import DeviceShare
from memplan.traces.file_kinds import PROFILE_KINDS, FileKind
from memplan.traces.notes import Notebook
from memplan.traces.rank_source import RankSource
from memplan.traces.search.device_search import devices_told, without_devices
from memplan.traces.search.kineto_workers import rank_in_trace, traces_by_worker
from memplan.traces.search.metric_sets import metric_sets
from memplan.traces.search.small_json import small_json

_STAMP = re.compile(r"(?:^|_)(\d{14,17})(?:_|$)")
"""When a session was recorded, as the folders of torch_npu, MindSpore and msprof have it in their names."""
RANK_IN_NAME = re.compile(r"(?:^|[^a-z])rank[_-]?(\d{1,6})(?!\d)", re.IGNORECASE)
MOST_NAMED = 8  # sessions in one note


def one_per_rank(sources: Sequence[RankSource], path: Path, notes: Notebook) -> list[RankSource]:
    """
    Sources with a rank each: unknown ones take the lowest free numbers in order of folder.

    Of several sessions of one rank the newest is taken, by the time in the name of its folder.
    """
    sources = [part for source in sources for part in _by_worker(source, notes)]
    sources = _joined_sets(sources, notes)
    sources = [part for source in _newest_sessions(sources, path, notes) for part in _by_device(source, notes)]
    taken: dict[int, RankSource] = {}
    for source in sources:
        if source.rank >= 0:
            other = taken.setdefault(source.rank, source)
            if other is not source:
                raise InputError(
                    "holds two profiles of rank {}: {} and {}",
                    source.rank,
                    _below(other.folder, path),
                    _below(source.folder, path),
                    path=path,
                    remedy="open the folder of one run",
                )
    free = (rank for rank in range(len(sources)) if rank not in taken)
    for source in sources:
        if source.rank < 0:
            rank = next(free)
            if len(sources) > 1 and source.device is None:
                told = next((file for files in source.files.values() for file in files), source.folder)
                notes.tell(
                    told if len(source.files) == 1 else source.folder,
                    Sentence("tells no rank; shown as rank {}", (rank,)),
                )
            taken[rank] = replace(source, rank=rank)
    return [taken[rank] for rank in sorted(taken)]


def _by_worker(source: RankSource, notes: Notebook) -> list[RankSource]:
    """One source for each process of which torch.profiler left a trace in one folder, with its newest recording."""
    if PROFILE_KINDS.intersection(source.files) != {FileKind.TRACE}:
        return [source]
    workers = traces_by_worker(source.of(FileKind.TRACE))
    found = []
    for traces in workers.values():
        *others, newest = traces
        if others:
            listed = ", ".join(path.name for path in others[:MOST_NAMED]) + (
                ", ..." if len(others) > MOST_NAMED else ""
            )
            notes.tell(
                newest,
                Sentence(
                    "the newest of {} [recording|recordings] of one process is read; not read: {}",
                    (len(traces), listed),
                ),
            )
        match = RANK_IN_NAME.search(newest.name)
        rank = rank_in_trace(newest)
        rank = int(match.group(1)) if rank < 0 and match else rank
        alone = len(workers) == 1
        files = {**source.files, FileKind.TRACE: [newest]}
        found.append(replace(source, rank=source.rank if alone and rank < 0 else rank, files=files))
    return found or [source]


def _joined_sets(sources: Sequence[RankSource], notes: Notebook) -> list[RankSource]:
    """One source for each card of which msprof recorded a run for each set of counters: the run that tells most."""
    found = []
    for places in metric_sets([source.folder for source in sources]):
        group = [sources[place] for place in places]
        shown = max(group, key=lambda one: (bool(one.of(FileKind.KERNELS)), len(PROFILE_KINDS.intersection(one.files))))
        others = [one for one in group if one is not shown]
        if others:
            names = [one.folder.parent.name.removeprefix("PROF_") for one in (shown, *others)]
            listed = ", ".join(names[1:])
            told = f"one of {len(group)} runs of one program is shown, {names[0]}"
            notes.tell(shown.folder, Sentence("{}; only tables and counters of kernels are read of {}", (told, listed)))
            tables = [path for one in group for path in one.of(FileKind.TABLE)]
            files = {**shown.files, **({FileKind.TABLE: tables} if tables else {})}
            metrics = [path for one in others for path in one.of(FileKind.KERNELS)]
            shown = replace(shown, files=files, metrics=metrics)
        found.append(shown)
    return found


def _by_device(source: RankSource, notes: Notebook) -> list[RankSource]:
    """One source for each device whose data the files hold; of several, only the first keeps the rank of the folder."""
    if not PROFILE_KINDS.intersection(source.files):
        return [source]
    devices = devices_told(source.folder, source.files)
    if not devices:
        return [source]
    listed = ", ".join(map(str, devices[:16])) + (", ..." if len(devices) > 16 else "")
    notes.tell(
        source.folder,
        Sentence("holds {} [device|devices] ({}) of one process: each is shown as a rank", (len(devices), listed)),
    )
    found: list[RankSource] = []
    of_none = without_devices(source.folder, source.files)
    for device in devices:
        share = DeviceShare(device, devices)
        files = {kind: share.files(source.folder, paths) for kind, paths in source.files.items()}
        if not share.holds(None):
            files = {kind: [path for path in paths if path not in of_none] for kind, paths in files.items()}
        files = {kind: paths for kind, paths in files.items() if paths}
        told = str(small_json(files.get(FileKind.DEVICE_INFO, ()), notes).get("rank_id", ""))
        rank = int(told) if told.isascii() and told.isdigit() and len(told) < 8 else -1
        if rank >= 0 and rank in (one.rank for one in found):
            notes.add(
                files[FileKind.DEVICE_INFO][0],
                Sentence("tells rank {} as another device does: shown as another rank", (rank,)),
            )
            rank = -1
        found.append(replace(source, rank=rank, files=files, device=share))
    if source.rank >= 0 and source.rank not in (one.rank for one in found) and found[0].rank < 0:
        found[0] = replace(found[0], rank=source.rank)
    return found


def _newest_sessions(sources: Sequence[RankSource], path: Path, notes: Notebook) -> list[RankSource]:
    """Of sessions of one rank, and of runs of one card, the newest, with a note; all where their names tell no time."""
    groups: dict[tuple[int, int], list[RankSource]] = {}
    for number, source in enumerate(sources):
        one_card = any(file.name == "profiler_info.json" for file in source.of(FileKind.INFO))
        alone = source.rank < 0 and not one_card  # nothing tells whether it is another rank or the same again
        groups.setdefault((source.rank, number if alone else -1), []).append(source)
    kept = []
    for (rank, _), found in groups.items():
        stamps = [(match.group(1).ljust(17, "0") if (match := _STAMP.search(one.folder.name)) else "") for one in found]
        if len(found) > 1 and all(stamps) and len(set(stamps)) == len(stamps):
            newest = found[stamps.index(max(stamps))]
            others = [one for one in found if one is not newest]
            whose = f"sessions of rank {rank}" if rank >= 0 else "runs of one card"
            listed = ", ".join(_below(one.folder, path) for one in others[:MOST_NAMED])
            notes.tell(
                newest.folder,
                f"the newest of {len(found)} {whose} is read; not read: {listed}"
                + (", ..." if len(others) > MOST_NAMED else "")
                + "; open such a folder itself to see it",
            )
            found = [newest]
        kept += found
    return kept


def _below(folder: Path, path: Path) -> str:
    return os.path.relpath(folder, path)
