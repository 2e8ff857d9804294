"""Importing a large trace takes memory for its columns once, not for those of the file and the sorted ones together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.profile_files import write_trace

MB = 10**6
STATUS = Path("/proc/self/status")
MOST_BYTES = 90  # for each event; the columns of a slice take 40 in the file's order and 66 sorted

# What loading the libraries and compiled code takes is there before: a small trace is imported first.
IMPORTS = """
import json, os, re, sys
from pathlib import Path
from memplan.traces import open_profile

os.cpu_count = lambda: 2  # each thread has buffers of its own

def imported(folder):
    return sum(track.count for track in open_profile(Path(folder), cache=Path(sys.argv[3])).rank(0).tracks)

def held(entry):  # not what `resource` tells, which begins with what the parent held
    return int(re.search(rf"{entry}:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

imported(sys.argv[1])
before = held("VmRSS")
count = imported(sys.argv[2])
print(json.dumps({"bytes": held("VmHWM") - before, "events": count}))
"""


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not tell how much memory a process holds")
@pytest.mark.parametrize("sizes", [[100], [50, 50]], ids=["one file", "two files of one trace"])
def test_columns_are_let_go_of_as_they_are_sorted(sizes: list[int], tmp_path: Path) -> None:
    write_trace(tmp_path / "small" / "trace_view.json", 12 * MB)
    for number, size in enumerate(sizes):
        write_trace(tmp_path / "large" / f"trace_view_{number}.json", size * MB, number)
    command = [sys.executable, "-c", IMPORTS, *(str(tmp_path / name) for name in ("small", "large", "cache"))]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["events"] > 300_000
    per_event = found["bytes"] / found["events"]
    assert per_event < MOST_BYTES, f"{per_event:.0f} bytes for each event"
