"""What a graph needs, at a glance: bytes by kind, the live curve and who is alive at its peak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from memplan.core.units import round_up
from memplan.graph.antichain import heaviest_antichain
from memplan.graph.conflicts import precedence
from memplan.graph.lifetime import lifetimes
from memplan.graph.live import bytes_by_kind, live_curve
from memplan.graph.model import Graph, TensorKind

_MOST_COMPARED = 2000
"""Storages of a graph whose order of launches is left open: some seconds of CPU."""


@dataclass(frozen=True, slots=True)
class Alive:
    """
    A storage that exists at the peak: its name, kind, shape and dtype, bytes and steps `[start, end)`.

    `made_by` is the scope name of the op that first writes it and `source` the user's line; both `None` for what
    exists before the graph starts.
    """

    tensor: int
    name: str
    kind: TensorKind
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    start: int
    end: int
    made_by: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """
    Counts, bytes by kind and the peak of a graph run in order.

    `bytes_by_kind` counts every storage once, whenever it is alive; workspace is that of the neediest op.
    `peak_bytes` is the most alive during any step, persistent storages and workspace included, at `peak_step`;
    `transient_peak_bytes` leaves out what exists before the first step. `any_order_bytes` is the most that can exist
    together in whatever order launches come that the streams and the data between them allow, scratch of ops left out;
    `None` of a graph on one stream, whose order is fixed, and of one with too many storages to compare. `curve` has one
    value a step. `alive_at_peak` lists what comes and goes before what stays, each by size.
    """

    ops: int
    kernels: int
    tensors: int
    storages: int
    streams: int
    op_types: Mapping[str, int]
    bytes_by_kind: Mapping[TensorKind, int]
    on_host_bytes: int
    persistent_bytes: int
    peak_bytes: int
    peak_step: int | None
    transient_peak_bytes: int
    any_order_bytes: int | None
    curve: tuple[int, ...]
    alive_at_peak: tuple[Alive, ...]


def summarise(graph: Graph, *, alignment: int = 1) -> GraphSummary:
    """Summarise `graph`; storages are rounded up to `alignment` bytes in the curve and the peaks."""
    spans = lifetimes(graph)
    by_kind = bytes_by_kind(graph)
    curve = live_curve(graph, alignment=alignment)
    transient = live_curve(graph, alignment=alignment, persistent=False)
    persistent = sum(size for kind, size in by_kind.items() if kind.persistent)
    streams = len({op.stream for op in graph.ops})
    compared = streams > 1 and len(spans) <= _MOST_COMPARED
    step = int(curve.argmax()) if curve.size else None
    alive = [span for span in spans if step is not None and span.start <= step < span.end]
    alive.sort(key=lambda span: (graph.tensors[span.tensor].kind.persistent, -span.nbytes, span.tensor))
    return GraphSummary(
        ops=len(graph.ops),
        kernels=sum(op.launches for op in graph.ops),
        tensors=len(graph.tensors),
        storages=len(spans),
        streams=streams,
        op_types=dict(Counter(op.type for op in graph.ops if op.launches).most_common()),
        bytes_by_kind=by_kind,
        on_host_bytes=sum(t.nbytes for t in graph.tensors if t.on_host and t.storage == t.index),
        persistent_bytes=persistent,
        peak_bytes=int(curve.max(initial=0)),
        peak_step=step,
        transient_peak_bytes=int(transient.max(initial=0)),
        any_order_bytes=persistent + _together(graph, alignment) if compared else None,
        curve=tuple(curve.tolist()),
        alive_at_peak=tuple(_alive(graph, span.tensor, span.nbytes, span.start, span.end) for span in alive),
    )


def _together(graph: Graph, alignment: int) -> int:
    """The most bytes that come and go and can exist together, each storage rounded up."""
    order = precedence(graph)
    return heaviest_antichain(order, tuple(round_up(size, alignment) for size in order.nbytes)).nbytes


def _alive(graph: Graph, index: int, nbytes: int, start: int, end: int) -> Alive:
    tensor = graph.tensors[index]
    maker = graph.ops[tensor.producer] if tensor.producer is not None else None
    return Alive(
        tensor=index,
        name=tensor.name,
        kind=tensor.kind,
        shape=tensor.shape,
        dtype=tensor.dtype,
        nbytes=nbytes,
        start=start,
        end=end,
        made_by=maker.name if maker else None,
        source=maker.source if maker else None,
    )
