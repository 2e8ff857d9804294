"""`memplan step`: tables, JSON, a plan file, and one line for what can't be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main
from memplan.core.units import format_duration
from memplan.engines import CAPTURED, DEFAULT_ENGINE
from memplan.requests.kv_request import KvRequest
from memplan.schema import StepPartName, load_plan

FAMILIES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "models" / "families.json").read_text(encoding="utf-8")
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**FAMILIES["qwen2"]["config"], "num_hidden_layers": 4}), encoding="utf-8")
    return path


def test_tables_say_how_long_and_on_what(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", str(config), "--tp", "2", "--batch", "4", "--context", "1024"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("a token", "matrix products", "collectives", "weights", "rests on"))


def test_json_holds_the_same_figures(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", str(config), "--phase", "prefill", "--context", "512", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tpot_ns"] is None
    assert document["duration_ns"] > 0
    assert sum(item["duration_ns"] for item in document["by_class"]) > 0
    assert document["stages"][0]["weight_bytes"] > 0


def test_the_plan_of_a_rank_is_written(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "plan.json"
    step = ["step", str(config), "--batch", "2", "--context", "256", "--engine", "vllm-ascend-0.8.5rc1"]
    assert main([*step, "-o", str(output)]) == 0
    assert load_plan(output).ops
    assert any(part.note.startswith("vllm-ascend-0.8.5rc1: ") for part in load_plan(output).step_parts)
    assert str(output) in capsys.readouterr().out


def test_what_does_not_fit_is_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", str(config), "--chip", "910B4", "--batch", "512", "--context", "32768"]) == 1
    assert "does not fit" in capsys.readouterr().out


def test_a_training_step_says_its_four_parts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = ["--phase", "train", "--pp", "2", "--dp", "2", "--global-batch", "8", "--chip", "910B3", "-s", "1024"]
    assert main(["step", str(config), *layout, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    parts = ("compute_ns", "communication_ns", "bubble_ns", "host_ns")
    assert len(found["stages"]) == 2
    assert all(sum(stage[part] for part in parts) == found["duration_ns"] for stage in found["stages"])
    assert main(["step", str(config), *layout, "--stage", "2"]) == 2
    assert "no stage 2" in capsys.readouterr().err


def test_who_serves_is_whoever_keys_and_values_are_planned_for(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: a step took its kernels alone unless an engine was named, while memory was that of an engine."""
    step = ["step", str(config), "--tp", "2", "--batch", "4", "--context", "1024", "--chip", "910B3"]
    found = {}
    for more in ([], ["--engine", KvRequest(config).engine], ["--engine", CAPTURED]):
        assert main([*step, *more, "--json"]) == 0
        found[" ".join(more)] = json.loads(capsys.readouterr().out)
    default, named, hidden = found.values()
    assert default == named
    assert default["engine"] == DEFAULT_ENGINE
    assert default["host_ns"] > 5e6
    assert default["duration_ns"] - default["host_ns"] == default["hidden_host_ns"] == hidden["duration_ns"]
    assert main(step) == 0
    text = capsys.readouterr().out
    assert "host of the engine" in text
    assert f"these kernels take {format_duration(hidden['duration_ns'])}" in text


