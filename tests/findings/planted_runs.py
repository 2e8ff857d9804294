"""Simulated jobs with what a test plants in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import memplan
from memplan.findings import Diagnosis, Finding, diagnose
from memplan.schema import Plan
from memplan.simulator import ChosenFault, simulate_job
from memplan.simulator.faults.fault import Fault
from memplan.simulator.job_program import Doing, Item, RankProgram
from memplan.simulator.job_settings import FaultyJob
from tests.small_plans import layered_plan

PLAN: Plan = layered_plan(60, op_ns=80_000)

Change = Callable[[RankProgram], RankProgram]


def unchanged(program: RankProgram) -> RankProgram:
    """The program as it is."""
    return program


def simulated(
    folder: Path, change: Change, *, ranks: int = 1, steps: int = 3, only: int | None = None, others: Change = unchanged
) -> Path:
    """A job in which `change` alters the program of every rank, or of rank `only` and `others` those of the others."""

    def plant(job: FaultyJob, _: float) -> FaultyJob:
        chosen = range(ranks) if only is None else (only,)
        programs = [change(own) if rank in chosen else others(own) for rank, own in enumerate(job.programs)]
        return replace(job, programs=tuple(programs))

    fault = ChosenFault("of a test", Fault("of a test", (), plant), 1.0)
    return simulate_job(PLAN, folder, fault=fault, ranks=ranks, steps=steps, seed=3)


def diagnosed(
    folder: Path, change: Change, *, ranks: int = 1, steps: int = 3, only: int | None = None, others: Change = unchanged
) -> Diagnosis:
    """What is found in such a job."""
    job = simulated(folder, change, ranks=ranks, steps=steps, only=only, others=others)
    return diagnose(memplan.open_profile(job), plan=PLAN)


def named(found: Diagnosis, kind: str) -> list[Finding]:
    """The findings of one kind."""
    return [one for one in found.findings if one.kind == kind]


def kernels(types: Sequence[str], length_ns: int, *, told: bool = False) -> tuple[Item, ...]:
    """Vector kernels one after another; `told` gives them operands."""
    dtype = "FLOAT" if told else ""
    return tuple(
        Item(Doing.KERNEL, f"{name}_{place}", name, length_ns, core="AI_VECTOR_CORE", dtype=dtype)
        for place, name in enumerate(types)
    )


def after_each(program: RankProgram, items: Sequence[Item], every: int) -> RankProgram:
    """`program` with `items` after every so many kernels."""
    found: list[Item] = []
    for place, item in enumerate(program):
        found.append(item)
        if place % every == every - 1:
            found += items
    return tuple(found)
