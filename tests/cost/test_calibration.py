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
from memplan.cost.deviations import L2State
from memplan.cost.deviations.prior import spread_priors
from memplan.cost.deviations.traits import row_length, trait_of
from memplan.cost.kernel_time import plain_times
from memplan.cost.machine import bandwidths
from memplan.cost.measured_kernels import MeasuredKernels, Observed, identify, merged_kernels
from memplan.cost.ordered_costs import costs_in_order
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


def test_what_does_not_carry_over_costs_next_to_nothing_where_it_is_taken_for_what_does() -> None:
    """Shapes that go each their own way say nothing of others; in 30 draws chance may seem to."""
    truth = made(1.0, 0.0, rows=30)
    random = np.random.default_rng(5)
    found = []
    for _ in range(30):
        factors = np.exp(random.normal(0, 0.5, 15))
        apart = replace(truth, duration_ns=truth.duration_ns * factors[np.arange(len(truth)) % 15])
        found.append(calibrate(apart, B3, "apart"))
    unseen, plain = (sum(getattr(each, name) or 0 for each in found) for name in ("unseen_error", "unseen_model_error"))
    assert unseen < 1.1 * plain


def test_several_profiles_of_a_chip_are_one_calibration() -> None:
    both = merged_kernels([made(1.5, 2000.0), made(1.5, 2000.0, "Neg")])
    assert len(both) == 120
    assert len(set(both.row.tolist())) == 120
    assert [errors.name for errors in calibrate(both, B3, "both").types] == ["Abs", "Neg"]


def test_rows_kept_apart_do_not_touch_the_fit_that_they_check() -> None:
    truth = made(1.5, 2000.0)
    spoiled = replace(truth, duration_ns=np.where(truth.row % 2 == 0, 100 * truth.duration_ns, truth.duration_ns))
    assert calibrate(truth, B3, "a").train_error == calibrate(spoiled, B3, "a").train_error
    assert (calibrate(spoiled, B3, "a").check_error or 0) > 0.9


def test_all_rows_are_fitted_once_they_have_checked() -> None:
    """Went wrong once: what only even rows held was taken from the model, a third of the time of a run of one step."""
    measured = made(1.5, 2000.0, rows=15)
    found = calibrate(measured, B3, "all", shapes=False)
    assert len(found.seen_ns) == 15
    assert found.uncovered == 0
    core = calibrated(B3, found)
    for own, time in zip(measured.kernels, measured.duration_ns.tolist(), strict=True):
        assert kernel_cost(own, core).duration_ns == round(time)


def test_types_of_a_class_support_each_other_and_types_hardly_measured_keep_to_the_model() -> None:
    """Types with two or three shapes follow three others of their class; those with one or none follow nobody."""
    names = ("Abs", "Mul", "Relu")
    some = [made(1.5, 2000.0, name, rows=rows) for name, rows in (("Neg", 3), ("Sub", 2), ("Sqrt", 1))]
    measured = merged_kernels([*(made(1.5, 2000.0, name) for name in names), *some])
    core = calibrated(B3, calibrate(measured, B3, "six"))
    for between in (kernel("Neg", 3 << 10), kernel("Sub", 3 << 9)):
        plain = kernel_cost(between, B3).duration_ns
        assert kernel_cost(between, core).duration_ns == pytest.approx(1.5 * plain + 2000, rel=0.1)
    for other in (kernel("Sqrt", 3 << 9), kernel("Sin", 1 << 20)):
        assert kernel_cost(other, core) == kernel_cost(other, B3)


def test_gradients_of_filters_are_told_apart_by_their_images() -> None:
    """
    Went wrong once: all images in blocks were alike, as their last dimension is 16 for all, and so were filters: small
    images were told the times of large ones.
    """

    def gradient(side: int) -> Kernel:
        image = Operand((4, 8, side, side, 16), "float16", "NC1HWC0")
        return Kernel("Conv2DBackpropFilter", (image, image), (Operand((8, 8, 16, 16), "float32", "FRACTAL_Z"),))

    found = [
        trait_of(own, plain_times(own, B3, kernel_cost(own, B3).duration_ns), L2State(0.0, 0.0))
        for own in map(gradient, (7, 14))
    ]
    assert [round(float(np.exp(each.row))) for each in found] == [49, 196]
    assert [round(float(np.exp(each.rows))) for each in found] == [512, 512]


@pytest.mark.parametrize(
    ("layout", "shape", "length"),
    [
        ("ND", (4, 3, 40), 40),
        ("NC1HWC0", (4, 2, 7, 9, 16), 63),
        ("NZ", (3, 5, 16, 16), 48),
        ("FRACTAL_Z", (9, 4, 16, 16), 16),
    ],
)
def test_a_row_is_of_the_tensor_and_not_of_its_blocks(layout: str, shape: tuple[int, ...], length: int) -> None:
    assert row_length(Operand(shape, "float16", layout)) == length


