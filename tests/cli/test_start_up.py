"""Commands load what they need, and nothing that takes as long as they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer

from memplan.simulator import simulate_job
from tests.small_plans import layered_plan

_COMMAND = """
import sys
from memplan.cli.app import main
code = main(["diagnose", sys.argv[1]])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""
_PYDANTIC_SINCE = (0, 29)
"""Releases of Typer that load Pydantic with every command; memplan asks for earlier ones."""


def test_a_diagnosis_loads_no_library_that_it_can_do_without(tmp_path: Path) -> None:
    """Went wrong once: Rich, which a table on a pipe doesn't need, took a fifth of a diagnosis of a small profile."""
    simulate_job(layered_plan(20, op_ns=80_000), tmp_path / "job", ranks=1, steps=2, seed=3)
    run = subprocess.run(
        [sys.executable, "-c", _COMMAND, str(tmp_path / "job")], capture_output=True, text=True, check=True
    )
    loaded = set(run.stderr.split())
    assert "memplan.findings.diagnosis" in loaded
    assert "Findings" in run.stdout
    unwanted = {"rich.console", "pyarrow", "scipy", "networkx", "google.protobuf", "onnx", "memplan.planner"}
    if tuple(map(int, typer.__version__.split(".")[:2])) < _PYDANTIC_SINCE:
        unwanted.add("pydantic")
    assert not loaded & unwanted
