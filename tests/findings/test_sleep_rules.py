"""What engines keep on the device while they sleep."""

from __future__ import annotations

from pathlib import Path

import pytest

import memplan
from memplan.cli.app import main
from memplan.core.units import GIB
from memplan.findings import Finding, diagnose

_SLEPT = "INFO [worker.py:246] Sleep mode freed {:.2f} GiB memory, {:.2f} GiB memory is still in use."


def _found(folder: Path, *lines: str) -> list[Finding]:
    path = folder / "rollout.log"
    path.write_text("\n".join((*lines, "")), encoding="utf-8")
    return [one for one in diagnose(memplan.open_profile(path)).findings if one.kind.startswith("sleep.")]


def _slept(kept: list[float], prefix: str = "") -> list[str]:
    return [prefix + _SLEPT.format(60 - size, size) for size in kept]


def test_memory_that_each_sleep_keeps_more_of_is_told_by_worker(tmp_path: Path) -> None:
    first = _slept([2.0, 2.24, 2.48, 2.72], "(Worker_TP0 pid=11) ")
    second = _slept([2.0, 2.0, 2.0, 2.0], "(Worker_TP1 pid=12) ")
    (growth,) = _found(tmp_path, *(line for both in zip(first, second, strict=True) for line in both))
    assert growth.kind == "sleep.growth"
    assert growth.cost_bytes == pytest.approx(0.72 * GIB, abs=2)
    told = {item.label: item.value for item in growth.evidence}
    assert told["worker"] == "11"
    assert told["more with each sleep, on average"] == pytest.approx(0.24 * GIB, abs=2)
    assert any("empty_cache" in remedy.knob for remedy in growth.remedies)


@pytest.mark.parametrize("kept", [[20.0, 20.1, 20.2, 20.2], [1.66, 1.67, 1.68, 1.68], [3.05, 3.05, 3.06, 3.06, 3.07]])
def test_little_that_never_falls_back_is_growth_too(tmp_path: Path, kept: list[float]) -> None:
    (growth,) = _found(tmp_path, *_slept(kept))
    assert growth.kind == "sleep.growth"
    assert growth.cost_bytes == pytest.approx((kept[-1] - kept[0]) * GIB, abs=2)


@pytest.mark.parametrize(
    "kept",
    [
        [1.38] * 5,
        [1.4, 1.9, 1.9, 1.9],
        [1.4, 1.38, 1.41, 1.4, 1.39],
        [3.0, 3.3],
        [1.4, 1.41, 1.41, 1.41],
        [20.0, 20.1, 20.05, 20.15],
    ],
)
def test_what_the_first_sleeps_leave_and_what_is_rounded_is_no_growth(tmp_path: Path, kept: list[float]) -> None:
    assert not _found(tmp_path, *_slept(kept, "2025-08-11 16:12:02 gpu_worker.py:104 INFO p:475095 t:1403: "))


def test_an_engine_that_frees_nothing_keeps_its_weights_and_cache(tmp_path: Path) -> None:
    start = ["Model loading took 15.27 GiB memory", "Available KV cache memory: 40.50 GiB"]
    (kept,) = _found(tmp_path, *start, *([_SLEPT.format(0, 63.15)] * 2))
    assert kept.kind == "sleep.kept"
    assert kept.cost_bytes == pytest.approx(55.77 * GIB, abs=2)
    assert "expandable_segments:False" in kept.remedies[0].knob
    (unknown,) = _found(tmp_path, _SLEPT.format(0, 63.15))
    assert unknown.cost_bytes is None


def test_a_log_of_sleeps_alone_is_a_profile_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "verl.log"
    path.write_text("\n".join(_slept([2.0, 2.3, 2.6])), encoding="utf-8")
    assert main(["diagnose", str(path)]) == 0
    assert "keeps more memory with each sleep" in capsys.readouterr().out
