"""What a plan sets in PyTorch: modules to recompute."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from memplan.core.units import format_bytes
from memplan.readers.pytorch.module_recompute import recompute_module
from memplan.runtime.refusals import own_names, planned_prefix, refuse_other_chip, refuse_other_program
from memplan.schema import Plan, Tier
from memplan.schema.applied import AppliedPlan, AppliedSetting


def apply_to_module(plan: Plan, module: Any) -> AppliedPlan:
    """
    Set `plan` in `module`, the model that the planned step trains, before its first step.

    Raises `InputError`, with nothing changed, where they don't belong together (`memplan.runtime.refusals`).
    """
    refuse_other_program(plan, "pytorch", "eager")
    running = _chip_name()
    if running is not None:
        refuse_other_chip(plan, running)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    planned_prefix(plan, shapes, [name for name, parameter in module.named_parameters() if parameter.requires_grad])
    modules = dict(module.named_modules())
    names = own_names(plan.program.recomputed if plan.program is not None else (), modules)

    undo: list[Callable[[], None]] = []
    settings: list[AppliedSetting] = []
    try:
        for planned, own in names.items():
            undo.append(recompute_module(modules[own]))
            settings.append(
                AppliedSetting("torch.utils.checkpoint", planned, True, "the plan makes its activations anew")
            )
    except BaseException:
        for take_back in reversed(undo):
            take_back()
        raise
    return AppliedPlan((*settings, *_left(plan)), tuple(undo))


def _chip_name() -> str | None:
    """What the NPU calls itself, `None` where there is none."""
    npu = getattr(sys.modules.get("torch"), "npu", None)
    return str(npu.get_device_name()) if npu is not None and npu.is_available() else None


def _left(plan: Plan) -> list[AppliedSetting]:
    """What leaves HBM in the plan: offloading is written where the model is made."""
    moved = sum(transfer.size for transfer in plan.transfers if transfer.source is Tier.HBM)
    if not moved:
        return []
    reason = "wrap what keeps it in torch.autograd.graph.save_on_cpu where the model is written"
    return [AppliedSetting("save_on_cpu", f"{format_bytes(moved)} moved to the host", False, reason)]
