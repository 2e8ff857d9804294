"""Commands load what they need, and nothing that takes as long as they do."""

from __future__ import annotations

import json
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


def test_what_a_library_prints_stays_out_of_a_report() -> None:
    """Went wrong once: a solver wrote a line of its own in front of the JSON."""
    code = (
        "import ctypes, sys\n"
        "from memplan.cli import app\n"
        "plain, library = app.plain_words, ctypes.CDLL(None)\n"
        "def noisy(words):\n"
        "    library.puts(b'a stray line')\n"
        "    library.fflush(None)\n"
        "    return plain(words)\n"
        "app.plain_words = noisy\n"
        "sys.argv = ['memplan', 'chips', '910B3', '--json']\n"
        "sys.exit(app.main())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["name"] == "Ascend910B3"
    assert run.stderr == "a stray line\n"
