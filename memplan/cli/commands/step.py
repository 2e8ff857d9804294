"""`memplan step CONFIG`: how long one step of a model takes, served or trained, and on what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.reports.report import Report
from memplan.requests.plan_request import TRAIN_PHASE, TimedStepRequest

if TYPE_CHECKING:
    from memplan.hardware import Chip


@reporting
def command(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or its folder.", show_default=False)],
    asked: TimedStepRequest,
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910C or 950DT_9591.")] = "910C",
    accepted: Annotated[
        float | None,
        typer.Option(help="Draft tokens accepted on average; by default what public tables state.", min=0),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Who serves (captured hides the host's work; vllm-ascend, vllm-ascend-synchronous, "
            "vllm-ascend-piecewise for graphs in pieces, vllm-ascend-eager, sglang, xllm) or trains (megatron launches "
            "one kernel at a time, captured runs a graph).",
            show_default=False,
        ),
    ] = None,
    eager_drafts: Annotated[
        bool, typer.Option("--eager-drafts", help="The engine launches drafts one by one (enforce_eager).")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan of one rank (first stage) here as JSON.")
    ] = None,
) -> Report:
    """
    Predict the time of one prefill, decode or training step of a published language model in a parallel layout.

    Exits with 0 when weights, caches and activations of every rank fit into the chip, 1 when they do not (a training
    step's memory is `memplan train-memory`'s), 2 when the input can't be used.
    """
    from memplan.hardware import chip as find_chip
    from memplan.models import load_config
    from memplan.reports.step_report import step_report, training_step_report
    from memplan.serving import step_time, training_time
    from memplan.serving.constants import CAPTURED
    from memplan.serving.training_time import MEGATRON

    model, die = load_config(config), find_chip(chip)
    if asked.phase == TRAIN_PHASE:
        if accepted is not None or output is not None:
            raise InputError(
                "--accepted and -o are of steps that serve", remedy="memplan plan writes plans of training"
            )
        trained = training_time(model, asked.ranks, asked.training_recipe(), die, engine=engine or MEGATRON)
        return training_step_report(trained, asked.stage)
    result = step_time(
        model, asked.layout, asked.served_step(), die,
        acceptance=accepted, engine=engine or CAPTURED, eager_drafts=eager_drafts,
    )  # fmt: skip
    if output is not None:
        from memplan.planner import plan

        plan(model, layout=result.layout, recipe=result.step, chip=die).save(output)
    return replace(step_report(result, _room(die)), written=() if output is None else (output,))


def _room(die: Chip) -> int | None:
    """Bytes of HBM that a process can have, as far as they are known."""
    return None if die.hbm_bytes is None else die.hbm_bytes - (die.hbm_reserved_bytes or 0)
