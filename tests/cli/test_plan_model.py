"""`memplan plan CONFIG`: a published model is a source of plans like any graph."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import memplan
from memplan.cli import main
from memplan.core.errors import InputError
from memplan.core.options import options_of
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.models.training.memory import training_memory
from memplan.models.training.step_recipe import Recipe
from memplan.requests.plan_request import PlanRequest
from memplan.schema import Tier

CONFIG = str(resources.files("memplan.samples") / "example_config.json")
SMALL = ["--sequence", "256"]


@pytest.mark.parametrize(
    ("phase", "options", "named"),
    [
        ("train", ["--tp", "2", "--pp", "2", "--stage", "1", "--micro-batch", "2"], "training, stage 1"),
        ("prefill", ["--tp", "2", "--batch", "4"], "prefill"),
        ("decode", ["--pp", "2", "--stage", "1", "--batch", "4"], "decode"),
    ],
)
def test_a_plan_of_a_config_is_a_plan_like_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], phase: str, options: list[str], named: str
) -> None:
    target = tmp_path / "plan.json"
    assert main(["plan", CONFIG, "--phase", phase, *SMALL, *options, "-o", str(target), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    plan = memplan.load_plan(target)
    assert not plan.violations
    assert plan.fits
    assert named in plan.origin.graph
    assert {op.phase for op in plan.ops} >= ({"forward", "backward", "optimizer"} if phase == "train" else {phase})
    assert shown["makespan_ns"] == plan.makespan_ns
    assert main(["show", str(target)]) == 0


def test_a_folder_with_a_config_is_its_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(Path(CONFIG).read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["plan", str(tmp_path), "--phase", "decode", *SMALL]) == 0


def test_python_plans_a_model_as_the_command_does(tmp_path: Path) -> None:
    model = load_config(CONFIG)
    layout, recipe = Layout(pipeline=2, data=2), Recipe(sequence=256, micro_batches=2)
    plan = memplan.plan(model, phase="train", layout=layout, recipe=recipe, stage=1, data_rank=1, chip="910B3")
    target = tmp_path / "plan.json"
    options = ["--pp", "2", "--dp", "2", "--global-batch", "4", "--stage", "1", "--data-rank", "1"]
    main(["plan", CONFIG, "--phase", "train", *SMALL, *options, "-o", str(target)])
    assert memplan.load_plan(target) == plan
    use = plan.tier(Tier.HBM)
    assert use is not None
    assert use.peak == pytest.approx(training_memory(model, layout, recipe, 1).peak_bytes, rel=0.05)
    with pytest.raises(InputError, match="phase is 'train', but the recipe is one to decode"):
        memplan.plan(model, phase="train", recipe=ServedStep(Phase.DECODE, 1, 64), chip="910B3")
    with pytest.raises(InputError, match="a model is planned for a step, and none is given"):
        memplan.plan(model, chip="910B3")


def test_uneven_stages_are_planned_as_told(tmp_path: Path) -> None:
    layers = len(load_config(CONFIG).layers)
    rest = layers - 1
    target = tmp_path / "plan.json"
    for options in (["--first-stage-layers", "1"], ["--stage-layers", f"1,{rest}"], ["--num-layer-list", f"1,{rest}"]):
        assert main(["plan", CONFIG, "--phase", "train", *SMALL, "--pp", "2", *options, "-o", str(target)]) == 0
        assert {op.layer for op in memplan.load_plan(target).ops} == {None, 0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "the step of a model is not given; give --phase train, prefill or decode"),
        (["--phase", "guess"], "--phase 'guess' is not known"),
        (["--phase", "decode", "--micro-batch", "1"], "--micro-batch means nothing with --phase decode"),
        (["--phase", "train", "--batch", "4"], "--batch means nothing with --phase train"),
        (["--phase", "train", "--shape", "x=1,2"], "--shape means nothing with a model"),
        (["--phase", "train", "--pp", "2", "--stage", "2"], "there is no stage 2 among 2"),
        (["--phase", "train", "--stage-layers", "1,x"], "--stage-layers '1,x' is no list of numbers"),
        (["--phase", "train", "--first-stage-layers", "1"], "one pipeline stage has all layers"),
        (
            ["--phase", "train", "--pp", "2", "--stage-layers", "1,1"],
            "can't be divided among 2 pipeline stages of 1, 1",
        ),
    ],
)
def test_what_cant_be_meant_is_one_line(capsys: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    assert main(["plan", CONFIG, *SMALL, *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_options_of_a_model_are_refused_with_a_graph(capsys: pytest.CaptureFixture[str]) -> None:
    graph = next(Path(str(resources.files("memplan.samples"))).rglob("*.mindir"))
    assert main(["plan", str(graph), "--tp", "2"]) == 2
    assert "--tp means nothing with a graph" in capsys.readouterr().err


def test_a_damaged_config_is_told_for_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: `--phase means nothing with a graph` was said of a file that is no graph."""
    config = tmp_path / "config.json"
    config.write_text('{"model_type": ')
    assert main(["plan", str(config), "--phase", "decode"]) == 2
    assert "this is not a config.json: it isn't JSON" in capsys.readouterr().err


