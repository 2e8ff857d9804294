"""What changed between two profiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import memplan
from memplan.cli.app import main
from memplan.findings import diagnose
from memplan.findings.profile_change import profile_change
from memplan.simulator import chosen_fault, planted_ns, simulate_job
from tests.small_plans import layered_plan

PLAN = layered_plan(60, op_ns=80_000)


def test_a_fault_is_what_changed(tmp_path: Path) -> None:
    fault = chosen_fault("dataloader:0.2")
    simulate_job(PLAN, tmp_path / "before", ranks=1, steps=3, seed=5)
    simulate_job(PLAN, tmp_path / "after", fault=fault, ranks=1, steps=3, seed=5)
    before, after = (diagnose(memplan.open_profile(tmp_path / name), plan=PLAN) for name in ("before", "after"))
    change = profile_change(before, 0, after, 0)
    assert change.parts[0].part == "idle: dataloader"
    assert change.change_ns * 3 == pytest.approx(planted_ns(PLAN, fault, ranks=1, steps=3, seed=5), rel=0.02)
    assert sum(part.change_ns for part in change.parts) == change.change_ns
    (found,) = [one for one in change.findings if one.kind == "idle.dataloader"]
    assert found.before_ns is None
    assert found.after_ns == pytest.approx(change.parts[0].after_ns, abs=3)


def test_a_profile_and_itself_differ_in_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_job(PLAN, tmp_path / "run", ranks=2, steps=2, seed=5)
    run = str(tmp_path / "run")
    assert main(["diff", run, run, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["change_ns"] == 0
    assert all(part["before_ns"] == part["after_ns"] for part in told["parts"])


def test_two_ranks_of_one_profile_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_job(PLAN, tmp_path / "run", fault=chosen_fault("slow-rank:strong"), ranks=2, steps=2, seed=5)
    assert main(["diff", str(tmp_path / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    computing = next(part for part in told["parts"] if part["part"] == "computing")
    assert computing["after_ns"] == pytest.approx(1.3 * computing["before_ns"], rel=0.02)


def test_one_rank_alone_is_one_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_job(PLAN, tmp_path / "run", ranks=1, steps=2)
    assert main(["diff", str(tmp_path / "run")]) == 2
    assert "one rank" in capsys.readouterr().err


def test_two_steps_of_one_rank_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_job(PLAN, tmp_path / "run", fault=chosen_fault("recompile-once:strong"), ranks=1, steps=4, seed=5)
    run = str(tmp_path / "run")
    (rank,) = diagnose(memplan.open_profile(run)).job.ranks.values()
    lengths = {window.number: window.end_ns - window.start_ns for window in rank.case.windows}
    longest, shortest = max(lengths, key=lambda step: lengths[step]), min(lengths, key=lambda step: lengths[step])
    assert main(["diff", run, "--before-step", str(shortest), "--after-step", str(longest), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["before_ns"] == lengths[shortest]
    assert told["after_ns"] == lengths[longest]
    assert told["parts"][0]["part"] == "idle: compile"
    assert sum(part["after_ns"] - part["before_ns"] for part in told["parts"]) == told["change_ns"]
    assert main(["diff", run, "--after-step", "99"]) == 2
    assert "no step 99" in capsys.readouterr().err


def test_a_leak_shows_between_two_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_job(PLAN, tmp_path / "run", fault=chosen_fault("leaked-tensor:strong"), ranks=1, steps=4, seed=5)
    run = str(tmp_path / "run")
    (rank,) = diagnose(memplan.open_profile(run)).job.ranks.values()
    first, *_, last = [str(window.number) for window in rank.case.windows]
    assert main(["diff", run, "--before-step", first, "--after-step", last, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    grown = told["after_peak"] - told["before_peak"]
    assert grown > 0
    assert told["owners"][0]["after_bytes"] - told["owners"][0]["before_bytes"] == grown


def test_profiles_that_tell_unlike_much_are_compared_in_what_both_tell(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: waiting rose by 92 ms and exposed communication fell by 82, for one level tells them apart."""
    runs = shared_data / "profiles/alexnet-ddp-2rank/text"
    assert main(["diff", str(runs / "level0"), str(runs / "level2"), "--before-rank", "0", "--after-rank", "0"]) == 0
    said = capsys.readouterr().out
    assert "most of it by communication, exposed: +14.446 ms" in said
    assert "waiting" not in said
    assert "MatMulV2" not in said  # Level0 has no types


def test_what_only_one_tells_of_is_no_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("before", "after"):
        simulate_job(PLAN, tmp_path / name, fault=chosen_fault("host-gaps:strong"), ranks=1, steps=3, seed=5)
    files = tmp_path / "after" / "rank_0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    for name in ("kernel_details.csv", "memory_record.csv", "operator_memory.csv", "trace_view.json"):
        (files / name).unlink()
    assert main(["diff", str(tmp_path / "before"), str(tmp_path / "after")]) == 0
    streams = capsys.readouterr()
    assert "Only one of the two tells of kernels" in streams.out + streams.err
    assert "idle: host" not in streams.out
    assert main(["diff", str(tmp_path / "before"), str(tmp_path / "after"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["untold"]
    assert not told["types"]
    assert not told["owners"]
    assert not [one for one in told["findings"] if one["kind"].startswith(("idle.", "kernel.", "memory."))]
    assert sum(part["after_ns"] - part["before_ns"] for part in told["parts"]) == told["change_ns"]
