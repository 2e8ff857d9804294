"""A job is refused, passed on, judged: its exit code and verdict are for gates."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from memplan.cli.app import main
from memplan.findings.profile_change import ProfileChange
from memplan.findings.regression import RegressionLimits, regressions
from memplan.schema import load_plan

Ask = Callable[..., tuple[int, str, str]]
SAMPLES = Path(str(resources.files("memplan.samples")))
PLAN = SAMPLES / "llama_train.plan.json"


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run one command; its exit code and what it printed."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def verdict(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "verdict.json").read_text())
    assert (folder / "report.html").read_text().startswith("<!")
    return found


def simulation(folder: Path, *more: object) -> list[object]:
    """A job that leaves a profile: the plan on a simulated machine."""
    return [sys.executable, "-m", "memplan", "simulate", PLAN, folder, *more]


def test_a_job_that_ends_well_passes_and_one_that_does_not_tells_its_code(ask: Ask, tmp_path: Path) -> None:
    code, out, _ = ask("job", "--folder", tmp_path / "good", "--", sys.executable, "-c", "print('step 1')")
    assert code == 0
    assert "ran to its end" in out
    assert verdict(tmp_path / "good")["passed"] is True
    script = "import sys; print('EL0004: out of memory'); sys.exit(7)"
    assert ask("job", "--folder", tmp_path / "bad", "--", sys.executable, "-c", script)[0] == 1
    found = verdict(tmp_path / "bad")
    assert found["run"]["exit_code"] == 7
    assert found["run"]["out_of_memory"] is True
    assert found["reasons"] == ["the job ended with 7: out of memory"]


def test_a_job_whose_plan_does_not_fit_is_not_started(ask: Ask, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    replace(load_plan(PLAN), fits=False, missing_bytes=2**30).save(plan)
    mark = tmp_path / "ran"
    script = f"open({str(mark)!r}, 'w').close()"
    words = ("job", "--plan", plan, "--folder", tmp_path / "out")
    assert ask(*words, "--", sys.executable, "-c", script)[0] == 1
    assert not mark.exists()
    assert verdict(tmp_path / "out")["run"] is None
    assert ask(*words, "--anyway", "--", sys.executable, "-c", script)[0] == 0
    assert mark.exists()


def test_the_profile_of_a_job_is_held_against_its_plan_and_the_run_before_it(ask: Ask, tmp_path: Path) -> None:
    before = tmp_path / "before"
    assert ask(*simulation(before, "--exact")[3:])[0] == 0
    run = tmp_path / "run"
    gate = ("--profile", run, "--against", before, "--most-time", "0.05", "--most-memory", "0.03")
    words = ("job", "--plan", PLAN, *gate, "--folder", tmp_path / "out")
    assert ask(*words, "--", *simulation(run, "--exact"))[0] == 0
    checks = {check["name"]: check for check in verdict(tmp_path / "out")["checks"]}
    assert set(checks) == {"diagnosis", "plan", "gate"}
    assert checks["gate"]["details"]["worse"] == []
    slow = tmp_path / "slow"
    strict = ("--profile", slow, "--against", before, "--most-time", "0.0", "--folder", tmp_path / "s")
    code = ask("job", *strict, "--", *simulation(slow))[0]
    found = verdict(tmp_path / "s")
    assert code == 1
    assert any("a step takes" in str(check["details"]["worse"]) for check in found["checks"] if check["name"] == "gate")


def test_a_job_that_leaves_no_new_profile_fails_where_one_was_asked_for(ask: Ask, tmp_path: Path) -> None:
    old = tmp_path / "old"
    assert ask(*simulation(old)[3:])[0] == 0
    for path in old.rglob("*"):
        os.utime(path, (1, 1))
    code, _, _ = ask("job", "--profile", old, "--folder", tmp_path / "out", "--", sys.executable, "-c", "pass")
    assert code == 1
    assert "left no profile" in verdict(tmp_path / "out")["reasons"][0]


@pytest.mark.parametrize(
    "words",
    [
        ("job", "--most-time", "0.1", "--", "true"),
        ("job", "--against", "nowhere", "--most-time", "0.1", "--", "true"),
        ("job", "--", "no-such-program-here"),
        ("diff", PLAN, PLAN, "--most-time", "0.1"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    ask: Ask, tmp_path: Path, monkeypatch: Any, words: tuple[object, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = ask(*words)
    assert code == 2
    assert err.count("\n") == 1


def test_the_gate_closes_above_the_limit_and_not_on_it() -> None:
    change = ProfileChange(1000, 1100, 3, 3, (), (), (), 2**30, 2**30 + 2**20)
    assert regressions(change, RegressionLimits()) == ()
    assert regressions(change, RegressionLimits(0.1, 0.01)) == ()
    assert "10.0% more, and 5.0% are allowed" in str(regressions(change, RegressionLimits(time=0.05))[0])
    assert len(regressions(change, RegressionLimits(0.05, 0.0005))) == 2
    unknown = ProfileChange(0, 1100, 0, 3, (), (), (), None, 2**30)
    assert regressions(unknown, RegressionLimits(0.0, 0.0)) == ()


def test_a_job_that_the_scheduler_ends_has_a_verdict(tmp_path: Path) -> None:
    script = "import time; print('training', flush=True); time.sleep(60)"
    words = [
        sys.executable,
        "-m",
        "memplan",
        "job",
        "--folder",
        str(tmp_path / "job"),
        "--",
        sys.executable,
        "-c",
        script,
    ]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as job:
        assert job.stderr is not None
        assert next(line for line in job.stderr if "training" in line)
        job.send_signal(signal.SIGTERM)
        job.stderr.read()
    assert job.returncode == 1
    found = verdict(tmp_path / "job")
    assert found["run"]["exit_code"] == -signal.SIGTERM
    assert found["reasons"] == ["the job was ended by SIGTERM"]
