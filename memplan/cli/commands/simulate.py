"""`memplan simulate PLAN DIR`: the profile that a run of the plan might have left."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.commands.show import PlanArgument
from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.reports.report import Report


@reporting
def command(
    plan: PlanArgument,
    directory: Annotated[
        Path,
        typer.Argument(
            help="The profile to write; msprof-analyze likes its name to end with _ascend_pt.",
            show_default=False,
        ),
    ],
    seed: Annotated[int, typer.Option(help="Another seed gives another run.", min=0)] = 0,
    steps: Annotated[int, typer.Option(help="How often the plan is run.", min=1, max=10_000)] = 1,
    rank: Annotated[int, typer.Option(help="The rank that the profile says it is of.", min=0)] = 0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Run as planned: no noise, no gaps, nothing freed late.")
    ] = False,
    hide_names: Annotated[
        bool, typer.Option("--hide-names", help="Name kernels and allocations as torch_npu does, not as the plan.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the profile of an earlier simulation.")] = False,
    ranks: Annotated[
        int | None,
        typer.Option(help="Run a job of so many ranks and write all their profiles; 4 with a fault.",
                     min=1, max=4096, show_default=False),
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(help="Plant a fault, as KIND or KIND:STRENGTH (weak, medium, strong or a share).",
                     metavar="KIND[:STRENGTH]", show_default=False),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(help="How a job's ranks share the work: data, tensor, pipeline, expert; by default as the fault "
                     "needs it.", show_default=False),
    ] = "",
    background: Annotated[
        bool,
        typer.Option("--background", help="Make a job's machines as noisy, unlike and busy as real ones are."),
    ] = False,
) -> Report:  # fmt: skip
    """
    Run a plan on a simulated machine and write its profile in torch_npu's format.

    The same plan and seed give the same files. The profile says in profiler_metadata.json that it is simulated.
    """
    from memplan.imports import read_plan
    from memplan.simulator import Behaviour, chosen_fault, simulate, simulate_job

    chosen = None if fault is None else chosen_fault(fault)
    loaded = read_plan(plan)
    if chosen is not None or ranks is not None or layout or background:
        count = ranks or 4
        folder = simulate_job(
            loaded, directory, fault=chosen, ranks=count, steps=steps, seed=seed, layout=layout,
            background=background, replace=replace,
        )  # fmt: skip
        what = "without a fault" if chosen is None else f"with {chosen.kind} of {chosen.strength:g}"
        return Report(
            title=f"A job of {loaded.origin.graph} on {count} x {loaded.chip} {what}, {steps:,} step(s)",
            document=lambda: {"written": str(folder), "seed": seed, "steps": steps, "ranks": count, "fault": fault},
            written=(folder,),
        )
    behaviour = dataclasses.replace(Behaviour.exact() if exact else Behaviour(), hidden_names=hide_names)
    with progress_bar() as progress:
        written = simulate(
            loaded,
            directory,
            behaviour=behaviour,
            seed=seed,
            steps=steps,
            rank=rank,
            replace=replace,
            progress=progress,
        )
    run = "as planned" if exact else f"with noise of seed {seed}"
    return Report(
        title=f"A run of {loaded.origin.graph} on {loaded.chip}, {run}, {steps:,} step(s), as rank {rank}",
        document=lambda: {"written": str(written), "seed": seed, "steps": steps, "rank": rank, "exact": exact},
        written=(written,),
    )
