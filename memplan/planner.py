"""`memplan.plan`: from a compiled graph and a chip to a checked Plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memplan.core.version import MEMPLAN_VERSION
from memplan.cost import calibrated, costs_and_advice, load_calibration, machine
from memplan.cost.kernel import planned_kernel
from memplan.core.errors import InputError, MemplanError
from memplan.graph import Graph, TensorKind, lifetimes
from memplan.hardware import Chip, Link
from memplan.hardware import chip as find_chip
from memplan.hardware import link as find_link
from memplan.placement.rounding import Rounding, rounding
from memplan.schema.check import violations
from memplan.placement.hbm import HbmLayout, lay_out
from memplan.placement.host import choose_moves
from memplan.placement.residency import Gap, Storage, least_bytes
from memplan.placement.schedule import Timeline, simulate
from memplan.core.progress import Progress, silent
from memplan.imports.foreign import planned_tensor
from memplan.readers.replicate import replicate_layers
from memplan.schema import (
    Bound,
    LinkUse,
    Placement,
    Plan,
    PlannedOp,
    PlannedTensor,
    PlanOrigin,
    Source,
    Tier,
    TierUse,
    Transfer,
)

_PACKING_ROUNDS = 6
"""How often host moves are chosen anew with less room because addresses did not pack into all of it."""


def plan(
    source: Any,
    *inputs: Any,
    chip: str | Chip,
    layers: int | None = None,
    hbm: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    calibration: str | Path | None = None,
    progress: Progress = silent,
) -> Plan:
    """
    Plan the memory and time of a graph on one die of `chip`.

    `source` is a graph file, a `Graph`, or a MindSpore cell with the `inputs` it will be called with: the cell is
    compiled, not run, and with `layers` one built with a few equal layers is planned with that many. `hbm` is the
    bytes of HBM the plan may use (default: the chip's, less what its driver keeps), `shapes` binds dynamic input
    dimensions by input name, `calibration` is a file of `memplan calibrate` whose corrections the times rest on.
    When the graph's peak exceeds `hbm`, tensors are moved to the host and back; when even that does not suffice,
    the plan says `fits=False` and how many bytes are missing. Raises `InputError` for a graph, chip or value that
    can't be used.
    """
    graph, digest = _read(source, inputs, layers, shapes, progress)
    target = chip if isinstance(chip, Chip) else find_chip(chip)
    capacity, reserved, notes = _capacity(target, hbm)
    core = machine(target)
    if calibration is not None:
        core = calibrated(core, load_calibration(calibration))
    costs, advice = costs_and_advice(graph, core)
    notes += advice
    launched = dict.fromkeys(cost.kernel for cost in costs if cost.kernel is not None)
    kernels = {kernel: place for place, kernel in enumerate(launched)}
    durations = [cost.duration_ns for cost in costs]
    round_size = rounding(target.npu_arch or "")
    tensors = (*(planned_tensor(graph, span) for span in lifetimes(graph)), *_workspaces(graph))
    storages = _storages(graph, tensors, round_size)
    out_link, in_link = find_link(target, "d2h"), find_link(target, "h2d")

    progress(1, 3, "placing")
    timeline, layout = _place(storages, durations, capacity, round_size.alignment, out_link, in_link, progress)
    progress(2, 3, "checking")
    fits = capacity is None or layout.peak <= capacity
    missing = 0
    if capacity is not None and not fits:
        least = int(least_bytes(storages, len(graph.ops)).max(initial=0))
        missing = max(least, layout.lower_bound) - capacity
        if missing <= 0:
            missing = layout.peak - capacity
            notes.append("the bytes fit but no addresses were found for them; a better packing may exist")
    if timeline.moves:
        notes += [f"link {link.name}: {link.note}" for link in (out_link, in_link) if link.note]

    result = Plan(
        origin=PlanOrigin(graph=graph.name, file=Path(graph.origin).name, sha256=digest, producer=graph.producer),
        chip=target.name,
        memplan_version=MEMPLAN_VERSION,
        ops=tuple(
            PlannedOp(
                index=op.index,
                name=op.name,
                type=op.type,
                stream=op.stream,
                start_ns=int(timeline.start_ns[op.index]),
                duration_ns=cost.duration_ns,
                stalled_ns=int(timeline.stalled_ns[op.index]),
                bound=Bound(cost.bound),
                flops=cost.flops,
                gm_bytes=cost.gm_bytes,
                source=op.source,
                kernel=None if cost.kernel is None else kernels[cost.kernel],
                hot_share=cost.hot_share,
                phase=None if op.scope is None else op.scope.phase,
                micro_batch=None if op.scope is None else op.scope.micro_batch,
                layer=None if op.scope is None else op.scope.layer,
                part=None if op.scope is None else op.scope.part,
                launches=Bound(cost.bound) is not Bound.NONE,
            )
            for op, cost in zip(graph.ops, costs, strict=True)
        ),
        tensors=tensors,
        placements=(*_in_hbm(storages, timeline, layout), *_on_host(storages, timeline, len(graph.ops))),
        transfers=_transfers(storages, timeline, out_link, in_link),
        tiers=_tiers(storages, timeline, layout, capacity, reserved),
        links=tuple(_link_use(link) for link in (out_link, in_link)) if timeline.moves else (),
        fits=fits,
        missing_bytes=missing,
        makespan_ns=timeline.makespan_ns,
        allocator=round_size.name,
        rests_on=(*core.sources, Source(round_size.name, round_size.source)),
        notes=(*graph.notes, *notes),
        kernels=tuple(planned_kernel(kernel) for kernel in kernels),
    )
    wrong = violations(result)
    if wrong:
        raise MemplanError(f"the plan failed its own check and is withheld: {wrong[0]}")
    progress(3, 3, "done")
    return result


def _read(
    source: Any,
    inputs: tuple[Any, ...],
    layers: int | None,
    shapes: Mapping[str, tuple[int, ...]] | None,
    progress: Progress,
) -> tuple[Graph, str | None]:
    """The graph, and the SHA-256 of the file it came from."""
    if not isinstance(source, str | Path | Graph):
        from memplan.readers.mindspore.cell import capture

        return capture(source, *inputs, layers=layers, shapes=shapes, progress=progress), None
    if inputs:
        raise InputError("inputs are given with a cell, not with a graph", remedy="bind shapes with shapes={...}")
    if isinstance(source, Graph):
        return (source if layers is None else replicate_layers(source, layers)), None
    from memplan.readers import read_graph

    graph = read_graph(source, shapes=shapes, progress=progress)
    if layers is not None:
        graph = replicate_layers(graph, layers)
    digest = hashlib.sha256()
    with Path(source).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return graph, digest.hexdigest()


def _capacity(chip: Chip, hbm: int | None) -> tuple[int | None, int, list[str]]:
    """Bytes of HBM to plan with, bytes the driver keeps, and what is unknown of them."""
    if hbm is not None:
        if hbm <= 0:
            raise InputError(f"{hbm} bytes of HBM are not enough for anything", remedy="give more than 0")
        return hbm, 0, []
    if chip.hbm_bytes is None:
        return None, 0, [f"the HBM size of {chip.name} is not known: nothing was checked against it"]
    if chip.hbm_reserved_bytes is None:
        return chip.hbm_bytes, 0, [f"what the driver keeps of the HBM of {chip.name} is not known: taken as nothing"]
    return chip.hbm_bytes - chip.hbm_reserved_bytes, chip.hbm_reserved_bytes, []


def _workspaces(graph: Graph) -> list[PlannedTensor]:
    """Scratch of kernels as tensors of their own, alive for one step."""
    return [
        PlannedTensor(
            index=len(graph.tensors) + number,
            name=f"{op.name}:workspace",
            shape=(op.workspace_bytes,),
            dtype="uint8",
            layout="ND",
            nbytes=op.workspace_bytes,
            kind=TensorKind.WORKSPACE.value,
            persistent=False,
            start=op.index,
            end=op.index + 1,
            producer=op.index,
            uses=(op.index,),
        )
        for number, op in enumerate(op for op in graph.ops if op.workspace_bytes)
    ]


def _storages(graph: Graph, tensors: Sequence[PlannedTensor], round_size: Rounding) -> list[Storage]:
    """What has to be placed, in the order of `tensors`."""
    writes: dict[int, list[int]] = {}
    for op in graph.ops:
        for index in op.outputs:
            if op.launches:
                writes.setdefault(graph.tensors[index].storage, []).append(op.index)
    return [
        Storage(
            tensor=tensor.index,
            size=round_size(tensor.nbytes),
            start=tensor.start,
            end=tensor.end,
            uses=tensor.uses,
            writes=tuple(writes.get(tensor.index, ())),
            persistent=tensor.persistent,
        )
        for tensor in tensors
    ]


def _place(
    storages: Sequence[Storage],
    durations: Sequence[int],
    capacity: int | None,
    alignment: int,
    out_link: Link,
    in_link: Link,
    progress: Progress,
) -> tuple[Timeline, HbmLayout]:
    """
    The timeline and addresses that need the fewest bytes over `capacity`; host moves only where needed.

    Addresses may not pack into all of the room that bytes alone would fit in, so the moves are chosen again with
    less room until they do.
    """
    steps = len(durations)
    starts = np.concatenate(([0], np.cumsum(np.asarray(durations, dtype=np.int64)))).astype(np.int64)
    room = capacity
    tried: list[tuple[Timeline, HbmLayout]] = []
    while len(tried) < _PACKING_ROUNDS:
        moves: tuple[Gap, ...] = ()
        if room is not None:
            moves = choose_moves(storages, starts, room, out_link=out_link, in_link=in_link).gaps
        timeline = simulate(
            storages, durations, moves, room if room is not None else 2**62, out_link=out_link, in_link=in_link
        )
        layout = lay_out(storages, timeline.residencies, steps, alignment=alignment, progress=progress)
        tried.append((timeline, layout))
        if capacity is None or room is None or layout.peak <= capacity:
            return timeline, layout
        room -= layout.peak - capacity
        if room <= 0:
            break
    return min(tried, key=lambda pair: pair[1].peak)


def _in_hbm(storages: Sequence[Storage], timeline: Timeline, layout: HbmLayout) -> list[Placement]:
    return [
        Placement(
            tensor=storages[residency.storage].tensor,
            tier=Tier.HBM,
            offset=offset,
            size=storages[residency.storage].size,
            start=residency.start,
            end=residency.end,
        )
        for residency, offset in zip(timeline.residencies, layout.offsets, strict=True)
    ]


def _on_host(storages: Sequence[Storage], timeline: Timeline, steps: int) -> list[Placement]:
    """Host copies: a storage that ever leaves keeps its place on the host from its first gap to its last."""
    spans: dict[int, tuple[int, int]] = {}
    for move in timeline.moves:
        gap = move.gap
        start, end = spans.get(gap.storage, (steps, 0))
        spans[gap.storage] = min(start, gap.start), max(end, gap.end)
    return [
        Placement(
            tensor=storages[index].tensor,
            tier=Tier.HOST,
            offset=None,
            size=storages[index].size,
            start=0 if storages[index].persistent else start,
            end=steps if storages[index].persistent else end,
        )
        for index, (start, end) in sorted(spans.items())
    ]


def _transfers(storages: Sequence[Storage], timeline: Timeline, out_link: Link, in_link: Link) -> tuple[Transfer, ...]:
    return tuple(
        Transfer(
            tensor=storages[move.gap.storage].tensor,
            source=Tier.HBM if move.out else Tier.HOST,
            target=Tier.HOST if move.out else Tier.HBM,
            size=storages[move.gap.storage].size,
            link=out_link.name if move.out else in_link.name,
            start_ns=move.start_ns,
            end_ns=move.end_ns,
            after_step=move.gap.leaves_after,
            before_step=None if move.out else move.gap.returns_at,
        )
        for move in sorted(timeline.moves, key=lambda move: (move.start_ns, move.end_ns))
    )


def _tiers(
    storages: Sequence[Storage], timeline: Timeline, layout: HbmLayout, capacity: int | None, reserved: int
) -> tuple[TierUse, ...]:
    hbm = TierUse(
        tier=Tier.HBM,
        capacity=capacity,
        reserved=reserved,
        persistent=sum(storage.size for storage in storages if storage.persistent),
        peak=layout.peak,
        peak_step=layout.peak_step,
        lower_bound=layout.lower_bound,
        lower_bound_method=layout.lower_bound_method,
    )
    if not timeline.moves:
        return (hbm,)
    on_host = sum(storages[index].size for index in {move.gap.storage for move in timeline.moves})
    host = TierUse(
        tier=Tier.HOST,
        capacity=None,
        reserved=0,
        persistent=on_host,
        peak=on_host,
        peak_step=None,
        lower_bound=on_host,
        lower_bound_method="every moved tensor keeps its place on the host",
    )
    return hbm, host


def _link_use(link: Link) -> LinkUse:
    return LinkUse(
        name=link.name,
        bytes_per_second=float(link.bytes_per_second or 0),
        latency_ns=link.latency_ns or 0,
        source=Source(link.source, link.note),
    )
