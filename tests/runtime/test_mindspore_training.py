"""Two lines in a training script of MindSpore: what the plan sets, what that changes, and when it is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mindspore
TOP = Path(__file__).parents[2]


def trained(mode: str, folder: Path) -> dict[str, Any]:
    pytest.importorskip("mindspore")
    target = folder / f"{mode}.json"
    subprocess.run(
        [sys.executable, "-m", "tests.runtime.mindspore_training", mode, str(target)],
        check=True,
        capture_output=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )
    found: dict[str, Any] = json.loads(target.read_text())
    return found


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained("graph", tmp_path_factory.mktemp("graph"))


def close(found: dict[str, Any], case: str) -> float:
    """Planned over measured peak; the measured one is what the profiler counts and the state, which it doesn't."""
    return float(found[case]["planned"] / (found[case]["measured"] + found["plain"]["state"]))


def test_losses_are_equal_bit_by_bit_with_the_plan_applied(graph: dict[str, Any]) -> None:
    assert graph["recomputed"]
    assert graph["applied"]["losses"] == graph["plain"]["losses"]


def test_the_measured_peak_follows_the_plan(graph: dict[str, Any]) -> None:
    assert graph["applied"]["fits"]
    assert graph["applied"]["measured"] < graph["plain"]["measured"] * 0.8
    assert close(graph, "plain") == pytest.approx(1, abs=0.03)
    assert close(graph, "applied") == pytest.approx(1, abs=0.03)


def test_what_was_set_is_said_and_can_be_taken_back(graph: dict[str, Any]) -> None:
    report = graph["applied"]["report"].splitlines()
    assert [line.split(" = ")[1].split(" ")[0] for line in report if line.startswith("set: Cell.recompute")] == graph[
        "recomputed"
    ]
    assert any(line.startswith("not set: runtime.set_memory") and "CPU" in line for line in report)
    assert graph["undone"] == graph["plain"]["planned"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("chip", "the plan is for Ascend910B3, this is Ascend910_93"),
        ("fewer layers", "layers.2"),
        ("other width", "[512, 64] here and [512, 128] in the plan"),
        ("mode", "the plan is for graph mode, this process is in pynative mode"),
        ("knob", "Cell.recompute is not in MindSpore 2."),
        ("no cell", "found object"),
    ],
)
def test_a_plan_of_something_else_is_refused_and_the_difference_named(
    case: str, words: str, graph: dict[str, Any]
) -> None:
    assert words in graph["refused"][case]
    assert "\n" not in graph["refused"][case]


def test_the_callback_looks_once_a_step_and_takes_below_a_hundredth_of_it(graph: dict[str, Any]) -> None:
    assert graph["watched"]["is_callback"]
    assert graph["watched"]["steps"] == 3
    assert graph["watched"]["share"] < 0.01


def test_a_printed_plan_is_a_page(graph: dict[str, Any]) -> None:
    assert len(graph["page"]) <= 70
    assert any("recomputed: network.net.layers.0" in line for line in graph["page"])
    assert graph["html"].startswith("<div>")
    assert "<script" not in graph["html"]


@pytest.mark.slow
def test_the_same_holds_op_by_op(tmp_path: Path) -> None:
    found = trained("pynative", tmp_path)
    assert found["recomputed"]
    assert found["applied"]["losses"] == found["plain"]["losses"]
    assert found["applied"]["fits"]
    assert close(found, "plain") == pytest.approx(1, abs=0.03)
    assert close(found, "applied") == pytest.approx(1, abs=0.03)
    assert found["moved"]["fits"]
    assert "set: mindspore.saved_tensors_hooks = " in found["moved"]["report"]
    assert "moved to the host" not in found["moved"]["report"]
    assert found["moved"]["losses"] == found["plain"]["losses"]
    assert close(found, "moved") == pytest.approx(1, abs=0.03)
