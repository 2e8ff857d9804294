"""show, profile, compare, export and simulate: what they print, and the exit code that answers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memplan
from memplan.cli import main
from memplan.schema import load_plan, memory_curve, plan_to_json
from tests.small_plans import layered_plan

SAMPLES = Path(memplan.__file__).parent / "samples"
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    layered_plan(6, transfers=True).save(path)
    return path


def test_show_prints_a_saved_plan(ask: Ask, plan_file: Path) -> None:
    code, out, err = ask("show", plan_file)
    assert (code, err) == (0, "")
    assert "HBM" in out
    assert "Ascend910B3" in out


def test_show_json_is_the_plan(ask: Ask, plan_file: Path) -> None:
    code, out, _ = ask("show", plan_file, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(plan_to_json(load_plan(plan_file))))


def test_show_answers_no_for_a_plan_that_does_not_fit(ask: Ask, tmp_path: Path) -> None:
    document = plan_to_json(layered_plan(3)) | {"fits": False, "missing_bytes": 4096}
    (tmp_path / "unfit.json").write_text(json.dumps(document))
    assert ask("show", tmp_path / "unfit.json")[0] == 1


def test_an_exact_run_keeps_to_its_plan_and_a_noisy_one_deviates(ask: Ask, plan_file: Path, tmp_path: Path) -> None:
    assert ask("simulate", plan_file, tmp_path / "exact", "--exact")[0] == 0
    code, out, _ = ask("compare", plan_file, tmp_path / "exact")
    assert code == 0
    assert "keeps to the plan" in out
    assert "SIMULATED" in out
    assert ask("simulate", plan_file, tmp_path / "noisy", "--steps", "3", "--seed", "4")[0] == 0
    code, out, _ = ask("compare", plan_file, tmp_path / "noisy")
    assert code == 1
    assert "deviates: the makespan is" in out
    assert ask("compare", plan_file, tmp_path / "noisy", "--time-tolerance", "0.5")[0] == 0


def test_compare_json_lists_deviations_with_planned_measured_and_cost(
    ask: Ask, plan_file: Path, tmp_path: Path
) -> None:
    ask("simulate", plan_file, tmp_path / "noisy")
    code, out, _ = ask("compare", plan_file, tmp_path / "noisy", "--json", "--limit", "3")
    document: dict[str, Any] = json.loads(out)
    assert code == 1
    assert document["deviates"] is True
    assert document["simulated"] is True
    assert len(document["deviations"]) == 3
    for item in document["deviations"]:
        assert item["delta"] == item["measured"] - item["planned"]
        assert item["cost"] > 0


def test_comparing_with_another_model_is_an_answer_not_an_error(ask: Ask, plan_file: Path) -> None:
    code, out, err = ask("compare", plan_file, SAMPLES / "llama_train_profile")
    assert code == 1
    assert "memplan: " not in err  # what takes long says how far it is; errors are told so
    assert "another model" in out


def test_simulate_does_not_replace_unless_told(ask: Ask, plan_file: Path, tmp_path: Path) -> None:
    assert ask("simulate", plan_file, tmp_path / "runs")[0] == 0
    code, out, err = ask("simulate", plan_file, tmp_path / "runs")
    assert (code, out) == (2, "")
    assert "--replace" in err
    assert ask("simulate", plan_file, tmp_path / "runs", "--replace")[0] == 0


def test_profile_says_what_is_there_and_that_it_is_simulated(ask: Ask) -> None:
    code, out, _ = ask("profile", SAMPLES / "llama_train_profile")
    assert code == 0
    for word in ("SIMULATED", "1 rank", "Ascend Hardware", "MatMul", "PTA", "peak allocated"):
        assert word in out


def test_profile_of_real_files_has_their_figures(ask: Ask, shared_data: Path) -> None:
    code, out, _ = ask("profile", shared_data / "profiles/alexnet-ddp-2rank/text/level2", "--rank", "0", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["simulated"] is False
    assert document["all_ranks"] == [0, 1]
    (rank,) = document["ranks"]
    assert rank["top_ops"][0]["total_ns"] > 0
    (step,) = rank["steps"]
    assert (step["step"], step["computing_ns"], step["stage_ns"]) == (50, 8_868_240, 129_862_750)


def test_profile_refuses_a_rank_that_is_not_there(ask: Ask) -> None:
    code, out, err = ask("profile", SAMPLES / "llama_train_profile", "--rank", "5")
    assert (code, out) == (2, "")
    assert "no rank 5; it has 0" in err


@pytest.mark.parametrize(
    ("to", "made"), [("csv", "ops.csv"), ("chrome-trace", None), ("html", None), ("parquet", "ops.parquet")]
)
def test_export_writes_where_it_is_told(ask: Ask, plan_file: Path, tmp_path: Path, to: str, made: str | None) -> None:
    code, out, _ = ask("export", plan_file, "--to", to, "-o", tmp_path / "out")
    assert code == 0
    assert str(tmp_path / "out") in out
    assert (tmp_path / "out" / made).is_file() if made else (tmp_path / "out").stat().st_size


def test_export_of_a_training_plan_to_vllm_is_refused(ask: Ask, tmp_path: Path) -> None:
    code, out, err = ask("export", SAMPLES / "llama_train.plan.json", "--to", "vllm-ascend", "-o", tmp_path / "x")
    assert (code, out) == (2, "")
    assert "training step" in err
    assert list(tmp_path.iterdir()) == []


def test_many_ranks_are_one_table_and_one_of_them_is_printed_in_full(ask: Ask, plan_file: Path, tmp_path: Path) -> None:
    for rank in range(6):
        folder = tmp_path / "runs" / f"rank{rank}_ascend_pt"
        assert ask("simulate", plan_file, folder, "--rank", rank, "--seed", rank)[0] == 0
    _, out, _ = ask("profile", tmp_path / "runs")
    assert "6 rank(s)" in out
    assert "computing a step" in out
    assert "Op types by time" not in out
    _, out, _ = ask("profile", tmp_path / "runs", "--rank", "4")
    assert "Rank 4 on NPU:4" in out
    assert "Op types by time" in out
    assert ask("compare", plan_file, tmp_path / "runs", "--rank", "5")[0] == 1


def test_components_that_hold_nothing_are_counted_not_listed(ask: Ask, shared_data: Path) -> None:
    _, out, _ = ask("profile", shared_data / "profiles/qwen3-0.6b-train-4rank", "--rank", "0")
    assert "HCCL" in out
    assert "DVPP" not in out
    assert "more components hold nothing" in out


def test_compare_writes_both_curves_on_one_axis(ask: Ask, plan_file: Path, tmp_path: Path) -> None:
    ask("simulate", plan_file, tmp_path / "run", "--exact")
    assert ask("compare", plan_file, tmp_path / "run", "--curves", tmp_path / "curves.csv")[0] == 0
    with (tmp_path / "curves.csv").open(encoding="utf-8", newline="") as file:
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]
    plan = load_plan(plan_file)
    curve = memory_curve(plan)
    assert [row["plan_ns"] for row in rows] == sorted(row["plan_ns"] for row in rows)
    for row in rows[:-1]:
        assert row["planned_bytes"] == row["measured_bytes"] == curve.at(row["plan_ns"])
        assert row["profile_ns"] - rows[0]["profile_ns"] == row["plan_ns"]
