"""`memplan pack FILE`: give buffers addresses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import new_file, reporting
from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.units import parse_bytes
from memplan.reports.report import Report


@reporting
def command(
    file: Annotated[
        Path, typer.Argument(help="Buffers as CSV (id,lower,upper,size) or as structured JSON.", show_default=False)
    ],
    capacity: Annotated[
        str | None, typer.Option(help="Bytes there are, such as 1048576 or 20GiB.", show_default=False)
    ] = None,
    minimize: Annotated[
        bool, typer.Option("--minimize", help="Go as low as possible instead of stopping once it fits.")
    ] = False,
    time_limit: Annotated[float, typer.Option("--time", help="Most seconds of CPU time for the search.")] = 60.0,
    work: Annotated[
        int | None,
        typer.Option(help="Most steps of the search, instead of a time; repeats on any machine.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Other random choices in the search.")] = 0,
    svg: Annotated[Path | None, new_file("Draw the packing here.")] = None,
    output: Annotated[
        Path | None,
        new_file("Write id,pool,offset here as CSV.", "--output", "-o"),
    ] = None,
) -> Report:
    """
    Give buffers addresses so that none that are alive together overlap.

    Exits with 0 when they fit, 1 when they do not, 2 when the file can't be read. Without --capacity, and for files
    that give none, the packing is made as low as possible.
    """
    from memplan.placement.offsets import Limits, assign
    from memplan.placement.offsets.formats import read_problem
    from memplan.reports.packing_report import packing_report

    if time_limit <= 0 or (work is not None and work <= 0):
        raise InputError("--time and --work must be above 0")
    problem = read_problem(file, capacity=parse_bytes(capacity) if capacity is not None else None)
    limited = any(pool.capacity is not None for pool in problem.pools)
    if not minimize and limited and "total_peak" in problem.objective and problem.objective[0] == "capacity_overflow":
        problem = dataclasses.replace(problem, objective=("capacity_overflow", "reuse_cost"))
    elif minimize and "total_peak" not in problem.objective:
        problem = dataclasses.replace(problem, objective=(*problem.objective, "total_peak", "max_peak"))
    limits = Limits(work=work) if work is not None else Limits(time_s=time_limit)
    started = perf_counter()
    with progress_bar() as progress:
        answer = assign(problem, limits=limits, seed=seed, progress=progress)
    seconds = perf_counter() - started
    if svg is not None:
        from memplan.placement.offsets.svg import to_svg

        with replacing_file(svg) as drawing:
            drawing.write(to_svg(problem, answer))
    if output is not None:
        rows = [f"{b.name or b.id},{answer.placed[b.id][0]},{answer.placed[b.id][1]}" for b in problem.buffers]
        with replacing_file(output) as table:
            table.write("\n".join(["id,pool,offset", *rows, ""]))
    written = tuple(path for path in (svg, output) if path is not None)
    return dataclasses.replace(packing_report(problem, answer, seconds), written=written)
