"""`memplan show PLAN`: print a saved plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.reporting import reporting
from memplan.reports.report import Report

PlanArgument = Annotated[Path, typer.Argument(help="A plan, as `memplan plan -o` writes it.", show_default=False)]


@reporting
def command(plan: PlanArgument) -> Report:
    """
    Print a saved plan: how full each tier gets, what fills it, the longest ops, what moves.

    Exits with 0 when the plan is valid and fits, 1 when it is not or does not, 2 when the file can't be read.
    """
    from memplan.imports import read_plan
    from memplan.reports.plan_report import plan_report

    return plan_report(read_plan(plan))
