"""What a training step takes on a pipeline stage, part by part, and what would make twice as much fit."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from memplan.core.units import format_bytes
from memplan.models.training.device_memory import DeviceMemory
from memplan.models.training.memory import TrainingMemory
from memplan.models.training.recipes import Change
from memplan.reports.charts import bar_chart
from memplan.reports.report import Column, Quantity, Remark, Report, ReportTable, section

_PARTS = (Column("part"), Column("size", Quantity.BYTES), Column("follows from"))
_WAYS = (Column("way"), Column("peak", Quantity.BYTES))


def training_report(
    where: str,
    memory: TrainingMemory,
    tightest: TrainingMemory,
    capacity: int,
    largest: int,
    ways: tuple[Change, ...],
    shown: DeviceMemory,
) -> Report:
    """
    `memory` of the stage that is shown and of the `tightest` one, of `capacity` bytes; `shown` is what the device shows
    of the first.

    Where it fits, `largest` is the largest micro-batch and `ways` are those to train with twice that many; where it
    does not, they are ways to fit. `where` names model, chip and layout.
    """
    left = capacity - tightest.peak_bytes
    fits = left >= 0
    if fits:
        answer = f"fits: {format_bytes(left)} of {format_bytes(capacity)} are left; largest micro-batch {largest:,}"
        goal = f"To train with a micro-batch of {2 * largest}"
    else:
        answer, goal = f"does not fit: {format_bytes(-left)} over {format_bytes(capacity)}", "To fit"
    low, high = (format_bytes(size) for size in memory.interval_bytes)
    taken = " and ".join(format_bytes(size) for size in memory.reserved_interval_bytes)
    device = " and ".join(format_bytes(size) for size in (shown.low_bytes, shown.high_bytes))
    communicators = f"{shown.fewest} to {shown.most} communicators" if shown.most else "no communicator"
    between = " and ".join(format_bytes(size) for size in memory.between_interval_bytes)
    parts = tuple((part.name, part.nbytes, part.formula) for part in memory.parts)
    found = ReportTable(_WAYS, tuple((way.what, way.memory.peak_bytes) for way in ways))
    none = "neither recomputation nor optimiser states on the host suffice"
    return Report(
        title=f"{where}, stage {memory.stage}: {format_bytes(memory.peak_bytes)} at the peak",
        headline=answer,
        sections=(
            section(
                "",
                ReportTable(_PARTS, parts),
                bar_chart([(part.name, part.nbytes) for part in memory.parts], Quantity.BYTES),
                f"peak in: {memory.phase}; {memory.parameters:,} parameters on the rank; "
                f"{format_bytes(memory.between_steps)} stay between steps; of public runs that nobody had looked at "
                f"four of five with this prediction peak between {low} and {high}, for which their allocator has taken "
                f"between {taken}, and keep between {between}; {shown.tool} shows between {device}, with the context "
                f"and the buffers of {communicators}",
            ),
            section(goal, found if ways else none),
        ),
        notes=tuple(Remark(note) for note in memory.notes),
        answer=fits,
        document=partial(_document, memory, capacity, fits, largest, ways, shown),
    )


def _document(
    memory: TrainingMemory,
    capacity: int,
    fits: bool,
    largest: int,
    ways: tuple[Change, ...],
    shown: DeviceMemory,
) -> dict[str, Any]:
    return {
        "peak_bytes": memory.peak_bytes,
        "capacity_bytes": capacity,
        "fits": fits,
        "stage": memory.stage,
        "parameters": memory.parameters,
        "phase": memory.phase,
        "interval_bytes": list(memory.interval_bytes),
        "reserved_interval_bytes": list(memory.reserved_interval_bytes),
        "device_interval_bytes": [shown.low_bytes, shown.high_bytes],
        "between_steps_bytes": memory.between_steps,
        "between_interval_bytes": list(memory.between_interval_bytes),
        "parts": [dataclasses.asdict(part) for part in memory.parts],
        "largest_micro_batch": largest,
        "ways": [
            {"what": way.what, "peak_bytes": way.memory.peak_bytes, "micro_batch": way.recipe.micro_batch}
            for way in ways
        ],
        "notes": list(memory.notes),
    }
