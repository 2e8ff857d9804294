"""`Plan.apply`: a plan set to work in the program that it was made of, or refused before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memplan.core.errors import InputError
from memplan.readers.mindspore.cell import is_cell, is_model
from memplan.readers.pytorch.step_function import is_module
from memplan.runtime.refusals import refuse_other_chip
from memplan.schema import Plan
from memplan.schema.applied import AppliedPlan


def apply_plan(plan: Plan, program: Any, *, chip: str | None = None) -> AppliedPlan:
    """
    Set what `plan` says in `program`, a cell or `Model` of MindSpore or a module of torch, before its first step.

    `chip` is the chip it runs on, by default what the framework says of the device. Raises `InputError`, having
    changed nothing, for a plan of another chip, program, framework or mode, and where this version of the framework
    lacks what the plan rests on; the error names the difference.
    """
    if plan.violations:
        raise InputError(f"the plan is not valid: {plan.violations[0]}", remedy="plan again")
    if chip is not None:
        refuse_other_chip(plan, chip)
    if is_model(program):
        program = program.train_network
    if is_cell(program):
        from memplan.runtime.cell_knobs import apply_to_cell

        return apply_to_cell(plan, program)
    if is_module(program):
        from memplan.runtime.module_knobs import apply_to_module

        return apply_to_module(plan, program)
    found = type(program).__name__
    raise InputError(f"a cell of MindSpore or a module of torch is expected, found {found}")


@contextmanager
def applied_plan(plan: Plan, program: Any, *, chip: str | None = None) -> Iterator[AppliedPlan]:
    """The same for as long as the context lasts."""
    applied = apply_plan(plan, program, chip=chip)
    try:
        yield applied
    finally:
        applied.undo()
