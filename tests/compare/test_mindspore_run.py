"""A plan against a run of the same graph that MindSpore itself profiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import memplan
from memplan.compare import compare

TOP = Path(__file__).resolve().parents[2]
SAMPLES = Path(memplan.__file__).parent / "samples"
RUN = """
import sys
from pathlib import Path
from tests.readers.mindspore_step import measure
measure(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.mindspore
def test_nearly_every_planned_op_is_found_in_a_real_run_most_by_name(tmp_path: Path) -> None:
    pytest.importorskip("mindspore")
    folder = tmp_path / "profile"
    subprocess.run(
        [sys.executable, "-c", RUN, "llama_train", str(folder)],
        check=True,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOP), "GLOG_v": "3"},
    )
    plan = memplan.plan(SAMPLES / "llama_train.mindir", chip="910B3")
    result = compare(plan, memplan.open_profile(folder))
    # The CPU backend rewrites some ops into others of its own; what it keeps, it keeps under the graph's names.
    assert result.summary.matched_by_name / result.summary.planned_ops > 0.8
    assert result.summary.coverage > 0.95
    assert result.summary.measured_coverage > 0.9
    assert not result.simulated
    # Independent branches run in an order of the backend's own; by far most ops run in the plan's.
    assert len(result.time_map.plan_ns) > 0.8 * len(result.matches)
