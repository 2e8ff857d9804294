"""`memplan.plan`: the road from a compiled graph and a chip to a checked Plan: read, cost, place, check."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, MemplanError
from memplan.core.progress import Progress, silent
from memplan.core.version import MEMPLAN_VERSION
from memplan.cost import OpCost, calibrated, costs_and_advice, load_calibration, machine
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.kernels.op_kernels import planned_kernel
from memplan.engines import DEFAULT_ENGINE
from memplan.graph import Graph, Op
from memplan.graph.access import Access, accesses
from memplan.graph.repeats import along_repeats
from memplan.graph.saved import SavedTensors
from memplan.hardware import Chip, HostTier, host_tier
from memplan.hardware import chip as find_chip
from memplan.models import ModelConfig
from memplan.models.parallel import ONE_RANK, Layout
from memplan.models.steps import ServedStep, model_graph, model_settings
from memplan.models.training.step_recipe import Recipe
from memplan.placement import plan_records
from memplan.placement.host import HostMoves
from memplan.placement.memory_layout import HbmRoom, MemoryLayout, copied_at_need, hbm_room, lay_out_graph, unset_notes
from memplan.placement.recompute_modules import fewest_recomputed
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.placement.rounding import Rounding, rounding
from memplan.placement.shortest_layout import PlacedGraph, shortest_layout
from memplan.readers import Target
from memplan.readers.live import LiveProgram, live_program
from memplan.readers.replicate import replicate_layers
from memplan.schema import Bound, Plan, PlannedOp, PlannedProgram, PlanOrigin, PlanSetting, Source
from memplan.schema.check import violations
from memplan.schema.storages import planned_tensors
from memplan.serving.step_parts import model_step_parts
from memplan.tilings import Launch, planned_tilings

_logger = logging.getLogger(__name__)


def plan(
    source: Any,
    *inputs: Any,
    chip: str | Chip = "910B3",
    layers: int | None = None,
    hbm: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    calibration: str | Path | None = None,
    phase: str | None = None,
    layout: Layout | None = None,
    recipe: Recipe | ServedStep | None = None,
    stage: int = 0,
    data_rank: int = 0,
    settings: Sequence[PlanSetting] = (),
    engine: str = DEFAULT_ENGINE,
    recompute: RecomputePolicy = RecomputePolicy.AUTO,
    host: HostTier | None = None,
    kernels: Target | None = None,
    quick: bool = False,
    progress: Progress = silent,
) -> Plan:
    """
    Plan the memory and time of a graph, or of one step of a published model, on one die of `chip`.

    `source` is a graph file, a `Graph`, or a program of this process with the `inputs` it will be called with: a
    MindSpore cell, a function of cells or a `Model`, in any mode, or a module, step function or `TrainingStep` of
    PyTorch. It is compiled, or recorded on tensors without data, not run; with `layers` one built with a few equal
    layers is planned with that many, and `kernels` says whose kernels run it (default: of MindSpore those of the
    device that the process has set, of PyTorch an NPU's). What is made anew of it are whole layers, which its framework
    can recompute (`Plan.apply`).
    It may also be what `load_config` gave: then `recipe` (a `Recipe` to train, a `ServedStep` to serve) is what step
    is planned, on replica `data_rank` of pipeline stage `stage` of `layout`; `phase` is `train`, `prefill` or
    `decode`, `settings` says what each of these rests on where they were not simply given, and `engine`, as
    `serving.step_time` takes it, whose host a served step has. `hbm` is the bytes of
    HBM the plan may use (default: the chip's, less what its driver keeps), `shapes` binds dynamic input
    dimensions by input name, `calibration` is a file of `memplan calibrate` whose corrections the times rest on.
    When the graph's peak exceeds `hbm`, tensors are moved to the host and back, or made anew by ops that run a second
    time where `recompute` lets them and that takes less time; when even that does not suffice, the plan says
    `fits=False` and how many bytes are missing. Of a program what its layers save for the way back moves where that
    suffices, for that is what `Plan.apply` can set, and ops wait for these copies; where more moves a note says what
    the step takes without. `host` is the memory and link that they move over (default: the chip's, of any size). With
    `quick` no op runs twice and the first moves that find addresses are taken: a plan that
    is checked like any other, in a fraction of the time. Raises `InputError` for a graph, chip or value that can't be
    used.
    """
    model = source if isinstance(source, ModelConfig) else None
    if model is not None:
        settings = settings or model_settings(model, layout, recipe, stage, data_rank)
        source = model_graph(model, phase, layout, recipe, stage=stage, data_rank=data_rank)
    elif phase is not None or layout is not None or recipe is not None:
        raise InputError("phase, layout and recipe are given with a model, not with a graph", remedy="leave them out")
    target = chip if isinstance(chip, Chip) else find_chip(chip)
    room = hbm_room(target, hbm)
    may_repeat = recompute is RecomputePolicy.AUTO and not quick
    if isinstance(source, str | Path | Graph):
        if kernels is not None:
            raise InputError("kernels is given with a program, not with a graph", remedy="leave it out")
        given = _of_graph(source, inputs, layers, shapes, target, may_repeat, progress)
    else:
        live = live_program(source, inputs, layers=layers, shapes=shapes, kernels=kernels)
        given = _of_program(live, target, room, may_repeat)
    core = machine(target)
    if calibration is not None:
        core = calibrated(core, load_calibration(calibration))
    costs, advice = costs_and_advice(given.graph, core)
    launched = {cost.kernel: None for cost in costs if cost.kernel is not None}
    number = {kernel: place for place, kernel in enumerate(launched)}
    launches = [(cost.kernel, cost.l2) for cost in costs if cost.kernel is not None]

    progress(1, 3, "placing")
    durations = [cost.duration_ns for cost in costs]
    found = _placed(given, durations, room, host or host_tier(target), quick=quick, progress=progress)
    graph, placed = found.graph, found.layout
    costs = along_repeats(graph, costs)

    cut = planned_tilings(launches, number, core, target, progress=progress)
    progress(2, 3, "checking")
    starts, stalls = placed.schedule.start_ns.tolist(), placed.schedule.stalled_ns.tolist()
    makespan = placed.schedule.makespan_ns
    result = Plan(
        origin=PlanOrigin(graph=graph.name, file=Path(graph.origin).name, sha256=given.digest, producer=graph.producer),
        chip=target.name,
        memplan_version=MEMPLAN_VERSION,
        ops=tuple(
            _planned_op(*row, number, cut.number)
            for row in zip(graph.ops, accesses(graph), costs, starts, stalls, strict=True)
        ),
        tensors=planned_tensors(graph),
        placements=plan_records.placement_records(placed),
        transfers=plan_records.transfer_records(placed),
        tiers=plan_records.tier_records(placed),
        links=plan_records.link_records(placed),
        fits=not placed.missing,
        missing_bytes=placed.missing,
        makespan_ns=makespan,
        makespan_bound_ns=placed.bound_ns,
        allocator=given.round_size.name,
        rests_on=(*core.sources, Source(given.round_size.name, given.round_size.source)),
        notes=(*graph.notes, *room.notes, *advice, *placed.notes),
        kernels=tuple(map(planned_kernel, launched)),
        tilings=cut.tilings,
        onchip=cut.onchip,
        program=given.program,
        settings=tuple(settings),
        step_parts=()
        if model is None or recipe is None
        else model_step_parts(
            model, layout or ONE_RANK, recipe, target, stage=stage, graph=graph, makespan_ns=makespan, engine=engine
        ),
    )
    wrong = violations(result)
    if wrong:
        raise MemplanError("the plan failed its own check and is withheld: {}", wrong[0])
    progress(3, 3, "done")
    _log(result, placed, room)
    return result


def _log(result: Plan, placed: MemoryLayout, room: HbmRoom) -> None:
    _logger.info(
        "planned %s on %s: %d ops, peak %d of %s bytes of HBM, %d transfers, %s",
        result.origin.graph, result.chip, len(result.ops), placed.hbm.peak, room.capacity, len(result.transfers),
        "fits" if result.fits else f"{placed.missing} bytes missing",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Given:
    """What is planned: a graph, whether its ops may run twice, and where it came from."""

    graph: Graph
    round_size: Rounding
    may_repeat: bool
    digest: str | None = None
    """SHA-256 of the graph's file."""
    program: PlannedProgram | None = None
    saved: SavedTensors | None = None
    """What alone may move of a program: what its layers save for the way back."""


def _of_graph(
    source: str | Path | Graph,
    inputs: tuple[Any, ...],
    layers: int | None,
    shapes: Mapping[str, tuple[int, ...]] | None,
    target: Chip,
    may_repeat: bool,
    progress: Progress,
) -> _Given:
    """A graph, or what its file holds, with as many of its layers as are asked for."""
    if inputs:
        raise InputError("inputs are given with a cell, not with a graph", remedy="bind shapes with shapes={...}")
    round_size = rounding(target.npu_arch or "")
    if isinstance(source, Graph):
        return _Given(source if layers is None else replicate_layers(source, layers), round_size, may_repeat)
    from memplan.readers import read_graph

    graph = read_graph(source, shapes=shapes, progress=progress, layers=layers)
    digest = hashlib.sha256()
    with Path(source).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return _Given(graph, round_size, may_repeat, digest=digest.hexdigest())


def _of_program(live: LiveProgram, target: Chip, room: HbmRoom, may_repeat: bool) -> _Given:
    """A program of this process, with the fewest of its layers made anew where that brings it within the room."""
    told = live.told(())
    round_size = rounding(target.npu_arch or "")
    if told.device == Target.CPU.value:
        round_size = rounding("pytorch cpu" if told.framework == "pytorch" else Target.CPU.value)
    modules, graph = fewest_recomputed(
        live.modules if may_repeat else (), live.graph, partial(_peak, round_size=round_size), room.capacity
    )
    return _Given(graph, round_size, False, program=live.told(modules), saved=live.saved(graph, modules))


def _placed(
    given: _Given, durations_ns: Sequence[int], room: HbmRoom, host: HostTier, *, quick: bool, progress: Progress
) -> PlacedGraph:
    """
    The graph to run and its layout, the best that is found over one tier of the host or all of them.

    `durations_ns` are those of the ops of the graph as it is given.
    """
    may_run_twice = [given.may_repeat and op_class(op.type).rule != "unknown" for op in given.graph.ops]

    def on_tier(tier: HostTier, saved: SavedTensors | None, room: HbmRoom) -> PlacedGraph:
        def place(which: Graph, where: HbmRoom, chosen: HostMoves | None, least_ns: int | None) -> MemoryLayout:
            tensors, times = planned_tensors(which), along_repeats(which, durations_ns)
            return lay_out_graph(
                which, tensors, times, where, given.round_size, host=tier, chosen=chosen, least_ns=least_ns,
                quick=quick, saved=saved, progress=progress,
            )  # fmt: skip

        return shortest_layout(
            given.graph, durations_ns, may_run_twice, room, given.round_size, host=tier, place=place, quick=quick,
            saved=saved, progress=progress,
        )  # fmt: skip

    def on_tiers(saved: SavedTensors | None, room: HbmRoom) -> PlacedGraph:
        # Where two tiers are given, either of them alone may be better than what is found for both.
        found = [on_tier(tier, saved, room) for tier in ((host,) if host.beside is None else (host, *host.tiers))]
        best = min(found, key=lambda item: item.rank)
        return replace(best, layout=replace(best.layout, bound_ns=found[0].layout.bound_ns))

    found = on_tiers(given.saved, room)
    if given.program is None:
        return found
    if given.saved is not None and not found.layout.missing:
        times = along_repeats(found.graph, durations_ns)
        copied = copied_at_need(found.layout, times, given.round_size.alignment, progress)
        return replace(found, layout=copied) if found.layout.schedule.moves else found
    if given.saved is not None:
        # What else would have to move the framework can't set; it is said all the same.
        found = on_tiers(None, room)
    notes = (*found.layout.notes, *unset_notes(found.layout, given.saved))
    return replace(found, layout=replace(found.layout, notes=notes))


def _peak(graph: Graph, round_size: Rounding) -> int:
    """Bytes of HBM at the fullest step of `graph`, as the allocator rounds them."""
    change = [0] * (len(graph.ops) + 1)
    for tensor in planned_tensors(graph):
        change[tensor.start] += round_size(tensor.nbytes)
        change[tensor.end] -= round_size(tensor.nbytes)
    return max(accumulate(change))


def _planned_op(
    op: Op,
    access: Access,
    cost: OpCost,
    start_ns: int,
    stalled_ns: int,
    number: Mapping[Kernel, int],
    tilings: Mapping[Launch, int],
) -> PlannedOp:
    bound = Bound(cost.bound)
    return PlannedOp(
        index=op.index,
        name=op.name,
        type=op.type,
        stream=op.stream,
        start_ns=start_ns,
        duration_ns=cost.duration_ns,
        stalled_ns=stalled_ns,
        bound=bound,
        flops=cost.flops,
        gm_bytes=cost.gm_bytes,
        source=op.source,
        kernel=None if cost.kernel is None else number[cost.kernel],
        hot_share=cost.l2.hot,
        phase=None if op.scope is None else op.scope.phase,
        micro_batch=None if op.scope is None else op.scope.micro_batch,
        layer=None if op.scope is None else op.scope.layer,
        part=None if op.scope is None else op.scope.part,
        launches=bound is not Bound.NONE,
        reads=access.reads,
        writes=access.writes,
        repeats=op.repeats,
        tiling=None if cost.kernel is None else tilings[cost.kernel, cost.l2],
    )
