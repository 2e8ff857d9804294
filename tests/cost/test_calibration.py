"""A calibration recovers how kernels went, keeps to what it saw, and survives being written and read."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.errors import InputError
from memplan.cost import Kernel, Operand, calibrated, kernel_cost, load_calibration, machine, save_calibration
from memplan.cost.calibration import Calibration
from memplan.cost.calibration_fit import calibrate
from memplan.cost.machine import bandwidths
from memplan.cost.measured_kernels import MeasuredKernels, Observed, identify, merged_kernels
from memplan.hardware import chip

B3 = machine(chip("910B3"))


def kernel(op_type: str, count: int) -> Kernel:
    operand = Operand((count,), "float32")
    return Kernel(op_type, (operand,), (operand,))


def made(scale: float, overhead_ns: float, op_type: str = "Abs", rows: int = 60) -> MeasuredKernels:
    """Kernels that took `scale` times what the model says and `overhead_ns` more."""
    kernels = tuple(kernel(op_type, 1 << (10 + i % 15)) for i in range(rows))
    times = np.array([scale * kernel_cost(k, B3).duration_ns + overhead_ns for k in kernels])
    return MeasuredKernels(kernels, times, np.arange(rows))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(made(1.5, 2000.0), B3, "made up")


def test_scale_and_overhead_are_recovered(calibration: Calibration) -> None:
    assert calibration.check_error == pytest.approx(0, abs=0.01)
    (errors,) = calibration.types
    assert (errors.name, errors.rows, errors.shapes) == ("Abs", 60, 15)
    assert errors.ratio > 1.5
    core = calibrated(B3, calibration)
    for count in (1 << 14, 1 << 20):
        plain = kernel_cost(kernel("Abs", count), B3).duration_ns
        assert kernel_cost(kernel("Abs", count), core).duration_ns == pytest.approx(1.5 * plain + 2000, rel=0.02)
    between = kernel("Abs", 3 << 18)
    plain = kernel_cost(between, B3).duration_ns
    assert kernel_cost(between, core).duration_ns == pytest.approx(1.5 * plain + 2000, rel=0.05)
    assert calibration.unseen_error is not None
    assert calibration.unseen_error < 0.05 < 0.3 < (calibration.unseen_model_error or 0)
    assert calibration.uncovered == 0


def test_a_kernel_that_was_measured_takes_what_it_took_and_others_are_left_to_the_model() -> None:
    """Two shapes of a type say nothing of a third."""
    kernels = tuple(kernel("Abs", 1 << (16 + i % 2)) for i in range(40))
    times = np.array([5000.0 if i % 2 else 90_000.0 for i in range(40)])
    found = calibrate(MeasuredKernels(kernels, times, np.arange(40) * 2 + 1), B3, "two")
    core = calibrated(B3, found)
    assert not found.deviations.kept
    assert [kernel_cost(kernel("Abs", 1 << power), core).duration_ns for power in (16, 17)] == [90_000, 5000]
    other = kernel("Abs", 1 << 18)
    assert kernel_cost(other, core).duration_ns == kernel_cost(other, B3).duration_ns


def test_what_does_not_carry_over_is_seldom_taken_for_what_does() -> None:
    """Shapes that go each their own way say nothing of others; in 30 draws chance may, and costs next to nothing."""
    truth = made(1.0, 0.0, rows=30)
    random = np.random.default_rng(5)
    found = []
    for _ in range(30):
        factors = np.exp(random.normal(0, 0.5, 15))
        apart = replace(truth, duration_ns=truth.duration_ns * factors[np.arange(len(truth)) % 15])
        found.append(calibrate(apart, B3, "apart"))
    assert sum(bool(each.deviations.kept) for each in found) <= 9
    unseen, plain = (sum(getattr(each, name) or 0 for each in found) for name in ("unseen_error", "unseen_model_error"))
    assert unseen < 1.1 * plain


def test_several_profiles_of_a_chip_are_one_calibration() -> None:
    both = merged_kernels([made(1.5, 2000.0), made(1.5, 2000.0, "Neg")])
    assert len(both) == 120
    assert len(set(both.row.tolist())) == 120
    assert [errors.name for errors in calibrate(both, B3, "both").types] == ["Abs", "Neg"]


def test_rows_kept_apart_do_not_touch_the_fit() -> None:
    truth = made(1.5, 2000.0)
    spoiled = replace(truth, duration_ns=np.where(truth.row % 2 == 0, 100 * truth.duration_ns, truth.duration_ns))
    assert calibrate(truth, B3, "a").deviations == calibrate(spoiled, B3, "a").deviations
    assert (calibrate(spoiled, B3, "a").check_error or 0) > 0.9


def test_types_of_a_class_support_each_other_and_types_not_measured_keep_to_the_model() -> None:
    """A type with two shapes follows three others of its class; one that was not measured follows none."""
    names = ("Abs", "Mul", "Relu")
    few = made(1.5, 2000.0, "Neg", rows=4)
    core = calibrated(B3, calibrate(merged_kernels([*(made(1.5, 2000.0, name) for name in names), few]), B3, "four"))
    between = kernel("Neg", 3 << 11)
    plain = kernel_cost(between, B3).duration_ns
    assert kernel_cost(between, core).duration_ns == pytest.approx(1.5 * plain + 2000, rel=0.1)
    for other in (kernel("Sub", 1 << 20), kernel("Sin", 1 << 20)):
        assert kernel_cost(other, core) == kernel_cost(other, B3)


def test_a_fit_is_not_carried_beyond_twice_what_it_saw(calibration: Calibration) -> None:
    huge = kernel("Abs", 1 << 30)
    assert kernel_cost(huge, calibrated(B3, calibration)).duration_ns == kernel_cost(huge, B3).duration_ns


@given(st.floats(0.3, 3), st.floats(0, 20_000))
def test_more_bytes_never_cost_less_after_a_calibration(scale: float, overhead_ns: float) -> None:
    core = calibrated(B3, calibrate(made(scale, overhead_ns), B3, "made up", shapes=False))
    times = [kernel_cost(kernel("Abs", 1 << power), core).duration_ns for power in range(12, 24)]
    assert times == sorted(times)


def test_a_plan_that_rests_on_a_calibration_says_so(calibration: Calibration) -> None:
    source = calibrated(B3, calibration).sources[-1]
    assert "made up" in source.value
    assert "kept apart" in source.note
    with pytest.raises(InputError, match="of Ascend910B3"):
        calibrated(machine(chip("910B1")), calibration)


def test_what_is_written_is_read_again(calibration: Calibration, tmp_path: Path) -> None:
    save_calibration(calibration, tmp_path / "cal.json")
    assert load_calibration(tmp_path / "cal.json") == calibration
    assert [path.name for path in tmp_path.iterdir()] == ["cal.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(format="else"),
        lambda d: d.update(version=99),
        lambda d: d.pop("types"),
        lambda d: d.update(types=[{}]),
        lambda d: d.update(types=3),
        lambda d: d["types"][0].update(ratio=-1),
        lambda d: d.update(deviations=[]),
        lambda d: d["deviations"].update(kernels=[["Abs", "hbm", 1.0, 2.0]]),
        lambda d: d["deviations"]["kernels"][0].__setitem__(4, float("nan")),
        lambda d: d["deviations"]["prior"].pop("noise"),
        lambda d: d["deviations"]["prior"].update(size_length=0),
        lambda d: d.update(clock_hz="fast"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(calibration: Calibration, tmp_path: Path, damage: object) -> None:
    path = tmp_path / "cal.json"
    save_calibration(calibration, path)
    document = json.loads(path.read_text())
    assert callable(damage)
    damage(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as error:
        load_calibration(path)
    assert "\n" not in str(error.value)


def test_it_is_on_the_disk_before_it_takes_the_old_ones_place(
    calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Went wrong once: a calibration took the old one's place before it was on the disk.

    After a crash at any moment there is the old file or the new one, never an empty one.
    """
    path = tmp_path / "cal.json"
    done: list[str] = []
    synced, replaced = os.fsync, Path.replace

    def sync(file: int) -> None:
        done.append("written")
        synced(file)

    def replace(old: Path, new: Path) -> Path:
        done.append("replaced")
        return replaced(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    save_calibration(calibration, path)
    assert done == ["written", "replaced"]
    assert load_calibration(path) == calibration
    assert list(tmp_path.iterdir()) == [path]


def test_one_that_was_stopped_leaves_the_old_file_and_nothing_else(
    calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Went wrong once: a calibration that was stopped left a part of itself behind."""
    path = tmp_path / "cal.json"
    path.write_text("old")

    def stopped(file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        save_calibration(calibration, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_anything_else_is_no_calibration(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cal.json").write_bytes(content)
    with pytest.raises(InputError):
        load_calibration(tmp_path / "cal.json")
    with pytest.raises(InputError):
        load_calibration(tmp_path / "missing.json")


def test_a_profile_without_kernels_can_t_be_fitted() -> None:
    with pytest.raises(InputError, match="no compute kernels"):
        calibrate(MeasuredKernels((), np.zeros(0), np.zeros(0, np.int64)), B3, "empty")


def test_a_chip_is_told_by_cores_stream_and_clock() -> None:
    names = [item.name for item in identify(Observed(20, 40, 1800e6, 1.4e12), bandwidths())]
    assert names[0] == "Ascend910B3"
    assert "Ascend910B4" not in names
    assert identify(Observed(20, 40, 1500e6, 0.7e12), bandwidths())[0].name == "Ascend910B4"
    assert identify(Observed(None, None, None, None), bandwidths()) == []
