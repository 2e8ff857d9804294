"""`memplan train-memory CONFIG`: what a training step takes on each pipeline stage, and what would double its batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.core.units import parse_bytes
from memplan.reports.report import Report
from memplan.requests.layout_request import LayoutRequest
from memplan.requests.recipe_request import RecipeRequest


@reporting
def command(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or its folder.", show_default=False)],
    sequence: Annotated[int, typer.Option("--sequence", "--context", "-s", help="Tokens of a sample.", min=1)],
    layout: LayoutRequest,
    asked: RecipeRequest,
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910B3 or 910C.")] = "910B3",
    stage: Annotated[int | None, typer.Option(help="Show this pipeline stage; by default the tightest.", min=0)] = None,
    hbm: Annotated[str | None, typer.Option(help="Size of the card, such as 64GiB.")] = None,
) -> Report:
    """
    Predict the allocator's peak of a training step, part by part, on the tightest pipeline stage.

    Exits with 0 when it fits, 1 when it does not, 2 when the input can't be used.
    """
    from memplan.hardware import chip as find_chip
    from memplan.models import load_config
    from memplan.models.training.device_memory import device_memory
    from memplan.models.training.memory import training_memory
    from memplan.models.training.recipes import tightest_stage, ways_to_double, ways_to_fit
    from memplan.reports.training_report import training_report

    die, model = find_chip(chip), load_config(config)
    asked.check_parts(model)
    total = parse_bytes(hbm) if hbm is not None else die.hbm_bytes
    if total is None:
        raise InputError(f"the memory of {die.name} is not known", remedy="give it with --hbm")
    capacity = total - (die.hbm_reserved_bytes or 0)
    ranks, recipe = asked.with_experts(layout.layout), asked.recipe(sequence, asked.micro_batches_of(layout.dp))
    tightest = tightest_stage(model, ranks, recipe)
    memory = tightest if stage is None else training_memory(model, ranks, recipe, stage)
    if tightest.peak_bytes <= capacity:
        largest, ways = ways_to_double(model, ranks, recipe, capacity)
    else:
        largest, ways = 0, ways_to_fit(model, ranks, recipe, capacity)
    shown = device_memory(memory, ranks, recipe)
    return training_report(f"{model.name} on {die.name}, {ranks}", memory, tightest, capacity, largest, ways, shown)
