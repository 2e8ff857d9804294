"""Buffers of one kernel on chip: do they fit, which can't coexist, asked for at which line, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from memplan.core.units import format_bytes
from memplan.placement.kernel_fit import Cut, ScopeFit
from memplan.readers.kernels.kernel_memory import KernelBuffer, KernelMemory
from memplan.reports.report import Column, Part, Quantity, Report, ReportTable, section

_LISTED = 20

_SCOPES = (
    Column("memory"),
    Column("capacity", Quantity.BYTES),
    Column("compiler", Quantity.BYTES, key="compiler_bytes"),
    Column("alive at once", Quantity.BYTES, key="bound_bytes"),
    Column("packed", Quantity.BYTES, key="packed_bytes"),
    Column("", key="verdict"),
)
_BUFFERS = (
    Column("buffer"),
    Column("size", Quantity.BYTES),
    Column("copies", Quantity.COUNT),
    Column("shape"),
    Column("ticks"),
    Column("line"),
)


def kernel_memory_report(memory: KernelMemory, fits: Sequence[ScopeFit]) -> Report:
    """`memory` judged as `fits` says; the answer is no where a memory is exceeded or its compiler failed."""
    rows = tuple(
        (fit.scope.name or "unknown", fit.capacity, fit.planned, fit.bound, fit.packed, _verdict(fit)) for fit in fits
    )
    sections = [section("Memories", ReportTable(_SCOPES, rows), *memory.notes)]
    sections += [section(fit.scope.name, *_said(fit)) for fit in fits if fit.scope.buffers or fit.scope.source]
    count = sum(len(fit.scope.buffers) for fit in fits)
    return Report(
        title=f"{memory.kernel or 'a kernel'}, by {memory.producer}: {count} buffers in {len(fits)} memories",
        sections=tuple(sections),
        answer=all(fit.fits is not False and not fit.scope.failed for fit in fits),
        document=partial(_document, memory, fits),
    )


def _verdict(fit: ScopeFit) -> str:
    if fit.capacity is None:
        return "capacity unknown"
    if fit.fits is None:
        return "fits only with results over operands" if fit.bound is not None else "unknown"
    if not fit.fits:
        least = fit.bound if fit.bound is not None else fit.scope.needed
        return "too much" if least is None else f"{format_bytes(least - fit.capacity)} too much"
    return "fits; the compiler found no placement" if fit.scope.failed else "fits"


def _said(fit: ScopeFit) -> Iterator[Part]:
    if fit.scope.source is not None:
        yield f"overflow at {fit.scope.source}"
    if not fit.scope.buffers:
        return
    table = ReportTable(_BUFFERS, tuple(_row(buffer) for buffer in fit.alive[:_LISTED]))
    together = sum(buffer.size * buffer.copies for buffer in fit.alive)
    yield f"{len(fit.alive)} buffers are alive at tick {fit.tick}, {format_bytes(together)} together:"
    yield table
    if len(fit.alive) > _LISTED:
        yield f"{len(fit.alive) - _LISTED} smaller ones are left out"
    if fit.capacity is not None and together > fit.capacity:
        yield _beyond(fit.alive, fit.capacity)
    if fit.sharing:
        yield f"{fit.sharing} pairs share addresses while both are alive: results over operands, or an error"
    if fit.cuts:
        yield "What would fit:"
        yield from (f"- {_cut(cut)}" for cut in fit.cuts)
    elif fit.fits is False:
        yield "Neither one copy of each buffer nor a smaller tile along one dimension is enough."


def _beyond(alive: Sequence[KernelBuffer], capacity: int) -> str:
    """The fewest of the largest buffers that together exceed `capacity` bytes, as all of them do."""
    sums = list(accumulate(buffer.size * buffer.copies for buffer in alive))
    least = 1 + sum(total <= capacity for total in sums)
    size, limit = format_bytes(sums[least - 1]), format_bytes(capacity)
    if least == 1:
        return f"{alive[0].name} alone, all copies, has {size} of {limit}."
    names = [buffer.name for buffer in alive[:least]]
    named = f"{', '.join(names[:-1])} and {names[-1]}" if least <= _LISTED else f"The {least} largest of them"
    return f"{named} can't coexist: together they have {size} of {limit}."


def _row(buffer: KernelBuffer) -> tuple[str | int | None, ...]:
    shape = "x".join(map(str, buffer.shape)) or None
    name = f"{buffer.name} (by the compiler)" if buffer.temporary else buffer.name
    return name, buffer.size, buffer.copies, shape, f"{buffer.start}-{buffer.end}", buffer.source


def _cut(cut: Cut) -> str:
    if cut.before is None:
        return f"one copy each of {cut.buffers} buffers that have several (multibuffer off): {format_bytes(cut.peak)}"
    return f"{cut.after} in place of {cut.before} in {cut.buffers} buffers: {format_bytes(cut.peak)}"


def _document(memory: KernelMemory, fits: Sequence[ScopeFit]) -> dict[str, Any]:
    return {
        "kernel": memory.kernel,
        "producer": memory.producer,
        "notes": list(memory.notes),
        "memories": [
            {
                "memory": fit.scope.name, "capacity": fit.capacity, "failed": fit.scope.failed,
                "needed": fit.scope.needed, "planned": fit.planned, "bound": fit.bound, "packed": fit.packed,
                "fits": fit.fits, "tick": fit.tick, "source": fit.scope.source, "sharing": fit.sharing,
                "alive": [
                    {
                        "name": buffer.name, "bytes": buffer.size, "copies": buffer.copies,
                        "shape": list(buffer.shape), "start": buffer.start, "end": buffer.end,
                        "source": buffer.source, "temporary": buffer.temporary,
                    }
                    for buffer in fit.alive
                ],
                "cuts": [
                    {"before": cut.before, "after": cut.after, "buffers": cut.buffers, "peak": cut.peak}
                    for cut in fit.cuts
                ],
            }
            for fit in fits
        ],
    }  # fmt: skip
