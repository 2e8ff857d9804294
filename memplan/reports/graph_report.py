"""What a compiled graph needs: its bytes by kind, its peak and what is alive there."""

from __future__ import annotations

from functools import partial
from typing import Any

from memplan.core.units import format_bytes
from memplan.graph import Graph
from memplan.graph.requirements import Alive, GraphSummary
from memplan.reports.charts import area_chart
from memplan.reports.report import Column, Part, Quantity, Remark, Report, ReportCell, ReportTable, section

_KINDS = (Column("kind"), Column("size", Quantity.BYTES, key="size"), Column("bytes", Quantity.COUNT))
_ALIVE = (
    Column("tensor"),
    Column("kind"),
    Column("shape"),
    Column("size", Quantity.BYTES),
    Column("steps"),
    Column("line"),
)


def graph_report(graph: Graph, summary: GraphSummary, top: int) -> Report:
    """`summary` of `graph` with the `top` largest tensors alive at its peak."""
    held: list[tuple[ReportCell, ...]] = [
        (kind.value, size, size) for kind, size in summary.bytes_by_kind.items() if size
    ]
    if summary.on_host_bytes:
        held.append(("kept on the host", summary.on_host_bytes, summary.on_host_bytes))
    peak: list[Part] = []
    if summary.peak_step is not None:
        peak = [
            f"peak {format_bytes(summary.peak_bytes)} at step {summary.peak_step} of {summary.ops}, "
            f"{graph.ops[summary.peak_step].name}; {format_bytes(summary.persistent_bytes)} of it stay throughout, "
            f"{format_bytes(summary.transient_peak_bytes)} is the most that comes and goes",
            area_chart(summary.curve, Quantity.BYTES, across="{} steps"),
        ]
        if summary.any_order_bytes is not None:
            peak.insert(
                1,
                f"in whatever order the {summary.streams} streams launch, {format_bytes(summary.any_order_bytes)} is "
                "the most that can exist together, scratch of ops left out",
            )
    shown = summary.alive_at_peak[:top]
    alive = ReportTable(_ALIVE, tuple(_row(item) for item in shown), total=len(summary.alive_at_peak))
    return Report(
        title=f"{graph.name}: {graph.origin}, by {graph.producer}",
        headline=f"{summary.ops:,} ops ({summary.kernels:,} kernels) on {summary.streams} stream(s), "
        f"{summary.tensors:,} tensors in {summary.storages:,} storages",
        sections=(
            section("Bytes by kind", ReportTable(_KINDS, tuple(held)), *peak),
            section("Alive at the peak, largest first", alive),
        ),
        notes=tuple(Remark(note) for note in graph.notes),
        document=partial(_document, graph, summary, top),
    )


def _row(item: Alive) -> tuple[ReportCell, ...]:
    shape = f"{item.dtype}[{','.join(map(str, item.shape))}]"
    name = item.made_by or item.name
    return name, item.kind.value, shape, item.nbytes, f"{item.start}-{item.end}", item.source


def _document(graph: Graph, summary: GraphSummary, top: int) -> dict[str, Any]:
    """Bytes and steps throughout."""
    return {
        "graph": graph.name,
        "origin": graph.origin,
        "producer": graph.producer,
        "ops": summary.ops,
        "kernels": summary.kernels,
        "tensors": summary.tensors,
        "storages": summary.storages,
        "streams": summary.streams,
        "op_types": dict(summary.op_types),
        "bytes_by_kind": {kind.value: size for kind, size in summary.bytes_by_kind.items()},
        "on_host_bytes": summary.on_host_bytes,
        "persistent_bytes": summary.persistent_bytes,
        "peak_bytes": summary.peak_bytes,
        "peak_step": summary.peak_step,
        "transient_peak_bytes": summary.transient_peak_bytes,
        "any_order_bytes": summary.any_order_bytes,
        "live_bytes": list(summary.curve),
        "alive_at_peak": [
            {
                "tensor": item.tensor,
                "name": item.name,
                "kind": item.kind.value,
                "shape": list(item.shape),
                "dtype": item.dtype,
                "bytes": item.nbytes,
                "start": item.start,
                "end": item.end,
                "made_by": item.made_by,
                "source": item.source,
            }
            for item in summary.alive_at_peak[:top]
        ],
        "notes": list(graph.notes),
    }
