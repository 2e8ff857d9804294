"""`memplan pack FILE`: give buffers addresses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import NO, YES, JsonOption, print_json, print_table, progress_bar
from memplan.core.errors import InputError
from memplan.core.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from memplan.placement.offsets import Assignment, Problem

_LISTED = 12


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
    svg: Annotated[Path | None, typer.Option(help="Draw the packing here.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write id,pool,offset here as CSV.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """
    Give buffers addresses so that none that are alive together overlap.

    Exits with 0 when they fit, 1 when they do not, 2 when the file can't be read. Without --capacity, and for files
    that give none, the packing is made as low as possible.
    """
    from memplan.placement.offsets import Limits, assign
    from memplan.placement.offsets.formats import read_problem

    if time_limit <= 0 or (work is not None and work <= 0):
        raise InputError("--time and --work must be above 0")
    problem = read_problem(file, capacity=parse_bytes(capacity) if capacity is not None else None)
    limited = any(pool.capacity is not None for pool in problem.pools)
    if not minimize and limited and "total_peak" in problem.objective and problem.objective[0] == "capacity_overflow":
        problem = replace(problem, objective=("capacity_overflow", "reuse_cost"))
    elif minimize and "total_peak" not in problem.objective:
        problem = replace(problem, objective=(*problem.objective, "total_peak", "max_peak"))
    limits = Limits(work=work) if work is not None else Limits(time_s=time_limit)
    started = perf_counter()
    with progress_bar() as progress:
        answer = assign(problem, limits=limits, seed=seed, progress=progress)
    seconds = perf_counter() - started
    if svg is not None:
        from memplan.placement.offsets.svg import to_svg

        _write(svg, to_svg(problem, answer))
    if output is not None:
        rows = [f"{b.name or b.id},{answer.placed[b.id][0]},{answer.placed[b.id][1]}" for b in problem.buffers]
        _write(output, "\n".join(["id,pool,offset", *rows, ""]))
    if as_json:
        print_json(_document(problem, answer))
    else:
        _print(problem, answer, seconds)
        for path in (svg, output):
            if path is not None:
                print(f"written to {path}")
    return YES if answer.within_capacity else NO


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(error.strerror or "can't be written", path=path) from error


def _print(problem: Problem, answer: Assignment, seconds: float) -> None:
    rows = []
    for pool, result in zip(problem.pools, answer.pools, strict=True):
        verdict = "optimal" if result.proven_optimal else f"gap {100 * result.gap:.2f} %"
        limit = "-" if pool.capacity is None else f"{pool.capacity:,}"
        rows.append(
            (pool.name, limit, f"{result.peak:,}", f"{result.lower_bound:,}", verdict, result.lower_bound_method)
        )
    print(f"{len(problem.buffers)} buffers, {answer.method}, {seconds:.2f} s")
    print_table("Bytes", ("pool", "capacity", "peak", "bound", "", "bound from"), rows, right=(1, 2, 3))
    if problem.reuse_penalties:
        print(f"reuse cost {answer.reuse_cost}, no placement below {answer.reuse_cost_bound}")
    why = answer.infeasibility
    if why is None:
        return
    proof = "can't be met" if why.proven else "was not met (no proof that it can't be)"
    print(f"The capacity of {format_bytes(why.capacity)} {proof}; it is exceeded by {answer.shortfall:,} bytes.")
    when = f"at step {why.step}" if why.step is not None else "together"
    least = "none of which can be left out, " if why.irreducible else ""
    named = ", ".join(why.names[:_LISTED]) + (
        f" and {len(why.names) - _LISTED} more" if len(why.names) > _LISTED else ""
    )
    print(f"{len(why.buffers)} buffers, {least}need {why.needed:,} bytes {when}: {named}")
    for remedy in why.remedies:
        print(f"- {remedy}")


def _document(problem: Problem, answer: Assignment) -> dict[str, Any]:
    why = answer.infeasibility
    return {
        "within_capacity": answer.within_capacity,
        "shortfall": answer.shortfall,
        "reuse_cost": answer.reuse_cost,
        "reuse_cost_bound": answer.reuse_cost_bound,
        "method": answer.method,
        "pools": [
            {
                "id": result.pool, "name": pool.name, "capacity": pool.capacity, "peak": result.peak,
                "lower_bound": result.lower_bound, "lower_bound_method": result.lower_bound_method,
                "proven_optimal": result.proven_optimal,
            }
            for pool, result in zip(problem.pools, answer.pools, strict=True)
        ],
        "infeasibility": None if why is None else {
            "pool": why.pool, "capacity": why.capacity, "buffers": list(why.buffers), "names": list(why.names),
            "step": why.step, "needed": why.needed, "irreducible": why.irreducible, "proven": why.proven,
            "remedies": list(why.remedies),
        },
        "buffers": [
            {"id": b.id, "name": b.name, "pool": answer.placed[b.id][0], "offset": answer.placed[b.id][1]}
            for b in problem.buffers
        ],
    }  # fmt: skip
