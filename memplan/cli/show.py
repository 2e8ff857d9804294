"""`memplan show PLAN`: print a saved plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import NO, YES, JsonOption, print_json
from memplan.cli.plan import print_plan

PlanArgument = Annotated[Path, typer.Argument(help="A plan, as `memplan plan -o` writes it.", show_default=False)]


def command(plan: PlanArgument, as_json: JsonOption = False) -> int:
    """
    Print a saved plan: how full each tier gets, what fills it, the longest ops, what moves.

    Exits with 0 when the plan is valid and fits, 1 when it is not or does not, 2 when the file can't be read.
    """
    from memplan.imports import read_plan
    from memplan.schema import plan_to_json

    loaded = read_plan(plan)
    if as_json:
        print_json(plan_to_json(loaded))
    else:
        print_plan(loaded)
    return YES if loaded.fits and not loaded.violations else NO
