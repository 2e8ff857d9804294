"""`memplan train-memory CONFIG`: what a training step takes on each pipeline stage, and what would double its batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import NO, YES, JsonOption, print_json, print_table
from memplan.core.errors import InputError
from memplan.core.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from memplan.models.training.recipes import Change
    from memplan.models.training.memory import TrainingMemory

_LAYOUT, _RECIPE = "Layout", "Recipe"


def command(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or its folder.", show_default=False)],
    sequence: Annotated[int, typer.Option("--sequence", "-s", help="Tokens of a sample.", min=1)],
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910B3 or 910C.")] = "910B3",
    tp: Annotated[int, typer.Option("--tp", help="Ranks of tensor parallelism.", min=1, rich_help_panel=_LAYOUT)] = 1,
    pp: Annotated[int, typer.Option("--pp", help="Pipeline stages.", min=1, rich_help_panel=_LAYOUT)] = 1,
    dp: Annotated[int, typer.Option("--dp", help="Data-parallel ranks.", min=1, rich_help_panel=_LAYOUT)] = 1,
    ep: Annotated[int, typer.Option("--ep", help="Ranks that share experts.", min=1, rich_help_panel=_LAYOUT)] = 1,
    cp: Annotated[int, typer.Option("--cp", help="Ranks that share tokens.", min=1, rich_help_panel=_LAYOUT)] = 1,
    micro_batch: Annotated[int, typer.Option(help="Samples of a micro-batch.", min=1, rich_help_panel=_RECIPE)] = 1,
    global_batch: Annotated[
        int | None, typer.Option(help="Samples of a step; by default one micro-batch.", min=1, rich_help_panel=_RECIPE)
    ] = None,
    sharding: Annotated[
        str, typer.Option(help="none, distributed, zero1, zero2 or zero3.", rich_help_panel=_RECIPE)
    ] = "distributed",
    schedule: Annotated[
        str, typer.Option(help="1f1b, interleaved, dualpipe-v or gpipe.", rich_help_panel=_RECIPE)
    ] = "1f1b",
    chunks: Annotated[int, typer.Option(help="Parts of an interleaved rank.", min=1, rich_help_panel=_RECIPE)] = 1,
    sequence_parallel: Annotated[
        bool, typer.Option("--sequence-parallel", help="Spread norms over TP.", rich_help_panel=_RECIPE)
    ] = False,
    recompute_layers: Annotated[
        int, typer.Option(help="Layers of a stage that keep their input only.", min=0, rich_help_panel=_RECIPE)
    ] = 0,
    recompute_cheap: Annotated[
        bool,
        typer.Option("--recompute-cheap", help="Recompute norms and activation functions.", rich_help_panel=_RECIPE),
    ] = False,
    swap_optimizer: Annotated[
        bool, typer.Option("--swap-optimizer", help="Optimiser states on the host.", rich_help_panel=_RECIPE)
    ] = False,
    stage: Annotated[int | None, typer.Option(help="Show this pipeline stage; by default the tightest.", min=0)] = None,
    hbm: Annotated[str | None, typer.Option(help="Size of the card, such as 64GiB.")] = None,
    as_json: JsonOption = False,
) -> int:
    """
    Predict the allocator's peak of a training step, part by part, on the tightest pipeline stage.

    Exits with 0 when it fits, 1 when it does not, 2 when the input can't be used.
    """
    from memplan.hardware import chip as find_chip
    from memplan.models import load_config
    from memplan.models.parallel import Layout
    from memplan.models.training.recipes import tightest_stage, ways_to_double, ways_to_fit
    from memplan.models.training.memory import Recipe, Schedule, Sharding, training_memory

    die, model = find_chip(chip), load_config(config)
    total = parse_bytes(hbm) if hbm is not None else die.hbm_bytes
    if total is None:
        raise InputError(f"the memory of {die.name} is not known", remedy="give it with --hbm")
    capacity = total - (die.hbm_reserved_bytes or 0)
    layout = Layout(tensor=tp, pipeline=pp, data=dp, expert=ep, context=cp)
    micro_batches, rest = divmod(global_batch or micro_batch * dp, micro_batch * dp)
    if rest or not micro_batches:
        raise InputError(
            f"{global_batch} samples a step can't be divided among {dp} ranks in micro-batches of {micro_batch}"
        )
    recipe = Recipe(
        sequence=sequence,
        micro_batch=micro_batch,
        micro_batches=micro_batches,
        sharding=_choice(Sharding, sharding, "sharding"),
        schedule=_choice(Schedule, schedule, "schedule"),
        chunks=chunks,
        sequence_parallel=sequence_parallel,
        recompute_layers=recompute_layers,
        recompute_cheap=recompute_cheap,
        swap_optimizer=swap_optimizer,
    )
    tightest = tightest_stage(model, layout, recipe)
    memory = tightest if stage is None else training_memory(model, layout, recipe, stage)
    fits = tightest.peak_bytes <= capacity
    if fits:
        largest, ways = ways_to_double(model, layout, recipe, capacity)
        goal = f"train with a micro-batch of {2 * largest}"
    else:
        largest, ways = 0, ways_to_fit(model, layout, recipe, capacity)
        goal = "fit"
    if as_json:
        print_json(_document(memory, capacity, fits, largest, ways))
    else:
        title = (
            f"{model.name} on {die.name}, {layout}, stage {memory.stage}: {format_bytes(memory.peak_bytes)} at the peak"
        )
        _print(title, memory, capacity - tightest.peak_bytes, capacity, largest, goal, ways)
    return YES if fits else NO


def _choice(kind: Any, value: str, what: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(item.value for item in kind)
        raise InputError(f"no {what} is called {value!r:.40}", remedy=f"known: {known}") from None


def _document(
    memory: TrainingMemory, capacity: int, fits: bool, largest: int, ways: tuple[Change, ...]
) -> dict[str, Any]:
    return {
        "peak_bytes": memory.peak_bytes,
        "capacity_bytes": capacity,
        "fits": fits,
        "stage": memory.stage,
        "parameters": memory.parameters,
        "phase": memory.phase,
        "parts": [dataclasses.asdict(part) for part in memory.parts],
        "largest_micro_batch": largest,
        "ways": [
            {"what": way.what, "peak_bytes": way.memory.peak_bytes, "micro_batch": way.recipe.micro_batch}
            for way in ways
        ],
        "notes": list(memory.notes),
    }


def _print(
    title: str, memory: TrainingMemory, left: int, capacity: int, largest: int, goal: str, ways: tuple[Change, ...]
) -> None:
    rows: list[tuple[object, ...]] = [(part.name, format_bytes(part.nbytes), part.formula) for part in memory.parts]
    print_table(title, ("part", "size", "follows from"), rows, right=(1,))
    print(f"peak in: {memory.phase}; {memory.parameters:,} parameters on the rank")
    if left >= 0:
        print(f"fits: {format_bytes(left)} of {format_bytes(capacity)} are left; largest micro-batch {largest:,}")
    else:
        print(f"does not fit: {format_bytes(-left)} over {format_bytes(capacity)}")
    for way in ways:
        print(f"to {goal}: {way.what} ({format_bytes(way.memory.peak_bytes)})")
    if not ways:
        print(f"to {goal}: neither recomputation nor optimiser states on the host suffice")
    for note in memory.notes:
        print(f"note: {note}")
