"""What a plan sets in PyTorch: modules to recompute, and what layers save for the way back to keep on the host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from memplan.graph import TensorKind
from memplan.readers.pytorch.module_recompute import list_modules, recompute_module
from memplan.runtime.host_moves import DueMoves, LayerMoves, host_moves, layer_of, peaks, told_tensors
from memplan.runtime.refusals import own_names, planned_prefix, refuse_other_chip, refuse_other_program
from memplan.runtime.saved_tensors import SavedStorages, keep_saved_on_host
from memplan.schema import Plan
from memplan.schema.applied import AppliedPlan, AppliedSetting


def apply_to_module(plan: Plan, module: Any) -> AppliedPlan:
    """
    Set `plan` in `module`, the model that the planned step trains, before its first step.

    Raises `InputError`, with nothing changed, where they don't belong together (`memplan.runtime.refusals`).
    """
    import torch

    refuse_other_program(plan, "pytorch", "eager")
    running = _chip_name()
    if running is not None:
        refuse_other_chip(plan, running)
    held = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    shapes = {name: tuple(tensor.shape) for name, tensor in held}
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    prefix = planned_prefix(plan, shapes, trained)
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
        layers = list_modules(module)
        # Around the checkpoints, so that what they keep goes to the host as well.
        moves = host_moves(plan, layers, lambda weight: layer_of(weight.removeprefix(prefix), layers))
        settings += _moves(moves, module, modules, undo)
    except BaseException:
        for take_back in reversed(undo):
            take_back()
        raise
    hooked = (layer for layer in moves.layers if not isinstance(modules[layer], torch.jit.ScriptModule))
    whole, as_set = peaks(plan, moves.kept_by(hooked))
    return AppliedPlan(tuple(settings), tuple(undo), planned=whole, peak=as_set)


def _chip_name() -> str | None:
    """What the NPU calls itself, `None` where there is none."""
    npu = getattr(sys.modules.get("torch"), "npu", None)
    return str(npu.get_device_name()) if npu is not None and npu.is_available() else None


def _callable_parts(module: Any) -> Iterator[Any]:
    """`module`, or the members of one that only holds them and is never called itself."""
    import torch

    if type(module).forward is torch.nn.Module.forward:
        for member in module.children():
            yield from _callable_parts(member)
    else:
        yield module


def _moves(
    moves: LayerMoves, root: Any, modules: Mapping[str, Any], undo: list[Callable[[], None]]
) -> Iterator[AppliedSetting]:
    """What leaves HBM in the plan: what layers save waits on the host, the rest is written where it is made."""
    import torch

    name = "torch.autograd.graph.saved_tensors_hooks"
    storages = SavedStorages(DueMoves(moves.layers))
    if moves.layers and not isinstance(root, torch.jit.ScriptModule):
        # What a layer moves may be saved by what stands between layers as well, or there alone.
        undo.append(keep_saved_on_host(root, None, storages))
    for layer, moved in moves.layers.items():
        told = f"{layer} keeps {told_tensors(sum(moved.values()), sum(size * count for size, count in moved.items()))}"
        if isinstance(modules[layer], torch.jit.ScriptModule):
            yield AppliedSetting(name, told, False, "a script module takes no hooks around its forward pass")
            continue
        undo.extend(keep_saved_on_host(member, layer, storages) for member in _callable_parts(modules[layer]))
        on_host = all(tensor.device.type == "cpu" for tensor in modules[layer].parameters())
        why = "its weights are on the host: copies there" if on_host else "on the host until the way back"
        yield AppliedSetting(name, told, True, why)
    for kind, (count, nbytes) in moves.left.items():
        activation = kind == TensorKind.ACTIVATION.value
        yield AppliedSetting(
            "save_on_cpu" if activation else f"the device of {kind}",
            f"{told_tensors(count, nbytes)} moved to the host",
            False,
            "no layer of a list saves them: wrap what does in torch.autograd.graph.save_on_cpu"
            if activation
            else "is written where it is made, such as by an optimiser that keeps its state on the host",
        )
