"""A profile of serving holds decode steps with prompts among them: each step is named as what it is."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.align import align
from memplan.compare import compare
from memplan.likeness import like_profile
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.simulator import Behaviour, simulate

LAYOUT = Layout(tensor=2)
STEPS = {"prefill": ServedStep(Phase.PREFILL, 2, 2048), "decode": ServedStep(Phase.DECODE, 32, 2048)}


def kernels_of(model: ModelConfig, step: ServedStep, folder: Path) -> list[dict[str, str]]:
    plan = memplan.plan(model, layout=LAYOUT, recipe=step, chip="910B2")
    simulate(plan, folder, behaviour=replace(Behaviour.exact(), hidden_names=True))
    with next(folder.rglob("kernel_details.csv")).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def model(shared_data: Path) -> ModelConfig:
    whole = load_config(shared_data / "configs" / "Qwen--Qwen3-8B.json")
    return replace(whole, layers=whole.layers[:4])


@pytest.mark.parametrize(("order", "usual"), [("dddpddp", "decode"), ("ppdpp", "prefill")])
def test_steps_of_both_kinds_are_told_apart(model: ModelConfig, tmp_path: Path, order: str, usual: str) -> None:
    tables = {name: kernels_of(model, step, tmp_path / f"{name}_ascend_pt") for name, step in STEPS.items()}
    rows, truth, clock = [], [], 0.0
    for letter in order:
        name = "prefill" if letter == "p" else "decode"
        table = tables[name]
        begin = float(table[0]["Start Time(us)"])
        for row in table:
            start = clock + float(row["Start Time(us)"]) - begin
            rows.append({**row, "Start Time(us)": f"{1_700_000_000_000_000 + start:.3f}"})
            truth.append(name)
        clock += float(table[-1]["Start Time(us)"]) - begin + 5_000.0
    folder = tmp_path / "served_ascend_pt"
    path = folder / "ASCEND_PROFILER_OUTPUT" / "kernel_details.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "Step Id"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)

    profile = memplan.open_profile(folder)
    found = like_profile(model, profile)
    assert found.values["phase"] == usual
    assert found.values["batch"] == STEPS[usual].batch
    assert found.values["context"] == pytest.approx(2048, rel=0.1)
    kernels = profile.rank(next(iter(profile.ranks))).kernels()
    assert kernels is not None
    plan = memplan.plan(model, layout=LAYOUT, recipe=STEPS[usual], chip="910B2")
    scopes = align(plan, kernels).scopes
    named = Counter((name, scopes.phases[phase]) for name, phase in zip(truth, scopes.phase.tolist(), strict=True))
    assert set(named) == {("decode", "decode"), ("prefill", "prefill")}


def test_a_sum_fused_with_the_next_layers_norm_is_of_that_layer(model: ModelConfig, tmp_path: Path) -> None:
    """Engines add the residual and norm the next layer's input in one kernel."""
    plan = memplan.plan(model, layout=LAYOUT, recipe=STEPS["decode"], chip="910B2")
    table = kernels_of(model, STEPS["decode"], tmp_path / "apart_ascend_pt")
    fused: list[dict[str, str]] = []
    for row in table:
        norm = row["Type"] == "RmsNorm" and bool(fused) and fused[-1]["Type"] == "Add"
        if norm:
            added = fused.pop()
            sizes = (added["Input Shapes"].strip('"'), row["Input Shapes"].strip('"').split(";")[-1])
            row = {**row, "Type": "AddRmsNorm", "Name": "AddRmsNorm", "Input Shapes": '"' + ";".join(sizes) + '"'}
        fused.append(row)
    folder = tmp_path / "fused_ascend_pt"
    path = folder / "ASCEND_PROFILER_OUTPUT" / "kernel_details.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(fused[0]))
        writer.writeheader()
        writer.writerows(fused)
    compared = compare(plan, memplan.open_profile(folder))
    kernels = memplan.open_profile(folder).rank(0).kernels()
    assert compared.places is not None
    assert kernels is not None
    said = [compared.places.place(row) for row, kind in enumerate(kernels.type) if kind == "AddRmsNorm"]
    assert said[:4] == [
        "layers.0.norm.1, decode", "layers.1.norm.0, decode", "layers.1.norm.1, decode", "layers.2.norm.0, decode",
    ]  # fmt: skip
