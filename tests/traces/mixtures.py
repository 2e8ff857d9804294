"""
Whether a folder in which several profiles lie loses any of them in silence, or gives the rows of one to another.

Runs of several producers, ranks, devices and sessions, files of a whole job and archives of runs are laid into one
folder. Each row carries a word of its own. Every row must be read, under the rank of its run and with no row of
another run there, or a note or the refusal must name its file, its folder or its archive.
`python -m tests.traces.mixtures 20000 [SEED]` tries as many folders as one likes.
"""

from __future__ import annotations

import io
import json
import random
import re
import sqlite3
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.directory import Profile
from memplan.traces.rank import RankProfile

BEGIN_US = 1_760_000_000_000_000
_WORD = re.compile(r"u\d+d\d+\w\d+z")
_OUTPUT = "ASCEND_PROFILER_OUTPUT"


@dataclass
class Run:
    """
    One profile: its files below the folder, the words of each (of one device) and the rank that it tells, -1 if none.

    `number` is the run's own, `begin_us` when it began.
    """

    number: int
    rank: int
    stamp: str
    begin_us: int
    files: dict[str, bytes] = field(default_factory=dict)
    words: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def word(self, path: str, device: int, kind: str, row: int) -> str:
        """A word of its own for a row of the file at `path`."""
        word = f"u{self.number}d{device}{kind}{row}z"
        self.words.setdefault(path, {}).setdefault(device, set()).add(word)
        return word

    def moved(self, place: Callable[[str], str]) -> None:
        """The same run with its files elsewhere."""
        self.files = {place(path): content for path, content in self.files.items()}
        self.words = {place(path): words for path, words in self.words.items()}


def _kernels(run: Run, path: str, devices: Sequence[int], header: str, numbered: bool) -> None:
    lines = [("Device_id," if numbered else "") + header]
    for device in devices:
        for row in range(3):
            word = run.word(path, device, "k", row)
            lines.append((f"{device}," if numbered else "") + f"{word},MatMulV2,{run.begin_us + 100 * row}.125,50.5")
    run.files[path] = "\n".join((*lines, "")).encode()


def _slices(run: Run, path: str, head: Mapping[str, object] | None) -> None:
    events: list[dict[str, object]] = [
        {"ph": "X", "name": run.word(path, 0, "s", row), "pid": 1, "tid": 1, "ts": run.begin_us + 100 * row, "dur": 50}
        for row in range(3)
    ]
    if head is None:
        events.append({"ph": "M", "name": "process_labels", "pid": 1, "args": {"labels": "NPU 0"}})
    run.files[path] = json.dumps(events if head is None else {**head, "traceEvents": events}).encode()


def _allocations(run: Run, path: str) -> None:
    lines = ["Name,Size(KB),Allocation Time(us),Release Time(us),Device Type"]
    lines += [
        f"{run.word(path, 0, 'a', row)},2.5,{run.begin_us + row}.125,{run.begin_us + 90 + row}.250,NPU:0"
        for row in range(2)
    ]
    run.files[path] = "\n".join((*lines, "")).encode()


def _framework(run: Run, rng: random.Random, ending: str) -> None:
    top = f"host{run.number}_{70 + run.number}_{run.stamp}_{ending}"
    told: dict[str, Any] = {} if ending == "ascend_pt" else {"ms_profiler_info": {}}
    name = "profiler_info.json" if run.rank < 0 else f"profiler_info_{run.rank}.json"
    run.files[f"{top}/{name}"] = json.dumps({**told, "config": {}}).encode()
    if rng.random() < 0.25:
        kind = "pytorch" if ending == "ascend_pt" else "mindspore"
        _database(run, f"{top}/{_OUTPUT}/ascend_{kind}_profiler{'' if run.rank < 0 else f'_{run.rank}'}.db")
        return
    _kernels(run, f"{top}/{_OUTPUT}/kernel_details.csv", (0,), "Name,Type,Start Time(us),Duration(us)", False)
    if rng.random() < 0.6:
        _slices(run, f"{top}/{_OUTPUT}/trace_view.json", None)
    if rng.random() < 0.5:
        _allocations(run, f"{top}/{_OUTPUT}/operator_memory.csv")


