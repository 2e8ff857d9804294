"""`memplan import FILE`: the plan that MindSpore or CANN made itself, as a plan of memplan's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import YES, JsonOption, print_json


def command(
    file: Annotated[
        Path,
        typer.Argument(
            help="A *_somas_tensor_offset_*.ir, somas_graph_*.json, actor_set/*.ir, GE log or static_op_mem*.csv.",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the plan here as JSON.")] = None,
    as_json: JsonOption = False,
) -> int:
    """
    Read the memory plan in a dump of SOMAS or GE, to show it or set it beside ours.

    Exits with 0, or 2 when the file holds no plan.
    """
    from memplan.cli.plan import print_plan
    from memplan.imports import read_plan
    from memplan.schema import plan_to_json

    result = read_plan(file)
    if output is not None:
        result.save(output)
    if as_json:
        print_json(plan_to_json(result))
    else:
        print_plan(result)
        if output is not None:
            print(f"written to {output}")
    return YES
