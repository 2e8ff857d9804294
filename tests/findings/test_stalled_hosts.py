"""A host whose process stands still, told from one that is busy launching."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.simulator.job_program import Doing, Item, RankProgram
from tests.findings.planted_runs import diagnosed, named

GAP_NS = 300_000_000


def _with_gap(program: RankProgram, *items: Item) -> RankProgram:
    """`program` with something that keeps the host from launching, after the device has run empty."""
    return (*program[:5], Item(Doing.SYNCHRONISE, "drained", "quiet", 0), *items, *program[5:])


@pytest.mark.parametrize(("length_ns", "stalled"), [(GAP_NS, True), (GAP_NS // 3, False)])
def test_a_long_gap_without_any_call_is_a_process_that_stands_still(
    tmp_path: Path, length_ns: int, stalled: bool
) -> None:
    silent = Item(Doing.HOST, "main.py(3): think", "", length_ns)
    found = diagnosed(tmp_path / "run", lambda program: _with_gap(program, silent), steps=1)
    kind = "idle.stalled" if stalled else "idle.host"
    (told,) = named(found, kind)
    assert told.cost_ns == pytest.approx(length_ns, rel=0.01)
    assert told.remedies


def test_a_host_that_calls_the_runtime_all_the_while_is_busy(tmp_path: Path) -> None:
    busy = [Item(Doing.HOST, "AscendCL@aclCreateTensorDesc", "", GAP_NS // 50)] * 50
    found = diagnosed(tmp_path / "run", lambda program: _with_gap(program, *busy), steps=1)
    assert not named(found, "idle.stalled")
    assert named(found, "idle.host")


def test_copies_that_come_late_are_places_to_open(tmp_path: Path) -> None:
    copy = Item(Doing.COPY, "MEMCPY_ASYNC", "host to device", 400_000)
    found = diagnosed(tmp_path / "run", lambda program: (*program[:30], copy, *program[30:60], copy, *program[60:]))
    (exposed,) = named(found, "copy.exposed")
    told = {item.label: item.value for item in exposed.evidence}
    assert told["copies"] == told["times that the device waits for one"] == 6
    assert told["longest wait"] == pytest.approx(400_000, rel=0.01)
    assert exposed.cost_ns == pytest.approx(6 * 400_000, rel=0.01)
    assert all(place.span_ns for place in exposed.places)
