"""`compare --model` and `profile --model`: the plan is made like the profile, on the fly."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

import memplan
from memplan.cli import main
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.memory import Recipe
from memplan.simulator import Behaviour, simulate

CONFIG = str(resources.files("memplan.samples") / "example_config.json")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(sequence=512, micro_batch=2, micro_batches=2, recompute_layers=1)
    layout = Layout(pipeline=2, data=2)
    plan = memplan.plan(load_config(CONFIG), layout=layout, recipe=recipe, stage=1, chip="910B3")
    folder = tmp_path_factory.mktemp("run") / "rank_2_ascend_pt"
    return simulate(plan, folder, behaviour=Behaviour.exact(), rank=2, steps=2)


def test_a_comparison_makes_its_plan_like_the_profile(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--model", CONFIG, str(ran), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    settings = found["plan_settings"]
    assert {item["name"]: item["value"] for item in settings}["recompute-layers"] == "1"
    assert all(item["evidence"] and item["certainty"] in ("told", "follows", "likely", "assumed") for item in settings)
    assert main(["compare", "--model", CONFIG, str(ran)]) == 0
    assert "Planned for" in capsys.readouterr().out


def test_a_profile_alone_speaks_of_layers(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(ran), "--model", CONFIG, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["model"]
    layers = {row["layer"] for row in found["times"]["layers"] if row["phase"] == "forward"}
    half = len(load_config(CONFIG).layers) // 2
    assert layers == set(range(half, 2 * half))
    assert main(["profile", str(ran), "--model", CONFIG]) == 0
    assert "By part of the model" in capsys.readouterr().out


def test_one_source_of_the_plan(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(ran)]) == 2
    assert "a profile is missing; give PLAN and PROFILE, or --model" in capsys.readouterr().err
    assert main(["compare", str(ran), str(ran), "--model", CONFIG]) == 2
    assert "--model makes the plan, and one is given" in capsys.readouterr().err
