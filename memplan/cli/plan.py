"""`memplan plan GRAPH`: plan a compiled graph on a chip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import NO, YES, JsonOption, print_json, print_table, progress_bar
from memplan.core.units import format_bytes, format_duration, parse_bytes, parse_shape

if TYPE_CHECKING:
    from memplan.schema import Plan

_LONGEST = 10


def command(
    graph: Annotated[Path, typer.Argument(help="A compiled graph, such as model.mindir.", show_default=False)],
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910B3 or 910C.")] = "910B3",
    hbm: Annotated[
        str | None, typer.Option(help="HBM to plan with, such as 20GiB; by default what the chip's driver leaves.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Bind a dynamic input, as NAME=1,128; give it once an input.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Rest the times on what `memplan calibrate` wrote.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the plan here as JSON.")] = None,
    as_json: JsonOption = False,
) -> int:
    """
    Plan where every tensor of a compiled graph lives and when it moves.

    Exits with 0 when it fits, 1 when it does not, 2 when the graph can't be read.
    """
    from memplan.planner import plan
    from memplan.schema import plan_to_json

    shapes = dict(parse_shape(item) for item in shape or ())
    with progress_bar() as progress:
        result = plan(
            graph,
            chip=chip,
            hbm=parse_bytes(hbm) if hbm is not None else None,
            shapes=shapes,
            calibration=calibration,
            progress=progress,
        )
    if output is not None:
        result.save(output)
    if as_json:
        print_json(plan_to_json(result))
    else:
        print_plan(result)
        if output is not None:
            print(f"written to {output}")
    return YES if result.fits else NO


def print_plan(result: Plan) -> None:
    """The plan as tables: how full each tier gets, what fills HBM at its peak, the longest ops, what moves."""
    from memplan.schema import headline

    print(f"{result.origin.file} ({result.origin.producer}) on {result.chip}")
    for wrong in result.violations:
        print(f"not valid: {wrong}")
    print(headline(result), end="\n\n")
    print_table(
        "Memory",
        ["tier", "capacity", "kept by driver", "persistent", "peak", "lower bound", "gap", "bound by"],
        [
            (
                use.tier.value,
                None if use.capacity is None else format_bytes(use.capacity),
                format_bytes(use.reserved),
                format_bytes(use.persistent),
                format_bytes(use.peak),
                format_bytes(use.lower_bound),
                f"{use.gap:.2%}",
                use.lower_bound_method,
            )
            for use in result.tiers
        ],
        right=range(1, 7),
    )
    _print_peak(result)
    _print_ops(result)
    if result.transfers:
        _print_transfers(result)
    for source in result.rests_on:
        print(f"rests on: {source.value} ({source.note})" if source.note else f"rests on: {source.value}")
    for note in result.notes:
        print(f"note: {note}")


def _print_peak(result: Plan) -> None:
    """Bytes in HBM at the fullest step by kind, largest first."""
    from memplan.schema import Tier

    use = result.tier(Tier.HBM)
    if use is None or use.peak_step is None:
        return
    kinds = {tensor.index: tensor.kind for tensor in result.tensors}
    held: dict[str, tuple[int, int]] = {}
    for placement in result.placements:
        if placement.tier is Tier.HBM and placement.start <= use.peak_step < placement.end:
            count, size = held.get(kinds[placement.tensor], (0, 0))
            held[kinds[placement.tensor]] = count + 1, size + placement.size
    op = result.ops[use.peak_step]
    print_table(
        f"HBM at its fullest: step {op.index}, {op.name}",
        ["kind", "tensors", "bytes"],
        [
            (kind, count, format_bytes(size))
            for kind, (count, size) in sorted(held.items(), key=lambda item: -item[1][1])
        ],
        right=(1, 2),
    )


def _print_ops(result: Plan) -> None:
    longest = sorted(result.ops, key=lambda op: -op.duration_ns)[:_LONGEST]
    total = sum(op.duration_ns for op in result.ops)
    print_table(
        f"Longest of {len(result.ops)} ops, {format_duration(total)} in all",
        ["step", "op", "type", "time", "share", "bound", "flops", "HBM traffic"],
        [
            (
                op.index,
                op.name,
                op.type,
                format_duration(op.duration_ns),
                f"{op.duration_ns / total:.1%}" if total else None,
                op.bound,
                f"{op.flops:,}",
                format_bytes(op.gm_bytes),
            )
            for op in longest
        ],
        right=(0, 3, 4, 6, 7),
    )


def _print_transfers(result: Plan) -> None:
    names = {tensor.index: tensor.name for tensor in result.tensors}
    stalled = sum(op.stalled_ns for op in result.ops)
    largest = sorted(result.transfers, key=lambda transfer: (-transfer.size, transfer.start_ns))[:_LONGEST]
    print_table(
        f"Largest of {len(result.transfers)} transfers; ops wait {format_duration(stalled)} for them",
        ["tensor", "from", "to", "bytes", "link", "starts", "takes", "after step", "before step"],
        [
            (
                names[transfer.tensor],
                transfer.source.value,
                transfer.target.value,
                format_bytes(transfer.size),
                transfer.link,
                format_duration(transfer.start_ns),
                format_duration(transfer.end_ns - transfer.start_ns),
                transfer.after_step,
                transfer.before_step,
            )
            for transfer in largest
        ],
        right=(3, 5, 6, 7, 8),
    )
    for link in result.links:
        print(f"link {link.name}: {link.source.value}")
