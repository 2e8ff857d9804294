"""`memplan kernel FILE`: the buffers on chip of one kernel, as its compiler tells of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.reports.report import Report


@reporting
def command(
    file: Annotated[
        Path,
        typer.Argument(
            help="A memory_info*.json of Triton-Ascend, a compile log with 'ub overflow', or the log of TileLang's "
            "planner.",
            show_default=False,
        ),
    ],
    chip: Annotated[str, typer.Option("--chip", "-c", help="Where the file does not say how much there is.")] = "910B3",
) -> Report:
    """
    Judge the on-chip buffers of a kernel: which can't coexist, asked for at which line, and which tile would fit.

    Exits with 0 when they fit, 1 when they do not or their compiler failed, 2 when the file can't be read. Problems of
    PyPTO's planner, structured JSON or CSV, are for `memplan pack`.
    """
    from memplan.hardware import chip as find_chip
    from memplan.placement.kernel_fit import kernel_fit
    from memplan.readers.kernels.kernel_file import read_kernel_memory
    from memplan.reports.kernel_memory_report import kernel_memory_report

    memory = read_kernel_memory(file)
    with progress_bar() as progress:
        return kernel_memory_report(memory, kernel_fit(memory, find_chip(chip), progress=progress))