def test_a_long_search_for_a_shorter_training_step_ends_with_the_first_plan_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = json.loads(Path(CONFIG).read_text(encoding="utf-8")) | {"num_hidden_layers": 2}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(small), encoding="utf-8")

    def planned(*options: str) -> memplan.Plan:
        target = tmp_path / "plan.json"
        main(["plan", str(config), "--phase", "train", *SMALL, "--hbm", f"{room}B", *options, "-o", str(target)])
        return memplan.load_plan(target)

    room = 1 << 40
    hbm = planned().tier(Tier.HBM)
    assert hbm is not None
    room = hbm.peak * 3 // 4
    first, thorough = planned("--quick"), planned("--thorough")
    assert thorough.makespan_ns <= first.makespan_ns
    monkeypatch.setattr("memplan.cli.commands.plan._SEARCH_WORK", 2 * len(thorough.ops))
    ended = planned()
    assert [note for note in ended.notes if "given up" in str(note)]
    assert ended.transfers == first.transfers
    assert not [note for note in thorough.notes if "given up" in str(note)]


@pytest.mark.parametrize(
    "options",
    [
        {"phase": "train", "micro_batch": 4, "dp": 2, "sharding": "none", "recompute": "never"},
        {"phase": "train", "pp": 2, "dp": 2, "host": "1GiB"},
        {"phase": "prefill", "batch": 4, "tp": 2},
        {"phase": "decode", "batch": 8, "dp": 2, "weights": "bf16"},
    ],
)
def test_every_way_out_that_is_named_can_be_planned_with_its_words(options: dict[str, Any], tmp_path: Path) -> None:
    """Went wrong once: weights sharded over replicas were named, of which there is no graph."""
    document = json.loads(Path(CONFIG).read_text(encoding="utf-8")) | {"num_hidden_layers": 4}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(document), encoding="utf-8")
    asked = PlanRequest(source=config, context=256, given=frozenset({"context", *options}), **options)
    flags = {item.name: spec.flags[0] for item, spec in options_of(PlanRequest) if spec.flags}
    ways = list(asked.alternatives())
    assert len(ways) >= 4
    for words, changed in ways:
        assert changed.possible()
        named = re.search(r"\((.*)\)$", words)
        assert named is not None
        told = {flags[name]: str(value) for name, value in {"context": 256, **options}.items()}
        flag, _, value = named[1].removeprefix("no ").partition(" ")
        told[flag] = value
        if not value:
            del told[flag]
        given = [word for pair in told.items() for word in pair]
        target = tmp_path / "plan.json"
        assert main(["plan", str(config), *given, "-o", str(target)]) == 0
        assert memplan.load_plan(target) == changed.plan()


def test_what_has_no_graph_is_no_way_out() -> None:
    asked = PlanRequest(source=Path(CONFIG), context=256, phase="train", dp=2, schedule="dualpipe-v")
    assert not asked.possible()
    assert all("dualpipe-v" not in words for words, _ in replace(asked, schedule="1f1b").alternatives())


@pytest.mark.parametrize("sharding", ["zero3", "fsdp", "fsdp2"])
def test_weights_that_are_gathered_are_planned(sharding: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--phase", "train", "--context", "256", "--dp", "2", "--sharding", sharding, "--chip", "910B3"]
    assert main(["plan", str(CONFIG), *words]) == 0
    assert "peak" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--fused-exchanges", "--sequence-parallel"], ["--exchange-pieces", "2"], ["--whole-attention"]]
)
def test_what_a_graph_of_training_leaves_out_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: it was read, and the plan was that of a step without it."""
    assert main(["plan", str(CONFIG), "--phase", "train", "--context", "256", "--tp", "2", *option]) == 2
    assert "memplan step counts their time" in capsys.readouterr().err


def test_options_of_memory_that_a_graph_of_training_leaves_out_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--loss", "eager"], ["--norms-in-steps"], ["--silu-in-steps"], ["--capped-logits"]):
        assert main(["plan", str(CONFIG), "--phase", "train", "--context", "256", *option]) == 2
        said = capsys.readouterr().err
        assert f"{option[0]} is in no graph of training" in said
        assert "memplan train-memory counts its memory" in said
