"""What a plan sets in MindSpore: the memory pool, cells to recompute, what cells save to keep on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from memplan.core.units import GIB, format_bytes
from memplan.cost.kernels.op_classes import op_class
from memplan.graph import TensorKind
from memplan.graph.repeats import may_repeat
from memplan.readers.mindir.op_table import op_table
from memplan.readers.mindir.roles import cell_scope, is_of_gradients
from memplan.readers.mindspore.cell import has_saved_tensor_hooks, mindspore_module
from memplan.readers.mindspore.cell_recompute import RecomputeWay, list_members, recompute_cell
from memplan.runtime.host_moves import DueMoves, LayerMoves, host_moves, peaks, told_tensors
from memplan.runtime.refusals import own_names, planned_prefix, refuse_other_chip, refuse_other_program
from memplan.runtime.saved_cell_tensors import SavedCellTensors, keep_cell_saved_on_host
from memplan.schema import Plan, Tier
from memplan.schema.applied import AppliedPlan, AppliedSetting

_PRODUCTS = frozenset({"matmul", "convolution", "grouped_matmul"})
_SEVERAL = 2


def apply_to_cell(plan: Plan, cell: Any) -> AppliedPlan:
    """
    Set `plan` in `cell`, a training step or the network inside it, before it runs for the first time.

    Raises `InputError`, with nothing changed, where they don't belong together (`memplan.runtime.apply`).
    """
    mindspore = mindspore_module()
    version = str(mindspore.__version__)
    graph_mode = mindspore.get_context("mode") == mindspore.GRAPH_MODE
    refuse_other_program(plan, "mindspore", "graph" if graph_mode else "pynative")
    device = str(mindspore.get_context("device_target"))
    running = _chip_name(mindspore) if device == "Ascend" else None
    if running is not None:
        refuse_other_chip(plan, running)
    parameters = list(cell.get_parameters())
    shapes = {str(parameter.name): tuple(parameter.shape) for parameter in parameters}
    own_state = op_table().optimizer_scalars
    trained = (str(item.name) for item in parameters if item.requires_grad)
    prefix = planned_prefix(plan, shapes, (name for name in trained if name not in own_state))
    cells = dict(cell.cells_and_names())
    names = own_names(plan.program.recomputed if plan.program is not None else (), cells)

    undo: list[Callable[[], None]] = []
    settings: list[AppliedSetting] = []
    try:
        for planned, own in names.items():
            undo.append(recompute_cell(cells[own], version, _way(plan, planned)))
            settings.append(AppliedSetting("Cell.recompute", planned, True, _recomputed(cells[own])))
        keeps = (plan.program is None or plan.program.mode == "pynative") and has_saved_tensor_hooks()
        layers = {name: member for name, member in list_members(cell).items() if keeps and name not in names.values()}
        owners = {str(item.name): name for name, member in layers.items() for item in member.get_parameters()}
        moves = host_moves(plan, tuple(layers), lambda weight: owners.get(weight.removeprefix(prefix)))
        settings += _kept(moves, cell, cells, device, undo)
    except BaseException:
        for take_back in reversed(undo):
            take_back()
        raise
    if names and graph_mode:
        _forget_compiled(cell)
        undo.insert(0, lambda: _forget_compiled(cell))
    settings += _pool(mindspore, plan, device)
    whole, as_set = peaks(plan, moves.kept_by(moves.layers))
    return AppliedPlan(tuple(settings), tuple(undo), planned=whole, peak=as_set)


def _chip_name(mindspore: Any) -> str | None:
    """What the device calls itself, `None` where this version doesn't say."""
    ask = getattr(getattr(mindspore, "hal", None), "get_device_name", None)
    return None if ask is None else str(ask())


