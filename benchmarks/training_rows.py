"""Memory and time of public training runs, predicted: states after the first step, the most of a stage, a step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measured_row import MeasuredRow, later_set
from memplan.core.errors import InputError
from memplan.core.units import GIB, MIB
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.memory import TrainingMemory, training_memory
from memplan.models.training.recipe_choices import Gpu, Loss, Schedule, Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.serving import TrainingTime, training_time
from memplan.serving.eager_kernels import trained_interval
from memplan.serving.training_time import usual_engine

RUNS = Path(__file__).with_name("training_cases.json")
PUBLISHED = Path(__file__).with_name("training_published.json")
_A2 = "910B1"
"""The chip that runs on 910B are taken to have had: they don't tell which of its bins."""
_PEAKS = {"peak_gib": "steady step", "reserved_gib": "reserved"}
_NAMED = {"sharding": Sharding, "schedule": Schedule, "loss": Loss}
_GPUS = {"A100": Gpu.AMPERE, "H100": Gpu.HOPPER, "H800": Gpu.HOPPER, "GB200": Gpu.BLACKWELL}


def training_rows(configs: Path) -> Iterator[MeasuredRow]:
    """Every figure of `training_cases.json`; `configs` is the folder of published configs."""
    for run in runs_of(RUNS):
        stages = sorted({stage for figures in ("stages", *_PEAKS) for stage in run.get(figures, {})}, key=int)
        for stage in stages:
            yield from _stage_rows(run, int(stage), configs)


def _stage_rows(run: Mapping[str, Any], stage: int, configs: Path) -> Iterator[MeasuredRow]:
    try:
        memory, why = run_memory(run, stage, configs), ""
    except (InputError, TypeError) as error:
        memory, why = None, str(error).splitlines()[0]
    name = f"{run['name']}, stage {stage}"

    def row(kind: str, unit: str, measured: float, predicted: float | None) -> MeasuredRow:
        return MeasuredRow(
            f"training memory: {kind}", run["source"], run["chip"], name, unit, measured, predicted, why=why
        )

    if str(stage) in run.get("stages", {}):
        states, first = run["stages"][str(stage)]
        yield row("states", "MiB", states, None if memory is None else memory.between_steps / MIB)
        if first is not None:
            yield row("first step", "MiB", first, None if memory is None else memory.first_step_bytes / MIB)
    for figures, kind in _PEAKS.items():
        if str(stage) in run.get(figures, {}):
            peak, predicted = run[figures][str(stage)], None
            if memory is not None:
                predicted = (memory.reserved_bytes if kind == "reserved" else memory.peak_bytes) / GIB
            yield row(kind, "GiB", peak, predicted)


def run_memory(run: Mapping[str, Any], stage: int, configs: Path) -> TrainingMemory:
    """What memplan predicts for a stage of a run; raises `InputError` or `TypeError` for what it can't be told."""
    if "unknown" in run:
        raise InputError(run["unknown"])
    return training_memory(*described(run, configs), stage)


def described(run: Mapping[str, Any], configs: Path) -> tuple[ModelConfig, Layout, Recipe]:
    config = run["config"]
    model = load_config(json.loads((configs / config).read_text("utf-8")) if isinstance(config, str) else config)
    return model, layout_of(run), recipe_of(run)


def layout_of(run: Mapping[str, Any]) -> Layout:
    layout = dict(run["layout"])
    if "stage_layers" in layout:
        layout["stage_layers"] = tuple(layout["stage_layers"])
    return Layout(**layout)


def recipe_of(run: Mapping[str, Any]) -> Recipe:
    recipe: dict[str, Any] = {"gpu": _GPUS.get(run["chip"], Gpu.NONE)}
    for key, value in run["recipe"].items():
        recipe[key] = _NAMED[key](value) if key in _NAMED else tuple(value) if isinstance(value, list) else value
    return Recipe(**recipe)


def logged_steps(configs: Path) -> Iterator[MeasuredRow]:
    """The time of a step of every run that tells it, on the chip that its publisher's scripts are for."""
    for run in logged_runs():
        yield _step_row("trained steps", run, configs)


def published_steps(configs: Path) -> Iterator[MeasuredRow]:
    """The time of a step by every throughput of `training_published.json`, of each half on its own."""
    for run in runs_of(PUBLISHED):
        kind = later_set(run) or (", in view" if run["set"] == "development" else "")
        yield _step_row(f"published training{kind}", run, configs)


def runs_of(path: Path) -> list[dict[str, Any]]:
    """The runs of one of the tables, as they are told."""
    return list(json.loads(path.read_text("utf-8"))["runs"])


def logged_runs() -> Iterator[dict[str, Any]]:
    """Runs that log the time of a step, on the chip that their publisher's scripts are for."""
    return ({**run, "chip": _A2} for run in runs_of(RUNS) if "step_ms" in run)


def run_time(run: Mapping[str, Any], configs: Path) -> TrainingTime:
    """What memplan predicts for the step of a run; raises `InputError` for what it can't be told."""
    why = run.get("step_unknown", run.get("unknown"))
    if why:
        raise InputError(why)
    return training_time(*described(run, configs), chip(run["chip"]), engine=run.get("engine"))


def interval_of_run(run: Mapping[str, Any], configs: Path) -> tuple[str, tuple[float, float]]:
    """The engine of a run, and measured over predicted time of about four of five public steps of its kind."""
    model, layout, recipe = described(run, configs)
    engine = run.get("engine") or usual_engine(recipe)
    return engine, trained_interval(engine, model, layout)


def _step_row(kind: str, run: Mapping[str, Any], configs: Path) -> MeasuredRow:
    predicted, why = None, ""
    try:
        predicted = run_time(run, configs).duration_ns / 1e6
    except InputError as error:
        why = str(error).splitlines()[0]
    unit, measured = ("ms", run["step_ms"]) if "step_ms" in run else next(iter(run["measured"].items()))
    unit = unit.replace("_", " ")
    return MeasuredRow(kind, run["source"], run["chip"], run["name"], unit, measured, predicted, why=why)
