"""`compare --model` and `profile --model`: the plan is made like the profile, on the fly."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

import memplan
from memplan.cli import main
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe
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


def test_tables_that_programs_read_have_every_row(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page lists the longest parts; CSV and JSON have all of them."""
    assert main(["profile", str(ran), "--model", CONFIG, "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["model"]["times"]["parts"]
    assert main(["profile", str(ran), "--model", CONFIG, "--format", "csv"]) == 0
    lines = capsys.readouterr().out.split("# By part\n")[1].split("\n\n")[0].splitlines()
    assert len(parts) > 20
    assert len(lines) == 1 + len(parts)


SMALL = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 8192, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096, "hidden_act": "silu", "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip


def test_ranks_of_a_stage_are_compared_part_by_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of two replicas is slow in its feed-forward parts alone."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SMALL), encoding="utf-8")
    recipe, layout = Recipe(sequence=512, micro_batch=1, micro_batches=2), Layout(data=2)
    for rank in (0, 1):
        plan = memplan.plan(load_config(config), layout=layout, recipe=recipe, data_rank=rank, chip="910B3")
        folder = tmp_path / "run" / f"rank_{rank}_ascend_pt"
        simulate(plan, folder, behaviour=replace(Behaviour.exact(), hidden_names=True), rank=rank)
    slow_down(tmp_path / "run" / "rank_1_ascend_pt", "SwiGlu", 30.0)
    assert main(["ranks", str(tmp_path / "run"), "--model", str(config), "--format", "csv"]) == 0
    table = capsys.readouterr().out.split("on_rank,over_the_mean_change\n")[1].split("\n\n")[0]
    rows = {row[1:3]: row for row in map(tuple, csv.reader(table.splitlines()))}
    stage, _, _, planned, mean, longest, on_rank, over = rows["forward", "activation"]
    assert (stage, on_rank) == ("0", "1")
    assert int(longest) == pytest.approx(30 * int(planned), rel=0.05)
    assert int(mean) == pytest.approx(15.5 * int(planned), rel=0.05)
    assert float(over) == pytest.approx(30 / 15.5 - 1, abs=0.05)


def slow_down(folder: Path, kind: str, times: float) -> None:
    """Let kernels of a type have taken so many times as long."""
    table = next(folder.rglob("kernel_details.csv"))
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["Type"] == kind:
            row["Duration(us)"] = f"{float(row['Duration(us)']) * times:.3f}"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_rank_without_kernels_is_told_by_its_traffic(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = shared_data / "profiles" / "qwen3-0.6b-train-4rank" / "rank_3_ascend_pt"
    config = shared_data / "configs" / "Qwen--Qwen3-0.6B.json"
    assert main(["profile", str(profile), "--model", str(config), "--format", "csv"]) == 0
    told = {row[0]: row[1] for row in csv.reader(capsys.readouterr().out.splitlines()) if len(row) > 1}
    expected = {"stage": "1", "pp": "2", "dp": "2", "sequence": "4096", "micro-batches": "2"}
    assert expected.items() <= told.items()


def test_one_source_of_the_plan(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(ran)]) == 2
    assert "a profile is missing; give PLAN and PROFILE, or --model" in capsys.readouterr().err
    assert main(["compare", str(ran), str(ran), "--model", CONFIG]) == 2
    assert "--model makes the plan, and one is given" in capsys.readouterr().err
