"""`memplan step CONFIG`: how long one step of a model takes, served or trained, and on what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.reporting import new_file, reporting
from memplan.core.errors import InputError
from memplan.core.options import given_option
from memplan.core.units import format_duration
from memplan.reports.report import Remark, Report
from memplan.requests.engine_request import EngineRequest
from memplan.requests.load_request import LoadRequest
from memplan.requests.plan_request import TRAIN_PHASE, ModelStepRequest, TimedStepRequest

if TYPE_CHECKING:
    from memplan.engines import StepMode
    from memplan.hardware import Chip
    from memplan.models import ModelConfig
    from memplan.serving import StepTime

_OF_ONE_STEP = frozenset({"batch", "context", "cached", "stage", "data_rank"})
"""Options that say of one step what of requests at once follows from how many they are and how long."""


@dataclass(frozen=True, slots=True)
class _Served:
    """How an engine runs steps: drafts accepted (by default as reported) and launched, its host against public ones."""

    mode: StepMode
    acceptance: float | None
    eager_drafts: bool
    host_factor: float | None


@reporting
def command(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or its folder.", show_default=False)],
    asked: TimedStepRequest,
    load: LoadRequest,
    runs: EngineRequest,
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910C or 950DT_9591.")] = "910C",
    accepted: Annotated[
        float | None,
        typer.Option(help="Draft tokens accepted on average; by default what public tables state.", min=0),
    ] = None,
    eager_drafts: Annotated[
        bool, typer.Option("--eager-drafts", help="The engine launches drafts one by one (enforce_eager).")
    ] = False,
    host_factor: Annotated[
        float | None,
        typer.Option(help="How many times as long this machine's host takes as those of public runs.", min=0),
    ] = None,
    measured_step: Annotated[
        float | None,
        typer.Option(help="Milliseconds that this step took on the machine: says its --host-factor.", min=0),
    ] = None,
    output: Annotated[
        Path | None,
        new_file("Write the plan of one rank (first stage) here as JSON.", "--output", "-o"),
    ] = None,
) -> Report:
    """
    Predict the time of one prefill, decode or training step of a published language model in a parallel layout.

    With --concurrency or --rate: what a service of the layout does with so many requests, time to the first token, time
    a token under load and tokens a second. Exits with 0 when weights, caches and activations of every rank fit into the
    chip, 1 when they do not (a training step's memory is `memplan train-memory`'s) or more requests come than are
    answered, 2 when the input can't be used.
    """
    from memplan.hardware import chip as find_chip
    from memplan.models import load_config
    from memplan.serving.host_factor import check_host_shows

    model, die, many = load_config(config), find_chip(chip), load.asked
    if many and (output is not None or measured_step is not None):
        raise InputError("--measured-step and -o are of one step", remedy="leave --concurrency and --rate out")
    if asked.phase == TRAIN_PHASE and not many:
        told = (accepted, host_factor, measured_step, output)
        if runs.started_with or any(item is not None for item in told):
            raise InputError(
                "--accepted, --host-factor, --measured-step, what an engine captures and -o are of steps that serve",
                remedy="memplan plan writes plans of training",
            )
        return _of_training(model, asked, die, runs.engine)
    if host_factor is not None and measured_step is not None:
        raise InputError("--measured-step says what --host-factor is", remedy="give one of them")
    mode = runs.mode()
    if host_factor is not None or measured_step is not None:
        check_host_shows(mode.name)
    served = _Served(mode, accepted, eager_drafts, host_factor)
    if many:
        return _of_requests(model, asked, load, die, served)
    return _of_one_step(model, asked, die, served, measured_step, output)


def _of_training(model: ModelConfig, asked: TimedStepRequest, die: Chip, engine: str | None) -> Report:
    """The time of a training step."""
    from memplan.reports.step_report import training_step_report
    from memplan.serving import training_time

    asked.check_parts(model)
    trained = training_time(model, asked.ranks, asked.training_recipe(), die, engine=engine)
    return training_step_report(trained, asked.stage)


def _of_one_step(
    model: ModelConfig,
    asked: TimedStepRequest,
    die: Chip,
    by: _Served,
    measured_step: float | None,
    output: Path | None,
) -> Report:
    """The time of one served step, with the host that makes it take `measured_step` milliseconds where that is told."""
    from memplan.kv.served_weights import served_weights
    from memplan.reports.step_report import step_report
    from memplan.serving import step_time

    served = served_weights(model, die, asked.weights)
    step = replace(asked.served_step(), precision=served.precision)

    def timed(factor: float | None) -> StepTime:
        return step_time(
            model, asked.layout, step, die, acceptance=by.acceptance, engine=by.mode.name,
            eager_drafts=by.eager_drafts, host_factor=factor,
        )  # fmt: skip

    result, notes = timed(by.host_factor), by.mode.notes
    if measured_step is not None:
        factor = _host_factor(result, measured_step * 1e6, eager_drafts=by.eager_drafts)
        result = timed(factor)
        note = (
            f"this machine's host takes {factor:.2f} times as long as public ones: --host-factor {factor:.2f} predicts "
            "its other steps"
        )
        notes = (note, *notes)
    result = replace(result, notes=(*result.notes, *map(str, notes)))
    if output is not None:
        from memplan.planner import plan

        plan(model, layout=result.layout, recipe=result.step, chip=die, engine=result.engine).save(output)
    found = step_report(result, _room(die))
    remarks = (*found.notes, *(() if served.note is None else (Remark(served.note),)))
    return replace(found, notes=remarks, written=() if output is None else (output,))


def _of_requests(model: ModelConfig, asked: TimedStepRequest, load: LoadRequest, die: Chip, by: _Served) -> Report:
    """What a service of the layout does with the requests of `load`."""
    from memplan.deployment.answered_load import answered_load
    from memplan.kv.served_weights import served_weights
    from memplan.reports.services.load_report import load_report
    from memplan.serving.constants import hidden_host_notes
    from memplan.serving.steptime import routing_notes

    if asked.phase != "decode":
        raise InputError("--phase {:.20} is of one step", asked.phase, remedy="leave --phase or --concurrency out")
    idle = given_option(ModelStepRequest, asked.given & _OF_ONE_STEP)
    if idle is not None:
        raise InputError(
            "{} is of one step", idle, remedy="give --input-length, --output-length and --concurrency in its place"
        )
    model, layout, served, mode = load.drafting(model), asked.layout, served_weights(model, die, asked.weights), by.mode
    step = replace(asked.served_step(), precision=served.precision)
    found = answered_load(
        model, layout, die, load.load(), step, mode.name,
        limits=load.limits(model, layout, die, step, mode), step_tokens=load.read_tokens,
        acceptance=by.acceptance, eager_drafts=by.eager_drafts, host_factor=by.host_factor,
    )  # fmt: skip
    notes = (*mode.notes, *routing_notes(model, layout, even=step.even_routing), *hidden_host_notes(mode.name))
    return load_report(found, model.name, die.name, notes if served.note is None else (*notes, served.note))


def _host_factor(result: StepTime, measured_ns: float, *, eager_drafts: bool) -> float:
    """The factor of the host with which `result` takes as long as was measured."""
    from memplan.serving.host_factor import found_host_factor

    factor = found_host_factor(result, measured_ns, eager_drafts=eager_drafts)
    if factor is None:
        raise InputError(
            "no host makes this step take {}: without one it takes {}",
            format_duration(measured_ns), format_duration(result.hidden_host_ns),
            remedy="give the milliseconds of a whole step of this layout, batch and context",
        )  # fmt: skip
    return factor


def _room(die: Chip) -> int | None:
    """Bytes of HBM that a process can have, as far as they are known."""
    return None if die.hbm_bytes is None else die.hbm_bytes - (die.hbm_reserved_bytes or 0)