def test_kernels_that_push_others_results_out_of_l2_tell_it_of_each_other() -> None:
    """
    Cold kernels took what the model has for L2 full of others' results, warm ones what it has for them alone.

    A shape that was not measured is told apart by what it finds in L2; where nobody knows, it goes as most do.
    """
    cold, warm = ("Exp", "Log", "Sqrt", "Abs"), ("Neg", "Relu", "Sign", "Mul")
    kernels, times = [], []
    for power in range(9, 16):
        for name in (*cold, *warm):
            own = kernel(name, (1 << 9) * power * 1000)
            plain = plain_times(own, B3, kernel_cost(own, B3).duration_ns)
            kernels.append(own)
            times.append(float(plain.through_ns if name in cold else plain.alone_ns))
            if name in cold[:-1]:
                kernels.append(kernel("Fill", 1 << 27))
                times.append(1e6)
    rows = np.arange(len(kernels)) * 2 + 1
    core = calibrated(B3, calibrate(MeasuredKernels(tuple(kernels), np.array(times), rows), B3, "cold", shapes=False))
    for name, hot in (("Exp", 0.0), ("Exp", None)):
        other = kernel(name, (1 << 9) * 12_500)
        plain = plain_times(other, B3, kernel_cost(other, B3).duration_ns)
        assert plain.through_ns > 1.3 * plain.alone_ns
        assert kernel_cost(other, core, L2State(hot)).duration_ns == pytest.approx(plain.through_ns, rel=0.15)
    other = kernel("Neg", (1 << 9) * 12_500)
    alone = kernel_cost(other, B3).duration_ns
    assert kernel_cost(other, core, L2State(1.0)).duration_ns == pytest.approx(alone, rel=0.1)


def test_cold_kernels_whose_reads_push_results_out_of_l2_tell_it_of_each_other(tmp_path: Path) -> None:
    """Sums that read what L2 lacks behind large results took what HBM takes to write these back as well."""
    kernels, times = [], []
    for power in range(8, 24):
        own = Kernel("ReduceSum", (Operand((power << 20,), "float32"),), (Operand((1,), "float32"),))
        plain = plain_times(own, B3, kernel_cost(own, B3).duration_ns)
        behind = power % 2 == 0
        kernels += [kernel("Fill", 1 << 27), own] if behind else [Kernel("Sign", own.inputs, own.inputs), own]
        times += [1e6, plain.alone_ns + plain.read_ns] if behind else [1e6, float(plain.alone_ns)]
    rows = np.arange(len(kernels)) * 2 + 1
    found = calibrate(MeasuredKernels(tuple(kernels), np.array(times), rows), B3, "sums", shapes=False)
    save_calibration(found, tmp_path / "cal.json")
    core = calibrated(B3, load_calibration(tmp_path / "cal.json"))
    other = Kernel("ReduceSum", (Operand((25 << 19,), "float32"),), (Operand((1,), "float32"),))
    plain = plain_times(other, B3, kernel_cost(other, B3).duration_ns)
    pushing = kernel_cost(other, core, L2State(0.0, 1.0)).duration_ns
    clean = kernel_cost(other, core, L2State(1.0, 0.0)).duration_ns
    assert pushing == pytest.approx(plain.alone_ns + plain.read_ns, rel=0.15)
    assert clean < 0.8 * pushing
    assert kernel_cost(other, B3, L2State(0.0, 1.0)) == kernel_cost(other, B3, L2State(0.0))


def test_priors_are_spread_over_their_ranges() -> None:
    """No two are alike, and each of their figures takes as many values as there are priors."""
    priors = spread_priors()
    assert len(set(priors)) == len(priors)
    for name in ("shape", "noise", "size_length", "falloff"):
        values = sorted(getattr(prior, name) for prior in priors)
        ratios = np.diff(np.log(values))
        assert ratios == pytest.approx(ratios[0])


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


