"""The views on the time axis as tables."""

from __future__ import annotations

import numpy as np

from memplan.gui.model.memory.memory_map import occupant
from memplan.gui.model.memory.step_curve import StepCurve
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet, SheetCell

MOST_ROWS = 1_000_000
"""Slices that a table of the timeline lists at most; the last row says so when there were more."""


def _stretch(session: Session) -> tuple[int, int]:
    """The selected time range on the profile's clock, the visible one where nothing is selected."""
    start, end = session.viewport.selected_range or (session.viewport.start, session.viewport.end)
    return session.origin_ns + int(np.floor(start)), session.origin_ns + int(np.ceil(end))


def slices_sheet(session: Session) -> Sheet:
    """Every slice of the tracks that are read and not hidden, in the selected or visible time range, track by track."""
    t0, t1 = _stretch(session)
    rows: list[tuple[SheetCell, ...]] = []
    for track in session.tracks.all:
        lanes = session.tracks.lanes(track)
        if lanes is None or track.key in session.tracks.hidden:
            continue
        slices = lanes.slices
        for depth, lane in enumerate(lanes.lanes):
            first, last = lane.between(t0, t1)
            for position in range(first, min(last, first + MOST_ROWS - len(rows))):
                index = lane.index(position)
                name = slices.names[slices.name[index]]
                category = slices.categories[slices.category[index]]
                start, length = int(lane.start_ns[position]), int(lane.duration_ns[position])
                rows.append((track.group, track.label, depth, name, category, start, length))
    if len(rows) >= MOST_ROWS:
        rows.append(("more slices were left out", None, None, None, None, None, None))
    return Sheet(("group", "track", "depth", "name", "category", "start_ns", "duration_ns"), rows)


def map_sheet(session: Session) -> Sheet:
    """Every rectangle of the map that lies in the selected or visible time range."""
    header = (
        "tensor", "kind", "shape", "dtype", "tier", "address", "size_bytes", "start_ns", "end_ns", "made_by",
        "last_used_by", "source",
    )  # fmt: skip
    mapped = session.map
    if mapped is None:
        return Sheet(header, ())
    t0, t1 = _stretch(session)
    rows: list[tuple[SheetCell, ...]] = []
    for index in np.flatnonzero((mapped.start_ns < t1) & (mapped.end_ns > t0)).tolist():
        item = occupant(mapped, index)
        tensor = item.tensor
        rows.append(
            (
                tensor.name, tensor.kind, "x".join(str(dim) for dim in tensor.shape), tensor.dtype, item.tier.value,
                item.offset, item.size, item.start_ns, item.end_ns,
                item.producer.name if item.producer is not None else None,
                item.last_use.name if item.last_use is not None else None,
                item.producer.source if item.producer is not None else None,
            )
        )  # fmt: skip
    return Sheet(header, rows)


def blocks_sheet(session: Session) -> Sheet:
    """Every measured block that lies in the selected or visible time range; what no plan has is left empty."""
    header = (
        "asked_for_by", "kind", "component", "address", "size_bytes", "start_ns", "end_ns", "tensor",
        "planned_start_ns", "planned_end_ns",
    )  # fmt: skip
    blocks, plan = session.blocks, session.document.plan
    if blocks is None:
        return Sheet(header, ())
    t0, t1 = _stretch(session)
    names = {tensor.index: tensor.name for tensor in plan.tensors} if plan is not None else {}
    rows: list[tuple[SheetCell, ...]] = []
    for index in np.flatnonzero((blocks.start_ns < t1) & (blocks.end_ns > t0)).tolist():
        planned = int(blocks.planned_end_ns[index]) >= 0
        rows.append(
            (
                blocks.name(index), blocks.kinds[int(blocks.kind[index])], blocks.component, blocks.address(index),
                int(blocks.high[index] - blocks.low[index]), int(blocks.start_ns[index]), int(blocks.end_ns[index]),
                names.get(int(blocks.tensor[index])),
                int(blocks.planned_start_ns[index]) if planned else None,
                int(blocks.planned_end_ns[index]) if planned else None,
            )
        )  # fmt: skip
    return Sheet(header, rows)


def curves_sheet(curves: list[StepCurve]) -> Sheet:
    """Every point of the curves, one curve after another."""
    rows: list[tuple[SheetCell, ...]] = []
    for curve in curves:
        for time, value in zip(curve.time_ns.tolist(), curve.values.tolist(), strict=True):
            rows.append((curve.name, time, value if value >= 0 or curve.signed else None))
    return Sheet(("curve", "time_ns", "bytes"), rows)