def _way(plan: Plan, cell: str) -> RecomputeWay:
    """How PyNative mode has to run the planned `cell` again for the step to end, with the same numbers."""
    scope = cell_scope(cell)
    made = [op for op in plan.ops if op.launches and not is_of_gradients(op.name) and scope.search(op.name) is not None]
    if not all(may_repeat(op.type) for op in made):
        return RecomputeWay.DRAWN
    turn = next((op.index for op in plan.ops if op.launches and is_of_gradients(op.name)), len(plan.ops))
    stops_well = True
    for op in made:
        if op.index < turn and op.kernel is not None:
            # A product saves what it reads, and is what a cell stops at if nothing behind it saves several tensors.
            product = op_class(op.type).kind in _PRODUCTS
            stops_well = product or (stops_well and len(plan.kernels[op.kernel].outputs) < _SEVERAL)
    return RecomputeWay.NEEDED if stops_well else RecomputeWay.WHOLE


def _recomputed(cell: Any) -> str:
    """What recomputing `cell` means for it: MindSpore runs all of it twice, batch norms with their statistics too."""
    norms = sum(hasattr(inner, "moving_mean") for _, inner in cell.cells_and_names())
    if not norms:
        return "the plan makes its activations anew"
    name = "batch norm moves its" if norms == 1 else "batch norms move their"
    return f"the plan makes its activations anew; {norms} {name} running statistics twice a step"


def _forget_compiled(cell: Any) -> None:
    """Have `cell` compiled anew at its next call: what was compiled is found by the time the cell was made."""
    if hasattr(cell, "_create_time"):
        cell.__dict__["_create_time"] += 1


def _pool(mindspore: Any, plan: Plan, device: str) -> list[AppliedSetting]:
    """The size of the device's memory pool."""
    use = plan.tier(Tier.HBM)
    if use is None or use.capacity is None:
        return []
    name, size = "runtime.set_memory(max_size)", f"{int(use.capacity / GIB * 100) / 100}GB"
    change = getattr(getattr(mindspore, "runtime", None), "set_memory", None)
    if device != "Ascend":
        reason = f"the device of this process is {device}, which has no pool of its own"
    elif change is None:
        reason = f"MindSpore {mindspore.__version__} has no runtime.set_memory"
    elif use.capacity < GIB // 100:
        reason = f"{format_bytes(use.capacity)} is less than can be written"
    else:
        try:
            change(max_size=size)
        except (RuntimeError, ValueError, TypeError) as error:
            return [AppliedSetting(name, size, False, " ".join(str(error).split()))]
        return [AppliedSetting(name, size, True, "what the plan may use of HBM")]
    return [AppliedSetting(name, size, False, reason)]


def _kept(
    moves: LayerMoves, root: Any, cells: Mapping[str, Any], device: str, undo: list[Callable[[], None]]
) -> Iterator[AppliedSetting]:
    """What leaves HBM in the plan: what cells save waits on the host, the rest is fixed when a cell is written."""
    tensors = SavedCellTensors(DueMoves(moves.layers), root.get_parameters())
    if moves.layers and not any(cells[name] is root for name in moves.layers):
        # What a layer moves may be saved by what stands between layers as well, or there alone.
        undo.append(keep_cell_saved_on_host(root, None, tensors))
    for name, moved in moves.layers.items():
        nbytes = sum(size * count for size, count in moved.items())
        undo.append(keep_cell_saved_on_host(cells[name], name, tensors))
        told = f"{name} keeps {told_tensors(sum(moved.values()), nbytes)}"
        why = "on the host until the way back" if device == "Ascend" else "the device is its host: copies there"
        yield AppliedSetting("mindspore.saved_tensors_hooks", told, True, why)
    for kind, (count, size) in moves.left.items():
        yield AppliedSetting(
            _HOST_KNOBS.get(TensorKind(kind), "ops.move_to"),
            f"{told_tensors(count, size)} of kind {kind} moved to the host",
            False,
            "the device of this process is its host" if device != "Ascend" else "is written where the cell is made",
        )


_HOST_KNOBS = {
    TensorKind.WEIGHT: "Parameter(device='CPU')",
    TensorKind.OPTIMIZER_STATE: "Parameter(device='CPU')",
    TensorKind.ACTIVATION: "Cell.offload(backward_prefetch)",
}
