"""The events of a memory snapshot, kept as columns."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from memplan.core.progress import silent
from memplan.traces.notes import Notebook
from memplan.traces.readers.snapshot import SnapshotReader
from memplan.traces.readers.snapshot_events import ALLOCATED, FAILED, RELEASED, taken_events


def event(row: int, **changes: Any) -> dict[str, Any]:
    frames = [{"filename": f"/job/{row % 7}.py", "line": row % 7, "name": "forward"}]
    return {"action": "alloc", "addr": 512 + row * 512, "size": 512, "time_us": 100 + row, "frames": frames, **changes}


def test_events_become_columns_and_are_let_go_of() -> None:
    trace: list[Any] = [
        event(0, size=1024), "no event", event(1, action="free_completed"), event(2, action=["alloc"]),
        event(3, action="oom", device_free=77), event(4, size=-5, addr=2**70, frames=None),
    ]  # fmt: skip
    events = taken_events(trace)
    assert trace == []
    assert events.action.tolist() == [ALLOCATED, RELEASED, 0, FAILED, ALLOCATED]
    assert events.size.tolist() == [1024, 512, 512, 512, 0]
    assert events.address.tolist() == [512, 1024, 1536, 2048, 0]
    assert [events.places[place] for place in events.place] == [f"/job/{n}.py:{n} forward" for n in range(4)] + [""]
    assert events.time_ns is not None
    assert events.time_ns.tolist() == [100_000, 101_000, 102_000, 103_000, 104_000]
    assert events.device_free == {3: 77}


@pytest.mark.parametrize("time", [None, 1.5, "100"])
def test_one_event_without_a_time_leaves_all_to_be_numbered(time: object) -> None:
    assert taken_events([event(0), event(1, time_us=time), event(2)]).time_ns is None


@pytest.mark.parametrize(("time", "kept"), [(2**80, 2**53 * 1000), (-(2**80), -(2**53) * 1000)])
def test_a_time_out_of_range_is_the_last_that_can_be_told(time: int, kept: int) -> None:
    times = taken_events([event(0, time_us=time)]).time_ns
    assert times is not None
    assert times.tolist() == [kept]


def test_devices_that_share_their_events_have_the_same(tmp_path: Path) -> None:
    trace = [event(row) for row in range(10)]
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps({"segments": [], "device_traces": [trace, trace]}))
    curves = SnapshotReader(path, Notebook(tmp_path)).memory_curves(silent)
    assert len(curves) == 2
    first, second = curves.values()
    assert first.allocated is not None
    assert second.allocated is not None
    assert first.allocated.tolist() == second.allocated.tolist()
    assert len(first.allocated) == 10


def test_what_is_kept_of_an_event_is_a_few_numbers(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps({"segments": [], "device_traces": [[event(row) for row in range(20_000)]]}))
    reader = SnapshotReader(path, Notebook(tmp_path))
    tracemalloc.start()
    try:
        assert reader.device(silent) == "NPU:0"
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept / 20_000 < 70, f"{kept / 20_000:.0f} bytes for each event"
