"""`memplan show PLAN`: print a saved plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.reporting import reporting
from memplan.reports.report import Report

PlanArgument = Annotated[Path, typer.Argument(help="A plan, as `memplan plan -o` writes it.", show_default=False)]


def _print_schema(asked: bool) -> None:
    if asked:
        from memplan.schema import plan_json_schema

        print(json.dumps(plan_json_schema(), indent=2))
        raise typer.Exit


@reporting
def command(
    plan: PlanArgument,
    *,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of saved plans and stop."
        ),
    ] = False,
) -> Report:
    """
    Print a saved plan: how full each tier gets, what fills it, the longest ops, what moves.

    Exits with 0 when the plan is valid and fits, 1 when it is not or does not, 2 when the file can't be read.
    """
    del schema  # answered before the plan is asked for
    from memplan.imports import read_plan
    from memplan.reports.plan_report import plan_report

    return plan_report(read_plan(plan))