def _database(run: Run, path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with closing(sqlite3.connect(Path(folder) / "a.db")) as data, data:
            data.execute("CREATE TABLE STRING_IDS (id INTEGER PRIMARY KEY, value TEXT)")
            data.execute("CREATE TABLE COMPUTE_TASK_INFO (globalTaskId INTEGER, name INTEGER, opType INTEGER)")
            data.execute("CREATE TABLE TASK (globalTaskId INTEGER, startNs INTEGER, endNs INTEGER, streamId INTEGER)")
            data.execute("INSERT INTO STRING_IDS VALUES (1000, 'MatMulV2')")
            for row in range(3):
                start = (run.begin_us + 100 * row) * 1000
                data.execute("INSERT INTO STRING_IDS VALUES (?, ?)", (row, run.word(path, 0, "k", row)))
                data.execute("INSERT INTO COMPUTE_TASK_INFO VALUES (?, ?, 1000)", (row, row))
                data.execute("INSERT INTO TASK VALUES (?, ?, ?, 3)", (row, start, start + 50_000))
        run.files[path] = (Path(folder) / "a.db").read_bytes()


def _msprof(run: Run, rng: random.Random) -> None:
    top = f"PROF_{run.number + 1:06d}_{run.stamp}_ABCDEF{run.number}"
    devices = sorted(rng.sample(range(8), rng.choice((1, 1, 2, 3))))
    run.rank = run.rank if len(devices) == 1 else -1
    for device in devices:
        told = json.dumps({"rank_id": run.rank if run.rank >= 0 else -1}).encode()
        run.files[f"{top}/device_{device}/info.json.{device}"] = told
    path = f"{top}/mindstudio_profiler_output/op_summary_{run.stamp[:14]}.csv"
    _kernels(run, path, devices, "Op Name,OP Type,Task Start Time(us),Task Duration(us)", True)


def _kineto(run: Run, rng: random.Random) -> None:
    head: dict[str, object] = {"schemaVersion": 1}
    if run.rank >= 0:
        head["distributedInfo"] = {"backend": "gloo", "rank": run.rank, "world_size": 64}
    _slices(run, f"host_{70 + run.number}.{run.stamp}.pt.trace.json", head)


def _memscope(run: Run, rng: random.Random) -> None:
    run.rank = -1
    path = f"memscope_dump_{run.stamp}.csv"
    lines = ["ID,Event,Event Type,Name,Timestamp(ns),Process Id,Thread Id,Device Id,Ptr,Attr,Call Stack(Python)"]
    for row in range(2):
        attributes = f'"{{addr:{8192 + row},size:512,owner:{run.word(path, 0, "m", row)},total:8192,used:512}}"'
        lines.append(f"{row},MALLOC,PTA,N/A,{run.begin_us * 1000 + row},9,9,0,{8192 + row},{attributes},")
    run.files[path] = "\n".join((*lines, "")).encode()


def _service(run: Run, rng: random.Random) -> None:
    run.rank = -1
    lines = ["name,start_time(ms),end_time(ms)"]
    begin = run.begin_us // 1000
    lines += [f"{run.word('batch.csv', 0, 'b', row)},{begin + 10 * row}.5,{begin + 10 * row + 5}.5" for row in range(2)]
    run.files["batch.csv"] = "\n".join((*lines, "")).encode()


_PRODUCERS: Mapping[str, Callable[[Run, random.Random], None]] = {
    "torch_npu": lambda run, rng: _framework(run, rng, "ascend_pt"),
    "MindSpore": lambda run, rng: _framework(run, rng, "ascend_ms"),
    "msprof": _msprof,
    "Kineto": _kineto,
    "msMemScope": _memscope,
    "service": _service,
}


@dataclass(frozen=True)
class Mixture:
    """Runs, the files of the folder that holds them, and by the path of a row's file the names that stand for it."""

    runs: Sequence[Run]
    files: Mapping[str, bytes]
    names: Mapping[str, Sequence[str]]
    job_ranks: Sequence[int] = ()
    """Ranks that a cluster analysis tells of."""


def mixture(rng: random.Random) -> Mixture:
    """Two to five runs in one folder: beside each other, in folders, flat, or in archives."""
    runs: list[Run] = []
    files: dict[str, bytes] = {}
    producers = rng.sample(sorted(_PRODUCERS), rng.choice((1, 2, 2, 3)))
    for number in range(rng.choice((2, 2, 3, 4, 5))):
        told = rng.random() < 0.75
        run = Run(
            number, rng.randrange(6) if told else -1, f"20260101{number:02d}0000{rng.randrange(1000):03d}",
            BEGIN_US + number * rng.choice((1000, 3_600_000_000)),
        )  # fmt: skip
        _PRODUCERS[rng.choice(producers)](run, rng)
        _laid(run, rng, files)
        runs.append(run)
    names: dict[str, list[str]] = {}
    for run in runs:
        packed = rng.choice(("", "", "", "", ".zip", ".tar.gz"))
        above = f"packed{run.number}{packed}" if packed else ""
        for path in run.words:
            names[path] = [part for part in path.split("/") if part not in (_OUTPUT, "mindstudio_profiler_output")]
            names[path] += [above] if above else []
        if packed:
            for path in run.files:
                del files[path]
            slash = rng.choice("/\\")
            files[above] = _archive(packed, {path.replace("/", slash): text for path, text in run.files.items()})
    job: list[int] = []
    if rng.random() < 0.3:
        job = list(range(rng.choice((2, 8))))
        header = "Step,Type,Index,Computing,Communication(Not Overlapped),Overlapped,Communication,Free"
        rows = [f"{8_700_100 + rank},rank,{rank},{100 + rank},30,10,40,50" for rank in job]
        where = rng.choice(("cluster_analysis_output/", "cluster_analysis_output/", ""))
        files[f"{where}cluster_step_trace_time.csv"] = "\n".join((header, *rows, "")).encode()
    return Mixture(runs, files, names, job)


def _laid(run: Run, rng: random.Random, files: dict[str, bytes]) -> None:
    """Put a run's files into the folder: as they are, in a folder more, or flat beside those of others."""
    how = rng.choice(("as it is", "as it is", "folder", "flat"))
    if how == "folder":
        run.moved(lambda path: f"node{run.number}/a b/中文/{path}")
    elif how == "flat":
        run.moved(lambda path: path.replace("mindstudio_profiler_output/", "").rpartition("/")[2])
    if any(path in files for path in run.files):
        run.moved(lambda path: f"apart{run.number}/{path}")
    files.update(run.files)


def _archive(suffix: str, files: Mapping[str, bytes]) -> bytes:
    sink = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(sink, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(fileobj=sink, mode="w:gz") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def _words(rank: RankProfile) -> Iterator[str]:
    """All words that a rank shows."""
    kernels, allocations = rank.kernels(), rank.allocations()
    shown = [*(kernels.name if kernels is not None else ()), *(allocations.name if allocations is not None else ())]
    rank.timeline()
    for track in rank.tracks:
        rows = rank.slices(track.id)
        shown += [rows.names[name] for name in rows.name.tolist()]
    for text in shown:
        yield from _WORD.findall(text)


def outcome(made: Mixture, folder: Path) -> str:
    """
    `read` where every row is read under its rank, `noted` or `refused` where a note or an error names what is not.

    Raises `AssertionError` where rows are lost in silence, or where a rank shows those of another.
    """
    for name, content in made.files.items():
        path = folder / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    try:
        profile = open_profile(folder / "job", cache=folder / "cache")
        found = {number: set(_words(profile.rank(number))) for number in profile.ranks}
        steps = {step.step for number in profile.ranks for step in profile.rank(number).steps()}
    except InputError:
        return "refused"
    told = "\n".join(f"{note.file}: {note.text}" for note in profile.notes)
    missing = _checked(made, profile, found, told)
    for rank in made.job_ranks:
        if 8_700_100 + rank not in steps:
            assert "cluster_" in told, f"rank {rank} of the job is lost in silence"
            missing = True
    return "noted" if missing else "read"


def _checked(made: Mixture, profile: Profile, found: Mapping[int, set[str]], told: str) -> bool:
    """Whether rows are missing that a note tells of."""
    missing = False
    for run in made.runs:
        owners: dict[int, int] = {}
        for path, by_device in run.words.items():
            for device, words in by_device.items():
                holders = [rank for rank, own in found.items() if own & words]
                if not all(any(word in own for own in found.values()) for word in words):
                    covered = any(name in told for name in made.names[path])
                    assert covered, f"rows of {path} are lost in silence"
                    missing = True
                assert len(holders) < 2, f"rows of {path} are shown as ranks {holders}"
                for rank in holders:
                    assert owners.setdefault(device, rank) == rank, f"{path}: not all of the run is rank {rank}"
                    if run.rank >= 0 and _tells(run, path):
                        said = re.search(
                            rf"profiler_info_{run.rank}\.json.*as of the first|tells rank {run.rank} as"
                            "|another tool wrote",
                            told,
                        )
                        assert rank == run.rank or said, f"{path} of rank {run.rank} is shown as rank {rank}"
                        missing |= rank != run.rank
    for rank, words in found.items():
        shown = {word.partition("d")[0] for word in words}
        other = "another tool wrote" in told
        assert len(shown) < 2 or other, f"rank {rank} of {profile.ranks} shows rows of several runs: {sorted(shown)}"
        missing |= len(shown) > 1
    return missing


def _tells(run: Run, path: str) -> bool:
    """Whether what tells the rank still lies where it belongs."""
    return any(
        re.search(r"profiler_info_\d|info\.json\.\d|pt\.trace", name)
        and path.startswith(re.sub(r"(?:device_\d/)?[^/]*$", "", name))
        for name in run.files
    )


def try_many(count: int, seed: int, keep: Callable[[str, Mixture], None] | None = None) -> Counter[str]:
    """Outcomes of `count` folders; one that loses something is kept by `keep`, or raises."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    for _ in range(count):
        made = mixture(rng)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found[outcome(made, Path(scratch))] += 1
            except Exception as error:
                if keep is None:
                    raise
                found["lost"] += 1
                keep(f"{type(error).__name__}: {error}", made)
    return found


if __name__ == "__main__":
    failures: list[str] = []
    outcomes = try_many(
        int(sys.argv[1]),
        int(sys.argv[2]) if len(sys.argv) > 2 else 1,
        lambda why, made: failures.append(f"{why}\n    {sorted(made.files)} {[run.rank for run in made.runs]}"),
    )
    print(dict(outcomes), *(why[:700] for why in failures[:30]), sep="\n")
    sys.exit(bool(failures))