def test_what_an_older_version_wrote_is_read_with_what_it_said(calibration: Calibration, tmp_path: Path) -> None:
    """Deviations of version 3 had one prior and none of what kernels find in L2; the figures are those it gave."""
    path = tmp_path / "old.json"
    save_calibration(replace(calibration, seen_ns={}), path)
    document = json.loads(path.read_text())
    sizes = ((7.695757990554761, 9.704060527839234), (8.289037098278483, 11.78350206951907))
    weights = (1.9592854059951268, -0.32589745443665286)
    prior = {
        "bound": 0.02, "kind": 0.028284271247461905, "rule": 0.02, "type": 0.03, "shape": 0.03535533905932738,
        "noise": 0.014142135623730949, "size_length": 1.4142135623730951, "row_length": 2.121320343559643,
        "falloff": 0.15,
    }  # fmt: skip
    kernels = [
        [name, "launch", *size, weight] for size, weight in zip(sizes, weights, strict=True) for name in ("Abs", "Neg")
    ] + [[name, "hbm", 8.891649112650057, 13.862943611198906, 1.3297632834040938] for name in ("Abs", "Neg")]
    document |= {"version": 3, "deviations": {"prior": prior, "kept": {"vector": 1.0}, "kernels": kernels}}
    path.write_text(json.dumps(document))
    core = calibrated(B3, load_calibration(path))
    for hot in (None, 1.0):
        found = [kernel_cost(kernel("Abs", 1 << power), core, L2State(hot)).duration_ns for power in (15, 18)]
        assert found == [6677, 8973]


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
        lambda d: d["deviations"]["kernels"].pop(),
        lambda d: d["deviations"]["kernels"][0].update(size=float("nan")),
        lambda d: d["deviations"]["kernels"][0].update(hot=None),
        lambda d: d["deviations"]["members"][0]["weights"].pop(),
        lambda d: d["deviations"]["members"][0]["prior"].pop("noise"),
        lambda d: d["deviations"]["members"][0]["prior"].update(size_length=0),
        lambda d: d.update(clock_hz="fast"),
        lambda d: d.update(cubes=float("inf")),
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


def in_places(power: float) -> MeasuredKernels:
    """Kernels that read what one before wrote, half of them with L2 filled since, at a `power` of its price."""
    kernels: list[Kernel] = []
    for turn in range(6):
        for count in (1 << 20, 3 << 19, 1 << 21, 5 << 19, 3 << 20, 7 << 19):
            own = Operand((count,), "float32")
            kernels.append(Kernel("Neg", (own,), (own,)))
            if turn % 2 == count % 3 % 2:
                kernels.append(kernel("Fill", 1 << 27))
            kernels.append(Kernel("Abs", (own,), (own,)))
    costs = costs_in_order(kernels, B3)
    alone = [kernel_cost(each, B3).duration_ns for each in kernels]
    times = np.array([1.4 * own * (cost.duration_ns / own) ** power for own, cost in zip(alone, costs, strict=True)])
    return MeasuredKernels(tuple(kernels), times, np.arange(len(kernels)) * 2 + 1)


def test_what_a_kernel_took_is_carried_to_other_places_where_places_go_as_modelled(tmp_path: Path) -> None:
    """The power of a place's price that measurements follow is found; without a place a kernel takes what it took."""
    for power in (0.0, 0.5, 1.0):
        found = calibrate(in_places(power), B3, "places", shapes=False)
        assert found.carried == power
        assert found.train_error == pytest.approx(0, abs=1e-3)
        save_calibration(found, tmp_path / "cal.json")
        assert load_calibration(tmp_path / "cal.json") == found
    core = calibrated(B3, found)
    own = kernel("Abs", 1 << 21)
    warm, cold, unknown = (kernel_cost(own, core, L2State(hot)).duration_ns for hot in (1.0, 0.0, None))
    assert cold > 1.1 * warm
    assert warm <= unknown <= cold


def test_places_of_few_kernels_may_be_chance_and_are_not_carried(calibration: Calibration, tmp_path: Path) -> None:
    """Nor are those of a file of the version before, which tells none."""
    whole = in_places(1.0)
    few = np.array([index for index, each in enumerate(whole.kernels) if each.outputs[0].count in (1 << 20, 1 << 27)])
    part = MeasuredKernels(tuple(whole.kernels[index] for index in few), whole.duration_ns[few], whole.row[few])
    assert calibrate(part, B3, "few", shapes=False).carried == 0
    path = tmp_path / "old.json"
    save_calibration(calibration, path)
    document = json.loads(path.read_text())
    del document["carried"], document["seen_alone_ns"]
    path.write_text(json.dumps(document | {"version": 4}))
    assert load_calibration(path) == replace(calibration, carried=0.0, seen_alone_ns={})


def test_version_5_knew_nothing_of_what_reads_push_out(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    save_calibration(replace(calibration, seen_ns={}, seen_alone_ns={}), path)
    document = json.loads(path.read_text())
    for each in document["deviations"]["kernels"]:
        del each["pushed"]
    for each in document["deviations"]["members"]:
        del each["prior"]["pushes"]
    path.write_text(json.dumps(document | {"version": 5}))
    core, own = calibrated(B3, load_calibration(path)), kernel("Abs", 3 << 12)
    pushing, clean = (kernel_cost(own, core, L2State(0.0, share)) for share in (1.0, 0.0))
    assert pushing.duration_ns == clean.duration_ns != kernel_cost(own, B3, L2State(0.0)).duration_ns
