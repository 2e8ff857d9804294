"""Two lines in a training script of PyTorch: what the plan sets, what that changes, and when it is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[2]


def trained(kind: str, case: str, folder: Path, recompute: str = "auto") -> dict[str, Any]:
    target = folder / f"{case}{recompute}.json"
    subprocess.run(
        [sys.executable, "-m", "tests.runtime.torch_training", kind, case, str(target), recompute],
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )
    found: dict[str, Any] = json.loads(target.read_text())
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("torch")
    return {case: trained("transformer", case, folder) for case in ("plain", "0.7")}


def test_running_statistics_are_written_once_a_step_though_layers_run_twice(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    plain, planned = (trained("convolutions", case, tmp_path) for case in ("plain", "0.7"))
    assert planned["recomputed"]
    assert planned["losses"] == plain["losses"]
    assert planned["state"] == plain["state"]
    for run in (plain, planned):
        assert run["planned"] == pytest.approx(run["measured"], rel=0.03)


def test_planning_leaves_the_program_as_it_was(runs: dict[str, dict[str, Any]]) -> None:
    assert runs["plain"]["untouched"]


def test_losses_are_equal_bit_by_bit_with_the_plan_applied(runs: dict[str, dict[str, Any]]) -> None:
    assert runs["0.7"]["recomputed"]
    assert runs["0.7"]["losses"] == runs["plain"]["losses"]


def test_the_measured_peak_follows_the_plan(runs: dict[str, dict[str, Any]]) -> None:
    assert runs["0.7"]["fits"]
    assert runs["0.7"]["measured"] < 0.75 * runs["plain"]["measured"]
    for run in runs.values():
        assert run["planned"] == pytest.approx(run["measured"], rel=0.03)


def test_host_moves_alone_keep_losses_and_the_device_holds_what_was_planned(
    runs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    found = trained("transformer", "0.75", tmp_path, "never")
    assert found["fits"]
    assert not found["recomputed"]
    assert found["losses"] == runs["plain"]["losses"]
    assert found["state"] == runs["plain"]["state"]
    assert all(
        line.startswith("set: torch.autograd.graph.saved_tensors_hooks") for line in found["report"].splitlines()
    )
    assert found["planned"] == pytest.approx(found["measured"], rel=0.03)


def test_what_was_set_is_said(runs: dict[str, dict[str, Any]]) -> None:
    lines = runs["0.7"]["report"].splitlines()
    assert [line.split(" = ")[1].split(" ")[0] for line in lines] == runs["0.7"]["recomputed"]
    assert all(line.startswith("set: torch.utils.checkpoint") for line in lines)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("chip", "the plan is for Ascend910B3, this is Ascend910_93"),
        ("fewer layers", "layers.3"),
        ("other width", "[512, 64] here and [512, 128] in the plan"),
        ("no module", "found object"),
    ],
)
def test_a_plan_of_something_else_is_refused_and_the_difference_named(
    case: str, words: str, runs: dict[str, dict[str, Any]]
) -> None:
    assert words in runs["0.7"]["refused"][case]


def test_a_module_alone_is_planned_for_the_mode_that_it_is_in() -> None:
    torch = pytest.importorskip("torch")
    import memplan

    model = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(6)))
    batch = torch.ones(4096, 256)
    trained_plan = memplan.plan(model.train(), batch, chip="910B3")
    served_plan = memplan.plan(model.eval(), batch, chip="910B3")
    activation = batch.nbytes
    assert trained_plan.tiers[0].peak > served_plan.tiers[0].peak + 3 * activation
    assert all(parameter.grad is None for parameter in model.parameters())
