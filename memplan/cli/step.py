"""`memplan step CONFIG`: how long one prefill or decode step of a served model takes, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import NO, YES, JsonOption, print_json, print_table
from memplan.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from memplan.hardware import Chip
    from memplan.serving import StepTime

_LAYOUT, _STEP = "Layout", "Step"


def command(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or its folder.", show_default=False)],
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910C or 950DT_9591.")] = "910C",
    phase: Annotated[
        str, typer.Option(help="decode or prefill.", rich_help_panel=_STEP, metavar="[decode|prefill]")
    ] = "decode",
    batch: Annotated[
        int | None, typer.Option(help="Sequences of the step on all ranks; by default one a replica.", min=1)
    ] = None,
    context: Annotated[int, typer.Option(help="Tokens of a sequence, those of the step included.", min=1)] = 4096,
    cached: Annotated[int, typer.Option(help="Tokens of a prompt that are cached.", rich_help_panel=_STEP, min=0)] = 0,
    mtp: Annotated[
        int, typer.Option("--mtp", help="Draft tokens of multi-token prediction.", rich_help_panel=_STEP, min=0)
    ] = 0,
    accepted: Annotated[
        float | None,
        typer.Option(help="Draft tokens accepted on average; by default what public tables state.", min=0),
    ] = None,
    tp: Annotated[int, typer.Option("--tp", help="Tensor parallelism.", rich_help_panel=_LAYOUT, min=1)] = 1,
    pp: Annotated[int, typer.Option("--pp", help="Pipeline parallelism.", rich_help_panel=_LAYOUT, min=1)] = 1,
    dp: Annotated[int, typer.Option("--dp", help="Data parallelism.", rich_help_panel=_LAYOUT, min=1)] = 1,
    ep: Annotated[
        int,
        typer.Option("--ep", help="Ranks that share the experts; 1 splits each by TP.", rich_help_panel=_LAYOUT, min=1),
    ] = 1,
    cp: Annotated[int, typer.Option("--cp", help="Context parallelism.", rich_help_panel=_LAYOUT, min=1)] = 1,
    sp: Annotated[
        bool, typer.Option("--sp", help="Spread the residual stream over the TP ranks.", rich_help_panel=_LAYOUT)
    ] = False,
    output_tp: Annotated[
        int, typer.Option(help="Ranks that share attention's output projection.", rich_help_panel=_LAYOUT, min=1)
    ] = 1,
    head_tp: Annotated[int, typer.Option(help="Ranks that share the head.", rich_help_panel=_LAYOUT, min=1)] = 1,
    dense_tp: Annotated[
        int, typer.Option(help="Ranks that share dense feed-forward layers.", rich_help_panel=_LAYOUT, min=1)
    ] = 1,
    embedding_tp: Annotated[
        int, typer.Option(help="Ranks that share the embedding.", rich_help_panel=_LAYOUT, min=1)
    ] = 1,
    weights: Annotated[
        str, typer.Option(help="published, bf16, w8a8, w4a8, mxfp8 or mxfp8-mxfp4.", rich_help_panel=_STEP)
    ] = "published",
    kv_dtype: Annotated[str, typer.Option(help="bf16, int8 or fp8.", rich_help_panel=_STEP)] = "bf16",
    index_c8: Annotated[
        bool, typer.Option("--index-c8", help="Keys of the indexer in 8 bits.", rich_help_panel=_STEP)
    ] = False,
    random_routing: Annotated[
        bool, typer.Option("--random-routing", help="Experts are hit at random, not evenly.", rich_help_panel=_STEP)
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan of one rank (first stage) here as JSON.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """
    Predict the time of one prefill or decode step of a published language model in a parallel layout.

    Exits with 0 when weights, caches and activations of every rank fit into the chip, 1 when they do not, 2 when the
    input can't be used.
    """
    from memplan.core.errors import InputError
    from memplan.hardware import chip as find_chip
    from memplan.models import load_config
    from memplan.models.parallel import Layout
    from memplan.models.steps import Phase, ServedStep
    from memplan.serving import step_time

    if phase not in ("decode", "prefill"):
        raise InputError(f"--phase {phase!r:.20} is not known", remedy="write decode or prefill")
    model, die = load_config(config), find_chip(chip)
    step = ServedStep(
        Phase(phase),
        batch=batch or dp,
        context=context,
        cached=cached,
        speculative=mtp,
        precision=weights,
        kv=kv_dtype,
        index_c8=index_c8,
        sequence_parallel=sp,
        even_routing=not random_routing,
        output_parallel=output_tp,
        head_parallel=head_tp,
        dense_parallel=dense_tp,
        embedding_parallel=embedding_tp,
    )
    layout = Layout(tensor=tp, pipeline=pp, data=dp, expert=ep, context=cp)
    result = step_time(model, layout, step, die, acceptance=accepted)
    if output is not None:
        from memplan.planner import plan

        plan(result.stages[0].graph, chip=die).save(output)
    room = _room(die)
    if as_json:
        print_json(step_document(result, room))
    else:
        print_step(result, room)
        if output is not None:
            print(f"written to {output}")
    return YES if room is None or all(stage.total_bytes <= room for stage in result.stages) else NO


def _room(die: Chip) -> int | None:
    """Bytes of HBM that a process can have, as far as they are known."""
    return None if die.hbm_bytes is None else die.hbm_bytes - (die.hbm_reserved_bytes or 0)


def step_document(result: StepTime, room: int | None) -> dict[str, Any]:
    """The prediction as JSON values."""
    return {
        "model": result.model,
        "chip": result.chip,
        "layout": str(result.layout),
        "phase": result.step.phase.value,
        "dies": result.layout.ranks,
        "sequences_per_rank": result.sequences,
        "duration_ns": result.duration_ns,
        "tokens_per_sequence": result.tokens_per_sequence,
        "tpot_ns": result.tpot_ns,
        "tokens_per_second": result.tokens_per_second,
        "tokens_per_second_per_die": result.tokens_per_second_per_die,
        "by_class": [
            {"class": share.name, "launches": share.launches, "duration_ns": share.duration_ns}
            for share in result.by_class
        ],
        "by_bound": [{"bound": share.name, "duration_ns": share.duration_ns} for share in result.by_bound],
        "stages": [
            {
                "duration_ns": stage.duration_ns,
                "weight_bytes": stage.weight_bytes,
                "cache_bytes": stage.cache_bytes,
                "activation_bytes": stage.activation_bytes,
            }
            for stage in result.stages
        ],
        "hbm_bytes": room,
        "rests_on": [{"value": source.value, "note": source.note} for source in result.rests_on],
        "constants": [{"value": source.value, "note": source.note} for source in result.constants],
        "notes": list(result.notes),
    }


def print_step(result: StepTime, room: int | None) -> None:
    """The prediction as tables."""
    step = result.step
    what = "reads" if step.phase.value == "prefill" else "adds to"
    print(
        f"{result.model} on {result.layout.ranks} dies {result.chip}, {result.layout}: one {step.phase.value} step "
        f"{what} {step.batch:,} sequences of {step.context:,} tokens, {result.sequences:,} a rank"
    )
    print(f"{format_duration(result.duration_ns)} a step", end="")
    if result.tpot_ns is not None:
        print(
            f", {result.tokens_per_sequence:.2f} tokens of a sequence: {format_duration(result.tpot_ns)} a token",
            end="",
        )
    print(
        f"; {result.tokens_per_second:,.0f} tokens/s in all, {result.tokens_per_second_per_die:,.0f} a die", end="\n\n"
    )
    total = sum(share.duration_ns for share in result.by_class)
    print_table(
        "Where the time goes (work beside the main chain is counted too)",
        ("class", "kernels", "time", "share"),
        [
            (share.name, share.launches, format_duration(share.duration_ns), f"{share.duration_ns / total:.1%}")
            for share in result.by_class
        ],
        right=(1, 2, 3),
    )
    print_table(
        "What limits it",
        ("bound", "time", "share"),
        [
            (share.name, format_duration(share.duration_ns), f"{share.duration_ns / total:.1%}")
            for share in result.by_bound
        ],
        right=(1, 2),
    )
    print_table(
        f"Memory of one rank, of {'an unknown size' if room is None else format_bytes(room)}",
        ("stage", "time", "weights", "caches", "activations", "in all"),
        [
            (
                number,
                format_duration(stage.duration_ns),
                format_bytes(stage.weight_bytes),
                format_bytes(stage.cache_bytes),
                format_bytes(stage.activation_bytes),
                format_bytes(stage.total_bytes),
            )
            for number, stage in enumerate(result.stages)
        ],
        right=range(1, 6),
    )
    if room is not None and any(stage.total_bytes > room for stage in result.stages):
        print(f"does not fit: {format_bytes(max(stage.total_bytes for stage in result.stages) - room)} missing")
    for source in result.rests_on:
        print(f"rests on: {source.value} ({source.note})" if source.note else f"rests on: {source.value}")
    for note in result.notes:
        print(f"note: {note}")
