"""Fixtures of the reader tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

BUNDLED = ("llama_infer", "llama_train", "cnn")


@pytest.fixture(scope="session")
def sample() -> Callable[[str], Path]:
    """Path of a bundled sample graph by name."""
    folder = Path(str(resources.files("memplan.samples")))
    return lambda name: folder / f"{name}.mindir"


@dataclass(frozen=True)
class Step:
    """What MindSpore's CPU profiler saw of one step: allocated bytes over time, kernels by start, its kernel graph."""

    memory: list[tuple[int, int]]
    kernels: list[str]
    kernel_graph: Path

    def transient_peak(self, result_bytes: int) -> int:
        """
        Most bytes that the step itself had allocated at once.

        When the last record is made, only the step's result (`result_bytes`) and what stays for ever is allocated:
        compile-time constants, which are the backend's own.
        """
        resident = self.memory[-1][1] - result_bytes
        return max(value for _, value in self.memory) - resident


@pytest.fixture(scope="session")
def measured_step(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Step]:
    """
    One step of a sample model, run and profiled by MindSpore in a process of its own.

    Each runs once, also where files of tests are shared out: what one worker has run is there for the others.
    """
    pytest.importorskip("mindspore")
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "measured_steps"
    folder.mkdir(exist_ok=True)
    seen: dict[str, Step] = {}

    def run(name: str) -> Step:
        if name not in seen:
            target = folder / f"{name}.json"
            if not target.exists():
                made = tmp_path_factory.mktemp("step") / "step.json"
                script = Path(__file__).with_name("mindspore_step.py")
                subprocess.run([sys.executable, str(script), name, str(made)], check=True, capture_output=True)
                made.replace(target)
            document = json.loads(target.read_text())
            dump = tmp_path_factory.mktemp("graph") / "graph_build.ir"
            dump.write_text(document["kernel_graph"])
            records = [(int(at), int(value)) for at, value in document["memory"]]
            seen[name] = Step(records, [kernel for _, kernel in document["kernels"]], dump)
        return seen[name]

    return run
