"""`memplan plan SOURCE`: plan a compiled graph, or a step of a published model, on a chip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import new_file, reporting
from memplan.core.errors import CancelledError, InputError
from memplan.core.progress import CHOOSING_MOVES, SEARCHING_OFFSETS, Progress
from memplan.core.units import parse_shape, parse_share
from memplan.reports.report import Report
from memplan.requests.plan_request import TRAIN_PHASE, PlanRequest

if TYPE_CHECKING:
    from memplan.schema import Plan

_SEARCH_WORK, _SERVED_WORK = 12_000, 100_000
"""Work of the search for a shorter step of a model, trained or served, unless a thorough one is asked for: ops of all
choices of moves. Those of a served step take less time."""
_OFFSETS_WORK = 10
"""What a report of the search for addresses counts in it: it takes about as long as choosing moves of so many ops."""
_PATIENCE_S = 60.0
"""Seconds of processor time for which changes are tried where nothing fits; one begun is planned to its end."""

_FIRST_FOUND = "the search for a shorter step was given up: this is the first plan found that fits; --thorough looks on"


class SearchEndedError(CancelledError):
    """The work that a search may take is done."""


def limited(work: int, progress: Progress) -> Progress:
    """
    `progress` that ends the work after so much of it, the same on every machine; raises `SearchEndedError`.

    Work is ops of choices of moves, with the search for addresses as so many of them.
    """
    spent = 0

    def counted(done: int, total: int, what: str) -> None:
        nonlocal spent
        spent += total if what == CHOOSING_MOVES else _OFFSETS_WORK if what == SEARCHING_OFFSETS else 0
        if spent > work:
            raise SearchEndedError("the search for a shorter step was given up")
        progress(done, total, what)

    return counted


@reporting
def command(
    asked: PlanRequest,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Bind a dynamic input, as NAME=1,128; give it once an input.", show_default=False),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(min=1, help="Extend the equal layers of a graph to so many.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Rest the times on what `memplan calibrate` wrote.", show_default=False)
    ] = None,
    max_slowdown: Annotated[
        str | None,
        typer.Option(help="Plan with the least HBM that makes the step at most so much longer, such as 5%."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take the first plan that fits; no search for a shorter step.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Look for a shorter step of a model however long that takes.")
    ] = False,
    curve: Annotated[bool, typer.Option("--curve", help="Add the step time against HBM, with its knee.")] = False,
    larger_batch: Annotated[
        bool, typer.Option("--larger-batch", help="Add what twice the samples of a model's micro-batch change.")
    ] = False,
    output: Annotated[Path | None, new_file("Write the plan here as JSON.", "--output", "-o")] = None,
) -> Report:
    """
    Plan where every tensor lives and when it moves, of a compiled graph or of one step of a published model.

    Exits with 0 when it fits, 1 when it does not, 2 when the source can't be read.
    """
    from memplan.deployment.hbm_curve import hbm_curve, smallest_hbm
    from memplan.deployment.ways_out import ways_out
    from memplan.reports.communication_section import larger_batch_section
    from memplan.reports.plan_report import curve_section, plan_report, ways_section
    from memplan.schema.communication import communication_outlook

    shapes = dict(parse_shape(item) for item in shape or ())
    with progress_bar() as progress:

        def answer(request: PlanRequest) -> Plan:
            return request.plan(shapes=shapes, layers=layers, calibration=calibration, quick=quick, progress=progress)

        def plan_with(hbm: int) -> Plan:
            return answer(replace(asked, hbm=str(hbm)))

        def first_answer() -> Plan:
            """What is asked for; a long search for a model's shorter step is given up for the first plan that fits."""
            if not asked.phase or quick or thorough or curve:
                return answer(asked)
            work = _SEARCH_WORK if asked.phase == TRAIN_PHASE else _SERVED_WORK
            try:
                return asked.plan(
                    shapes=shapes, layers=layers, calibration=calibration, progress=limited(work, progress)
                )
            except SearchEndedError:
                found = asked.plan(shapes=shapes, layers=layers, calibration=calibration, quick=True, progress=progress)
            return replace(found, notes=(*found.notes, _FIRST_FOUND))

        result = first_answer() if max_slowdown is None else smallest_hbm(plan_with, parse_share(max_slowdown))
        sections = [curve_section(hbm_curve(plan_with))] if curve else []
        outlook = communication_outlook(result) if larger_batch else None
        if outlook is not None:
            twice = communication_outlook(asked.twice_the_batch().plan(calibration=calibration, progress=progress))
            sections += [] if twice is None else [larger_batch_section(outlook, twice)]
        if not result.fits:

            def planned(changed: PlanRequest) -> Plan | None:
                try:
                    return answer(changed)
                except InputError:  # such as more ranks than the model can be split over
                    return None

            begin = time.process_time()
            untried: list[str] = []

            def changes() -> Iterator[tuple[str, Callable[[], Plan | None]]]:
                for words, changed in asked.alternatives():
                    if time.process_time() - begin < _PATIENCE_S:
                        yield words, partial(planned, changed)
                    elif changed.possible():
                        untried.append(words)

            ways = ways_out(result, plan_with, changes(), _hbm_of(result.chip))
            sections.append(ways_section(result, ways, untried))
    if output is not None:
        result.save(output)
    report = plan_report(result)
    return replace(report, sections=(*report.sections, *sections), written=() if output is None else (output,))


def _hbm_of(name: str) -> int | None:
    """Bytes of HBM to plan with on the chip called `name`, `None` where not known, as of one in the user's own file."""
    from memplan.hardware import chip
    from memplan.placement.memory_layout import hbm_room

    try:
        return hbm_room(chip(name), None).capacity
    except InputError:
        return None