@pytest.mark.parametrize(
    ("words", "engine", "host"),
    [
        (["--engine", "vllm-ascend-0.11.0"], "vllm-ascend-0.11.0", "vllm-ascend-piecewise"),
        (["--engine", "v0.7.3"], "vllm-ascend-0.7.3", "vllm-ascend-eager"),
        (["--enforce-eager"], "vllm-ascend-eager", "vllm-ascend-eager"),
        (["--cudagraph-mode", "PIECEWISE"], "vllm-ascend-piecewise", "vllm-ascend-piecewise"),
        (
            ["--engine", "vllm-ascend-0.18.0", "--cudagraph-mode", "full_decode_only"],
            "vllm-ascend-0.18.0-full",
            "vllm-ascend-full",
        ),
        (["--engine", "sglang-0.5.23", "--disable-cuda-graph"], "sglang-0.5.23-eager", "vllm-ascend-eager"),
        (["--engine", "mindie-2.1.RC1"], "mindie-2.1.rc1", "mindie"),
        (["--no-async-scheduling"], "vllm-ascend", "vllm-ascend"),
    ],
)
def test_engines_are_named_by_release_and_started_with_their_own_options(
    config: Path, words: list[str], engine: str, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step = ["step", str(config), "--tp", "2", "--batch", "4", "--context", "1024", "--chip", "910B3", "--json"]
    found = []
    for more in (words, ["--engine", engine], ["--engine", host]):
        assert main([*step, *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["engine"] == found[1]["engine"] == engine
    assert found[0]["duration_ns"] == found[1]["duration_ns"]
    # By the host alone: older releases make tokens by another operator.
    assert found[0]["engine_mode"]["host"] == found[2]["engine"] == host
    assert any(engine in item["value"] for item in found[0]["rests_on"])
    assert any("ahead" in note for note in found[0]["notes"]) == (words[0] == "--no-async-scheduling")


def test_memory_without_graphs_is_timed_without_them(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kv = ["kv", str(config), "--chip", "910B3", "--tp", "2", "--context", "4096", "--host-memory", "64GiB", "--json"]
    times, notes = [], []
    for more in ([], ["--enforce-eager"], ["--engine", "vllm-ascend-0.12.0"], ["--host", CAPTURED]):
        assert main([*kv, *more]) == 0
        found = json.loads(capsys.readouterr().out)
        times.append(found["recompute_ns"])
        notes += [note for note in found["notes"] if note.startswith(("times ", "the host's work "))]
    assert "vllm-ascend-0.23.0.post1-eager:" in notes[1]
    assert "vllm-ascend-0.12.0:" in notes[2]
    assert "hidden" in notes[3]
    assert times[0] == times[1] == times[2] > times[3]  # prompts of so many tokens are launched kernel by kernel


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_a_plan_takes_as_long_as_the_step(
    config: Path, tmp_path: Path, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step = [str(config), "--phase", phase, "--context", "1024", "--chip", "910B3", "--json"]
    assert main(["step", *step]) == 0
    parts = json.loads(capsys.readouterr().out)["step_parts"]
    path = tmp_path / "plan.json"
    assert main(["plan", *step[:-1], "-o", str(path)]) == 0
    planned = load_plan(path).step_parts
    assert {part.name: part.duration_ns for part in planned} == {item["name"]: item["duration_ns"] for item in parts}
    assert any(part.name == StepPartName.HOST for part in planned)


@pytest.mark.parametrize(
    "words",
    [
        ["--engine", "vllm-ascend-0.18.0"],
        ["--engine", "v0.21.0rc1", "--cudagraph-mode", "piecewise"],
        ["--enforce-eager"],
        ["--engine", "captured"],
        ["--no-async-scheduling"],
    ],
)
def test_a_plan_is_served_by_whom_its_step_is(
    config: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: the command line planned for the default engine alone."""
    step = [str(config), "--phase", "decode", "--tp", "2", "--context", "1024", "--chip", "910B3", *words]
    assert main(["step", *step, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    path = tmp_path / "plan.json"
    assert main(["plan", *step, "-o", str(path)]) == 0
    planned = load_plan(path)
    assert {part.name: part.duration_ns for part in planned.step_parts} == {
        item["name"]: item["duration_ns"] for item in found["step_parts"]
    }
    assert set(planned.notes) >= {note for note in found["notes"] if "ahead" in note or "--cudagraph-mode" in note}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--phase", "train", "--engine", "megatron"], "--engine means nothing with --phase train"),
        (["--phase", "train", "--enforce-eager"], "--enforce-eager means nothing with --phase train"),
        (["--phase", "decode", "--engine", "logical"], "its steps are not timed; known: captured, vllm-ascend"),
        (["--phase", "decode", "--enforce-eager", "--cudagraph-mode", "full"], "told twice"),
    ],
)
def test_a_plan_refuses_engines_as_a_step_does(
    config: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(config), "--context", "512", *words]) == 2
    assert said in capsys.readouterr().err


def test_layouts_are_timed_with_the_host_of_their_engine(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: layouts that an engine serves were timed as a stack that hides its host."""
    fit = ["fit", str(config), "--npus", "2", "--context", "1024", "--timed", "1", "--json"]
    hosts = []
    for more in ([], ["--host", "mindie"], ["--host", CAPTURED], ["--host-factor", "2"]):
        assert main([*fit, *more]) == 0
        hosts.append(json.loads(capsys.readouterr().out)["fitting"][0]["host_ns"])
    default, lighter, hidden, slow = hosts
    assert default > lighter > hidden == 0
    assert slow == pytest.approx(2 * default)


def test_a_measured_step_gives_the_host_of_other_steps(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = ["step", str(config), "--batch", "4", "--context", "1024", "--engine", "vllm-ascend"]
    assert main([*served, "--measured-step", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["duration_ns"] == pytest.approx(40e6, rel=0.001)
    assert any(f"--host-factor {found['host_factor']:.2f} " in note for note in found["notes"])
    times = []
    for more in ([], ["--host-factor", str(found["host_factor"])]):
        assert main([*served, *more, "--json"]) == 0
        times.append(json.loads(capsys.readouterr().out)["duration_ns"])
    assert times[1] == pytest.approx(40e6, rel=0.01)
    assert times[0] < times[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--engine", "captured", "--measured-step", "40"],
        ["--engine", "captured", "--host-factor", "2"],
        ["--engine", "vllm-ascend-0.17.3"],
        ["--engine", "mindie", "--enforce-eager"],
        ["--engine", "mindie", "--eager-drafts"],
        ["--enforce-eager", "--cudagraph-mode", "full"],
        ["--cudagraph-mode", "whole"],
        ["--phase", "train", "--enforce-eager"],
        ["--phase", "train", "--cudagraph-mode", "none"],
        ["--engine", "vllm-ascend", "--host-factor", "nan"],
        ["--engine", "vllm-ascend", "--measured-step", "inf"],
        ["--engine", "vllm-ascend", "--measured-step", "0.1"],
        ["--engine", "vllm-ascend", "--measured-step", "40", "--host-factor", "2"],
        ["--phase", "train", "--host-factor", "2"],
        ["--phase", "train", "--batch", "8"],
        ["--phase", "tune"],
        ["--tp", "7"],
        ["--mtp", "2"],
        ["--weights", "w1"],
        ["--kv-dtype", "int3"],
    ],
)
def test_bad_input_is_one_line(config: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", str(config), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.strip().count("\n") <= 1
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "option",
    [
        "--lora-experts",
        "--split-experts",
        "--zero-memory-layers",
        "--weighted-activation",
        "--scan-in-steps",
        "--padded-heads",
        "--recompute-heads",
        "--recompute-experts",
        "--gathered-experts",
        "--recompute-shared",
        "--fused-indexer",
        "--fused-indexer-loss",
        "--frozen-vision",
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["train-memory", "--sequence", "512"],
        ["step", "--phase", "train", "--context", "512"],
        ["plan", "--phase", "train", "--context", "512"],
        ["fit", "--train", "--npus", "8", "--context", "512"],
    ],
    ids=lambda words: words[0],
)
def test_options_about_parts_that_a_model_lacks_are_refused(
    config: Path, command: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = command
    adapters = ["--lora-rank", "8"] if option == "--lora-experts" else []
    number = ["1"] if option in ("--zero-memory-layers", "--padded-heads") else []
    assert main([name, str(config), *rest, *adapters, option, *number]) == 2
    text = capsys.readouterr().err
    assert f"{option} is about" in text
    assert "lacks; leave it out" in text


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("q_proj,nothing", "no projection is called 'nothing'; known: "),
        ("router", "no projection is called 'router'; known: "),
        (",", "--lora-targets ',' is no list of names; write it as q_proj,v_proj"),
    ],
)
def test_adapters_stand_beside_projections_that_there_are(
    config: Path, targets: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: a name that no projection has was left out without a word, and so was one behind a space."""
    command = ["train-memory", str(config), "--sequence", "512", "--lora-rank", "8", "--json", "--lora-targets"]
    assert main([*command, targets]) == 2
    assert said in capsys.readouterr().err
    told = []
    for spelled in ("q_proj,v_proj", " q_proj, v_proj", "q_proj v_proj"):
        main([*command, spelled])
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] == told[2] != ""


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        ("linear_qkv linear_proj", "q_proj,k_proj,v_proj,o_proj"),
        ("linear_fc1,linear_fc2", "gate_proj,up_proj,down_proj"),
        ("qkv_proj,gate_up_proj", "q_proj,k_proj,v_proj,gate_proj,up_proj"),
    ],
)
def test_adapters_stand_beside_projections_by_the_names_of_their_framework(
    config: Path, theirs: str, own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Megatron's scripts tell `--lora-target-modules`, and fused layers of transformers."""
    command = ["train-memory", str(config), "--sequence", "512", "--lora-rank", "8", "--json"]
    told = []
    for option, names in (("--lora-target-modules", theirs), ("--lora-targets", own), ("--lora-targets", "q_proj")):
        main([*command, option, names])
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize(("family", "option"), [("qwen2_moe", "--lora-experts"), ("mamba2", "--scan-in-steps")])
def test_options_about_parts_that_a_model_has_are_taken(
    tmp_path: Path, family: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FAMILIES[family]["config"]), encoding="utf-8")
    main(["train-memory", str(path), "--sequence", "512", "--lora-rank", "8", option])
    assert "is about" not in capsys.readouterr().err
