"""Memory of a run watched against its plan."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.core.errors import InputError
from memplan.runtime.memory_counters import ProcessCounter, RuntimeCounter
from memplan.runtime.watch import MemoryWatch, refuse_unfitting
from memplan.schema import Plan, Tier, plan_peak
from memplan.schema.applied import AppliedPlan
from tests.small_plans import MIB, layered_plan


class Device:
    """A device whose memory the test sets, with the functions of `torch.npu`."""

    def __init__(self, peak: int) -> None:
        self.bytes = peak
        self.resets = 0

    def memory_allocated(self) -> int:
        return self.bytes // 2

    def memory_reserved(self) -> int:
        return self.bytes

    def max_memory_allocated(self) -> int:
        return self.bytes

    def reset_peak_memory_stats(self) -> None:
        self.resets += 1


@pytest.fixture
def plan() -> Plan:
    return layered_plan()


def peak(plan: Plan) -> int:
    use = plan.tier(Tier.HBM)
    assert use is not None
    return use.peak


def test_a_run_that_keeps_to_its_plan_is_silent(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    device = Device(peak(plan))
    watch = MemoryWatch(plan, counter=RuntimeCounter(device, "PTA"))
    for _ in range(3):
        with watch.step():
            pass
    assert (watch.steps, len(watch.samples), device.resets) == (3, 3, 3)
    assert not caplog.records


def test_an_applied_plan_is_held_against_what_was_set(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    applied = AppliedPlan((), (), planned=peak(plan), peak=peak(plan) + 4 * MIB)
    watch = MemoryWatch(plan, applied=applied, counter=RuntimeCounter(Device(peak(plan) + 4 * MIB), "PTA"))
    with watch.step():
        pass
    assert watch.planned_peak == applied.peak
    assert not caplog.records


def test_drift_is_warned_of_once_with_the_tensors_to_blame(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    watch = MemoryWatch(plan, counter=RuntimeCounter(Device(peak(plan) + 4 * MIB), "PTA"))
    with caplog.at_level(logging.WARNING, logger="memplan"):
        for _ in range(3):
            with watch.step():
                pass
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "over the planned" in warning
    assert "step 1" in warning


def test_blamed_are_released_tensors_of_the_size_that_is_too_much() -> None:
    plan = memplan.load_plan(Path(memplan.__file__).parent / "samples" / "llama_train.plan.json")
    watch = MemoryWatch(plan, counter=ProcessCounter())
    full = plan_peak(plan)
    assert full is not None
    gone = [tensor for tensor in plan.tensors if not tensor.persistent and tensor.end <= full.step]
    largest = max(gone, key=lambda tensor: tensor.nbytes)
    sizes = {tensor.name: tensor.nbytes for tensor in gone}
    blamed = watch.blamed(largest.nbytes)
    assert sizes[blamed[0].rsplit(" (", 1)[0]] == largest.nbytes
    assert watch.blamed(0) == ()


def test_the_curve_opens_as_a_profile(plan: Plan, tmp_path: Path) -> None:
    watch = MemoryWatch(plan, counter=RuntimeCounter(Device(8 * MIB), "PTA"), folder=tmp_path / "watched")
    for _ in range(5):
        with watch.step():
            pass
    folder = watch.close()
    assert folder is not None
    profile = memplan.open_profile(folder)
    curve = profile.rank(profile.ranks[0]).memory("PTA")
    assert curve is not None
    assert max(curve.allocated.tolist()) == 8 * MIB


@pytest.mark.parametrize("broken", ["memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"])
def test_what_fails_in_the_watcher_ends_watching_and_not_the_run(
    broken: str, plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(peak(plan))

    def fail() -> int:
        raise RuntimeError("no such statistic")

    setattr(device, broken, fail)
    watch = MemoryWatch(plan, counter=RuntimeCounter(device, "PTA"))
    done = 0
    with caplog.at_level(logging.WARNING, logger="memplan"):
        for _ in range(3):
            with watch.step():
                done += 1
    assert done == 3
    assert not watch.working
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    watch = MemoryWatch(plan, counter=ProcessCounter(), folder=tmp_path / "file")
    with watch.step():
        pass
    assert watch.close() is None


def test_the_errors_of_a_step_stay_its_own(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    watch = MemoryWatch(plan, counter=RuntimeCounter(Device(peak(plan)), "PTA"))
    expected = pytest.raises(RuntimeError, match="out of memory")
    with caplog.at_level(logging.WARNING, logger="memplan"), expected, watch.step():
        raise RuntimeError("NPU out of memory. Tried to allocate 2.00 GiB")
    assert "planned peak" in caplog.records[0].getMessage()
    assert "released by then" not in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("NPU out of memory. Tried to allocate 36.00 MiB (NPU 3; 60.97 GiB total capacity)"), True),
        (RuntimeError("Memory not enough: current free memory size[5] is smaller than required size[6]"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError("Unable to allocate 3.73 GiB for an array"), True),
        (AttributeError("'BloomModel' object has no attribute 'classroom'"), False),
        (ValueError("no room for another head"), False),
    ],
)
def test_a_step_that_ends_for_want_of_memory_names_what_should_be_gone(
    plan: Plan, caplog: pytest.LogCaptureFixture, error: Exception, told: bool
) -> None:
    watch = MemoryWatch(plan, counter=RuntimeCounter(Device(peak(plan) + 4 * MIB), "PTA"))
    with caplog.at_level(logging.WARNING, logger="memplan"), pytest.raises(type(error)), watch.step():
        raise error
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == int(told)
    assert all(name in line for line in said for name in watch.blamed(4 * MIB))


def test_watching_takes_below_a_hundredth_of_a_step_of_ten_milliseconds(plan: Plan) -> None:
    watch = MemoryWatch(plan, counter=ProcessCounter())
    for _ in range(200):
        watch.begin_step()
        watch.end_step()
    assert watch.spent_ns / 200 < 0.01 * 10_000_000


def test_a_plan_that_does_not_fit_is_refused_before_the_run(plan: Plan) -> None:
    refuse_unfitting(plan)
    with pytest.raises(InputError, match="does not fit"):
        refuse_unfitting(replace(plan, fits=False, missing_bytes=3 * MIB))
