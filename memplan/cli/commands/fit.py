"""`memplan fit CONFIG`: which parallel layout of a number of dies serves or trains a model, and why others don't."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.core.units import parse_size
from memplan.reports.report import Report
from memplan.requests.kv_request import ServingRequest
from memplan.requests.recipe_request import RecipeRequest

if TYPE_CHECKING:
    from memplan.core.progress import Progress
    from memplan.deployment.layout_search import Candidate
    from memplan.hardware import Chip
    from memplan.models import ModelConfig
    from memplan.models.parallel import Layout
    from memplan.serving import StepTime


@reporting
def command(
    asked: ServingRequest,
    npus: Annotated[int, typer.Option("--npus", "-n", help="Dies to use; a 910C package is two.", min=1)],
    recipe: RecipeRequest,
    train: Annotated[
        bool,
        typer.Option("--train", help="Fit a training step of sequences of the context.", rich_help_panel="Recipe"),
    ] = False,
    timed: Annotated[
        int,
        typer.Option(help="Also time a decode step of so many of the best layouts.", rich_help_panel="Serving", min=0),
    ] = 3,
) -> Report:
    """
    Search the parallel layouts of a number of dies.

    Exits with 0 when one fits, 1 when none does, 2 when the input can't be used.
    """
    from memplan.deployment.serving_fit import fit_serving
    from memplan.deployment.training_fit import fit_training
    from memplan.hardware import chip as find_chip
    from memplan.kv import Memory, ServingOptions
    from memplan.kv import engine as find_engine
    from memplan.kv.served_weights import served_weights
    from memplan.models import load_config
    from memplan.reports.layouts_report import layouts_report

    die, model = find_chip(asked.chip), load_config(asked.config)
    length = asked.context or model.max_positions
    size = None if asked.hbm is None else parse_size(asked.hbm)
    with progress_bar() as progress:
        if train:
            total = size or die.hbm_bytes
            if total is None:
                raise InputError(f"the memory of {die.name} is not known", remedy="give it with --hbm")
            room = total - (die.hbm_reserved_bytes or 0)
            result = fit_training(model, room, recipe.recipe(length), npus, recipe.samples(npus), progress)
        else:
            memory = Memory(precision=asked.weights, utilization=asked.utilization, hbm=size)
            options = ServingOptions(length=length, batched_tokens=asked.batched_tokens)
            result = fit_serving(model, die, find_engine(asked.engine, die), options, npus, memory, progress)
        served = served_weights(model, die, asked.weights)
        times = {} if train else _decode_times(model, die, result.fitting[:timed], length, served.precision, progress)
    title = f"{model.name} on {npus} x {die.name}, {length:,} tokens"
    notes = () if train or served.note is None else (served.note,)
    return layouts_report(result, times, title, training=train, notes=notes)


def _decode_times(
    model: ModelConfig, die: Chip, best: Sequence[Candidate], length: int, weights: str, progress: Progress
) -> dict[Layout, StepTime]:
    """A decode step of every layout of `best`, with all sequences that fit; those that can't be timed are left out."""
    from memplan.models.steps import Phase, ServedStep
    from memplan.serving import step_time

    found = {}
    for number, item in enumerate(best):
        progress(number, len(best), "decode steps")
        step = ServedStep(Phase.DECODE, item.capacity, length, precision=weights)
        with suppress(InputError):
            found[item.layout] = step_time(model, item.layout, step, die)
    return found
