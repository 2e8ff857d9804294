"""
Damaged variants of real profile files, and what reading one must be like.

Whatever is in a file, the reader gives a profile with notes or one clear `InputError`, soon, and leaves the file as it
is. `benchmarks/profiles.py --fuzz N` runs as many as one likes.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.progress import silent
from memplan.traces import open_profile
from memplan.traces.notes import Notebook
from memplan.traces.profile import TrackKind
from memplan.traces.scan.threads import scan_events
from memplan.traces.timeline.tracks import build
from tests.traces.whole import read_whole

LONGEST_SECONDS = 20.0
_EXCERPT = 24_000
_EXTREMES = (
    b"-1", b"1e308", b"1E+15", b"nan", b"Infinity", b"9" * 30, b"9223372036854775807", b"-9223372036854775808", b"0x10",
    b"", b"null", b'"', b"'", b"\\", b"\\u0000", b"\0", b"\xff\xfe", b"{" * 2000, b"[" * 2000, b"A" * 70_000, b"\t",
    b"\r\n", b",", b",,,,,,", b"}, {", b'"}, {"', b"N/A", b"\xe2\x80\xa8", b"../../../../etc/passwd",
    b"%s%n", b"1" + b"0" * 5000,
)  # fmt: skip


@dataclass(frozen=True)
class Original:
    """A real file: what it is called in a profile, and its content (long ones cut to their beginning)."""

    name: str
    content: bytes


def originals(shared: Path) -> list[Original]:
    """Files of every kind that is read."""
    text = shared / "profiles/alexnet-ddp-2rank/text/level2/rank0_ascend_pt"
    qwen = shared / "profiles/qwen3-0.6b-train-4rank/rank_0_ascend_pt/ASCEND_PROFILER_OUTPUT"
    data = shared / "profiles/alexnet-ddp-2rank/db/level2/rank0_ascend_pt/ASCEND_PROFILER_OUTPUT"
    msprof = shared / "profiles/mindspore-alexnet-2023"
    paths = [
        *sorted((text / "ASCEND_PROFILER_OUTPUT").iterdir()),
        text / "profiler_info_0.json",
        text / "profiler_metadata.json",
        *sorted(path for path in qwen.iterdir() if path.suffix == ".csv"),
        *sorted(msprof.rglob("*_0_2_1.json")),
        shared / "profiles/cluster-16rank/cluster_analysis_output/cluster_step_trace_time.csv",
        shared / "memscope/compare/leaks.csv",
    ]
    found = [Original(path.name, _excerpt(path)) for path in paths]
    trace = json.loads((text / "ASCEND_PROFILER_OUTPUT/trace_view.json").read_bytes())
    names = [event for event in trace if event["ph"] == "M"]
    found.append(Original("trace_view.json", json.dumps([*names, *trace[::90]]).encode()))
    found.append(Original("ascend_pytorch_profiler_0.db", (data / "ascend_pytorch_profiler_0.db").read_bytes()))
    found.append(Original("analysis.db", (data / "analysis.db").read_bytes()))
    found.append(Original("snapshot.pkl", (shared / "snapshots/snapshot_expandable.pkl").read_bytes()[:_EXCERPT]))
    return found


def _excerpt(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_EXCERPT)


def mutant(rng: random.Random, files: Sequence[Original]) -> Original:
    """A damaged variant of one of `files`."""
    original = rng.choice(files)
    data = bytearray(original.content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(10)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + rng.randrange(200)]
        elif kind == 3:
            data[at:at] = data[max(at - rng.randrange(500), 0) : at]
        elif kind == 4:
            data[at : at + rng.randrange(12)] = rng.choice(_EXTREMES)
        elif kind == 5:
            other = rng.choice(files).content
            start = rng.randrange(len(other) + 1)
            data[at:at] = other[start : start + rng.randrange(2000)]
        elif kind == 6:
            data[:] = data.replace(b"\n", b"\r\n")
        elif kind == 7:
            data[:0] = b"\xef\xbb\xbf"
        elif kind == 8:
            start = at + rng.randrange(400)
            data[at:start] = bytes(rng.sample(range(256), 256))[: rng.randrange(256)]
        else:
            data[at : at + rng.randrange(64)] = b"\0" * rng.randrange(4096)
    if rng.randrange(20) == 0:
        packed = gzip.compress(bytes(data))
        return Original(original.name + ".gz", packed[: rng.randrange(len(packed))] if rng.randrange(2) else packed)
    return Original(original.name, bytes(data))


def check(one: Original, folder: Path) -> str:
    """
    Read `one` in an otherwise empty profile below `folder`; `read`, `noted` or `refused`.

    Raises `AssertionError` where the file changed or reading took too long, and whatever else the reader let out.
    """
    top = folder / "rank0_ascend_pt"
    inside = one.name.startswith(("profiler_info", "profiler_metadata"))
    output = top if inside else top / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    path = output / one.name
    path.write_bytes(one.content)
    if inside:
        (top / "ASCEND_PROFILER_OUTPUT").mkdir()
        (top / "ASCEND_PROFILER_OUTPUT/step_trace_time.csv").write_text("Step,Computing\n")
    began = time.monotonic()
    outcome = "read"
    try:
        profile = open_profile(top, cache=folder / "cache")
        read_whole(profile)
        for number in profile.ranks:
            rank = profile.rank(number)
            start, end = rank.span_ns
            for track in rank.tracks[:8]:
                if track.kind is TrackKind.COUNTER:
                    rank.counters(track.id)
                else:
                    slices = rank.slices(track.id, start, end)
                    rank.busy_ns(track.id, start, max(end, start + 1))
                    if len(slices):
                        rank.arguments(track.id, int(slices.start_ns[0]))
                        rank.flows(track.id, int(slices.start_ns[0]))
            rank.overlap()
            rank.top_ops()
        if one.name.endswith(".json"):
            build(scan_events(path, Notebook(folder), silent, workers=1), {})
        outcome = "noted" if profile.notes else "read"
    except InputError as error:
        outcome = "refused" if "\n" not in str(error) else f"refused in several lines: {error}"
    assert time.monotonic() - began < LONGEST_SECONDS, f"{one.name} took too long"
    assert path.read_bytes() == one.content, "the source was changed"
    assert {file.name for file in output.iterdir()} - {"ASCEND_PROFILER_OUTPUT"} == {one.name}, (
        "something was left beside it"
    )
    assert "\n" not in outcome, outcome
    shutil.rmtree(top)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    return outcome
