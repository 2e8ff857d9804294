"""`memplan import FILE`: the plan that MindSpore or CANN made itself, as a plan of memplan's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.reporting import new_file, reporting
from memplan.reports.report import Report


@reporting
def command(
    file: Annotated[
        Path,
        typer.Argument(
            help="A *_somas_tensor_offset_*.ir, somas_graph_*.json, actor_set/*.ir, GE log or static_op_mem*.csv.",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, new_file("Write the plan here as JSON.", "--output", "-o")] = None,
) -> Report:
    """
    Read the memory plan in a dump of SOMAS or GE, to show it or set it beside ours.

    Exits with 0, or 2 when the file holds no plan.
    """
    from memplan.imports import read_plan
    from memplan.reports.plan_report import plan_report

    result = read_plan(file)
    if output is not None:
        result.save(output)
    # Whether it fits is for `memplan show` to answer: here it was read.
    return replace(plan_report(result), answer=True, written=() if output is None else (output,))
