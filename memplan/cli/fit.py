"""`memplan fit CONFIG`: which parallel layout of a number of dies serves or trains a model, and why others don't."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import NO, YES, JsonOption, print_json, print_table, progress_bar
from memplan.core.errors import InputError
from memplan.core.units import format_bytes, format_duration, parse_bytes

if TYPE_CHECKING:
    from memplan.hardware import Chip
    from memplan.deployment.layout_search import Candidate, Fit
    from memplan.models import ModelConfig
    from memplan.models.parallel import Layout
    from memplan.core.progress import Progress
    from memplan.serving import StepTime

_SERVING, _TRAINING = "Serving", "Training"


def command(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or its folder.", show_default=False)],
    npus: Annotated[int, typer.Option("--npus", "-n", help="Dies to use; a 910C package is two.", min=1)],
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910B3 or 910C.")] = "910B3",
    context: Annotated[
        int | None, typer.Option("--context", help="Longest sequence in tokens; by default the model's.", min=1)
    ] = None,
    weights: Annotated[
        str, typer.Option(help="published, bf16, w8a8, w4a8, mxfp8 or mxfp8-mxfp4.", rich_help_panel=_SERVING)
    ] = "published",
    engine: Annotated[
        str, typer.Option(help="Serving engine, such as vllm-ascend or logical.", rich_help_panel=_SERVING)
    ] = "vllm-ascend",
    max_num_batched_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of one step.", rich_help_panel=_SERVING, min=1)
    ] = None,
    utilization: Annotated[
        float | None, typer.Option(help="Share of the memory the engine plans with.", rich_help_panel=_SERVING)
    ] = None,
    train: Annotated[
        bool,
        typer.Option("--train", help="Fit a training step of sequences of the context.", rich_help_panel=_TRAINING),
    ] = False,
    global_batch: Annotated[
        int | None, typer.Option(help="Samples of a step; by default one a die.", rich_help_panel=_TRAINING, min=1)
    ] = None,
    micro_batch: Annotated[int, typer.Option(help="Samples of a micro-batch.", rich_help_panel=_TRAINING, min=1)] = 1,
    recompute_layers: Annotated[
        int, typer.Option(help="Layers of a stage that are recomputed.", rich_help_panel=_TRAINING, min=0)
    ] = 0,
    hbm: Annotated[str | None, typer.Option(help="Size of the card, such as 64GiB.")] = None,
    timed: Annotated[
        int,
        typer.Option(help="Also time a decode step of so many of the best layouts.", rich_help_panel=_SERVING, min=0),
    ] = 3,
    as_json: JsonOption = False,
) -> int:
    """
    Search the parallel layouts of a number of dies.

    Exits with 0 when one fits, 1 when none does, 2 when the input can't be used.
    """
    from memplan.hardware import chip as find_chip
    from memplan.kv import Memory, ServingOptions
    from memplan.kv import engine as find_engine
    from memplan.deployment.serving_fit import fit_serving
    from memplan.deployment.training_fit import fit_training
    from memplan.models import load_config
    from memplan.models.training.memory import Recipe

    die, model = find_chip(chip), load_config(config)
    length = context or model.max_positions
    size = None if hbm is None else parse_bytes(hbm)
    with progress_bar() as progress:
        if train:
            total = size or die.hbm_bytes
            if total is None:
                raise InputError(f"the memory of {die.name} is not known", remedy="give it with --hbm")
            recipe = Recipe(sequence=length, micro_batch=micro_batch, recompute_layers=recompute_layers)
            room = total - (die.hbm_reserved_bytes or 0)
            result = fit_training(model, room, recipe, npus, global_batch or npus * micro_batch, progress)
        else:
            memory = Memory(precision=weights, utilization=utilization, hbm=size)
            options = ServingOptions(length=length, batched_tokens=max_num_batched_tokens)
            result = fit_serving(model, die, find_engine(engine, die), options, npus, memory, progress)
        times = {} if train else _decode_times(model, die, result.fitting[:timed], length, weights, progress)
    if as_json:
        print_json(_document(result, times))
    else:
        _print(result, times, f"{model.name} on {npus} x {die.name}, {length:,} tokens", train)
    return YES if result.best is not None else NO


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


def _memory(item: Candidate) -> int | None:
    if item.training is not None:
        return item.training.peak_bytes
    return None if item.budget is None else item.budget.available_bytes


def _document(result: Fit, times: Mapping[Layout, StepTime]) -> dict[str, Any]:
    def entry(item: Candidate) -> dict[str, Any]:
        time = times.get(item.layout)
        return {
            "layout": dataclasses.asdict(item.layout),
            "capacity": item.capacity,
            "memory_bytes": _memory(item),
            "tpot_ns": None if time is None else time.tpot_ns,
            "tokens_per_second_per_die": None if time is None else time.tokens_per_second_per_die,
            "rejected": item.rejected or None,
        }

    return {
        "order": result.order,
        "fitting": [entry(item) for item in result.fitting],
        "rejected": [entry(item) for item in result.rejected],
    }


def _print(result: Fit, times: Mapping[Layout, StepTime], title: str, train: bool) -> None:
    what = "largest micro-batch" if train else "sequences in all"
    memory = "peak of the tightest stage" if train else "KV cache of a die"
    rows: list[tuple[object, ...]] = []
    for item in result.fitting:
        row: tuple[object, ...] = (str(item.layout), f"{item.capacity:,}", format_bytes(_memory(item) or 0))
        if times:
            time = times.get(item.layout)
            slow = None if time is None or time.tpot_ns is None else format_duration(time.tpot_ns)
            row += (slow, None if time is None else f"{time.tokens_per_second_per_die:,.0f}")
        rows.append(row)
    header: tuple[str, ...] = ("layout", what, memory)
    if times:
        header += ("time a token", "tokens/s a die")
    print_table(f"{title}: {len(rows)} layouts fit", header, rows, right=range(1, len(header)))
    print(f"order: {result.order}")
    if times:
        print("times are of a decode step with all sequences at once, without draft tokens, from the op graph")
    if result.rejected:
        out: list[tuple[object, ...]] = [(str(item.layout), item.rejected) for item in result.rejected]
        print_table(f"{len(out)} layouts rejected", ("layout", "why"), out)
