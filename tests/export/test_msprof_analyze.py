"""The vendor's own analyser reads a simulated profile."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memplan.simulator import simulate
from tests.small_plans import layered_plan

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("msprof_analyze") is None, reason="msprof-analyze is not installed"
)
TOOL = Path(sys.executable).with_name("msprof-analyze")


def run(*arguments: str | Path, into: Path) -> str:
    into.mkdir()
    command = [str(TOOL), *map(str, arguments), "-o", str(into)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=into, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["run_ascend_pt", "run"])
def test_advisor_reports_on_a_simulated_profile_without_an_error(tmp_path: Path, name: str) -> None:
    folder = simulate(layered_plan(20), tmp_path / name, steps=2)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    said = run("advisor", "all", "-d", folder, into=tmp_path / "out")
    assert "[ERROR]" not in said
    assert "Traceback" not in said
    assert list((tmp_path / "out").glob("*.html"))
    assert list((tmp_path / "out" / "log").glob("*.xlsx"))
    # It found the kernel table and the trace: without the one it skips the operators, without the other the totals.
    assert "not containing op summary" not in said
    assert "E2E" in said
    assert ("Unknown profiling type" in said) is not name.endswith("_ascend_pt")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_compare_sets_two_simulated_profiles_side_by_side(tmp_path: Path) -> None:
    plan = layered_plan(20)
    one, two = (simulate(plan, tmp_path / f"{seed}_ascend_pt", seed=seed) for seed in (1, 2))
    said = run("compare", "-d", one, "-bp", two, "--enable_kernel_compare", into=tmp_path / "out")
    assert "Traceback" not in said
    assert list((tmp_path / "out").glob("*.xlsx"))


@pytest.mark.slow
def test_cluster_analysis_takes_several_simulated_ranks(tmp_path: Path) -> None:
    for rank in range(2):
        simulate(layered_plan(20), tmp_path / "runs" / f"rank{rank}_ascend_pt", rank=rank, seed=rank)
    said = run("cluster", "-m", "all", "-d", tmp_path / "runs", into=tmp_path / "out")
    assert "Traceback" not in said
    assert list((tmp_path / "out").rglob("cluster_step_trace_time.csv"))
    shutil.rmtree(tmp_path / "runs")
