"""Whether a program is the one that was planned: chip, framework, mode, and names and shapes of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from memplan.core.errors import InputError
from memplan.graph import TensorKind
from memplan.hardware import chip as find_chip
from memplan.readers.mindspore.cell import JITTED
from memplan.schema import Plan

Shapes = Mapping[str, tuple[int, ...]]

_REMEDY = "plan this program again, or apply the plan to the one that it was made of"


def planned_weights(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of `plan` by name."""
    return {tensor.name: tensor.shape for tensor in plan.tensors if tensor.kind == TensorKind.WEIGHT.value}


def planned_prefix(plan: Plan, found: Shapes, trainable: Iterable[str]) -> str:
    """
    What the plan's names begin with where the program's own don't, such as `network.`; empty where they agree.

    `found` are the program's parameters. Raises `InputError` naming the first that differs: a weight of the plan that
    the program lacks, one of another shape, a `trainable` one that the plan lacks.
    """
    planned = planned_weights(plan)
    if not planned:
        return ""
    prefix = _prefix(planned, found)
    own = {name.removeprefix(prefix): shape for name, shape in planned.items()}
    for name, shape in own.items():
        if name not in found:
            raise _differs(f"the plan's weight {name} {list(shape)} is not in this program")
        if found[name] != shape:
            raise _differs(f"the weight {name} is {list(found[name])} here and {list(shape)} in the plan")
    all_names = {tensor.name.removeprefix(prefix) for tensor in plan.tensors}
    for name in trainable:
        if name not in all_names:
            raise _differs(f"the parameter {name} {list(found[name])} is not in the plan")
    return prefix


def _prefix(planned: Shapes, found: Shapes) -> str:
    """The prefix under which most names of the plan are the program's."""
    first = next(iter(planned))
    parts = first.split(".")
    prefixes = ["", *(".".join(parts[:depth]) + "." for depth in range(1, len(parts)))]
    return max(prefixes, key=lambda prefix: (sum(name.removeprefix(prefix) in found for name in planned), -len(prefix)))


def _differs(difference: str) -> InputError:
    return InputError(f"the plan is of another graph: {difference}", remedy=_REMEDY)


def own_names(planned: Iterable[str], found: Iterable[str]) -> dict[str, str]:
    """
    Names of a program's modules by the plan's, which may begin with the names of what stands around the program.

    Raises `InputError` naming the first module of the plan that the program lacks.
    """
    known = set(found)
    names = {}
    for name in planned:
        parts = name.split(".")
        own = next((".".join(parts[at:]) for at in range(len(parts)) if ".".join(parts[at:]) in known), None)
        if own is None:
            raise _differs(f"the module {name}, which the plan recomputes, is not in this program")
        names[name] = own
    return names


def refuse_other_chip(plan: Plan, running: str) -> None:
    """Raise `InputError` where `running`, in any of its names, is not the chip that `plan` is for."""
    name = find_chip(running).name
    if name != plan.chip:
        raise InputError(f"the plan is for {plan.chip}, this is {name}", remedy=f"plan again with chip={name!r}")


def refuse_other_program(plan: Plan, framework: str, mode: str) -> None:
    """Raise `InputError` where the plan was made of a program of another framework, or for another mode."""
    program = plan.program
    if program is None:
        return
    if program.framework != framework:
        raise InputError(
            f"the plan is of a program of {program.framework}, this is one of {framework}",
            remedy="plan this program",
        )
    if program.mode not in (mode, JITTED):
        raise InputError(
            f"the plan is for {program.mode} mode, this process is in {mode} mode",
            remedy="set the mode that was planned, or plan again in this one",
        )
