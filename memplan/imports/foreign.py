"""Plans that other planners made, as Plans of ours: their addresses, our lower bound beside them."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from memplan.core.version import MEMPLAN_VERSION
from memplan.graph import Graph, Lifetime, lifetimes
from memplan.graph.antichain import METHOD, heaviest_antichain
from memplan.graph.conflicts import precedence
from memplan.schema import Bound, Placement, Plan, PlannedOp, PlanOrigin, Source, Tier, TierUse
from memplan.schema.check import checked
from memplan.schema.storages import planned_tensor

_MOST_PAIRS = 3_000
"""Storages up to which the bound is found over the partial order of the streams."""


def foreign_plan(
    graph: Graph,
    offsets: Mapping[int, int | None],
    sizes: Mapping[int, int],
    *,
    allocator: str,
    notes: tuple[str, ...] = (),
    unnamed: Set[int] = frozenset(),
) -> Plan:
    """
    The Plan that puts the storages of `graph` at `offsets`, each taking `sizes` bytes (alignment included).

    Storages that are not in `offsets` are allocated elsewhere and left out; an offset of `None` means that the address
    is not known, and then the peak is the most bytes alive. At `unnamed` steps it is not known what runs. A foreign
    plan says nothing of time: every step counts one nanosecond, so that the time axis is the order.
    """
    spans = [span for span in lifetimes(graph) if span.tensor in offsets and sizes.get(span.tensor)]
    placements = tuple(
        Placement(span.tensor, Tier.HBM, offsets[span.tensor], sizes[span.tensor], span.start, span.end)
        for span in spans
    )
    change = np.zeros(len(graph.ops) + 1, dtype=np.int64)
    for span in spans:
        change[span.start] += sizes[span.tensor]
        change[span.end] -= sizes[span.tensor]
    alive = np.cumsum(change)[:-1]
    ends = [place.offset + place.size for place in placements if place.offset is not None]
    peak = max(ends) if ends and len(ends) == len(placements) else int(alive.max(initial=0))
    bound, method = _bound(graph, spans, sizes, int(alive.max(initial=0)))
    return checked(
        Plan(
            origin=PlanOrigin(graph.name, graph.origin, None, graph.producer),
            chip="unknown",
            memplan_version=MEMPLAN_VERSION,
            ops=tuple(
                PlannedOp(
                    op.index,
                    op.name,
                    op.type,
                    op.stream,
                    op.index,
                    1,
                    0,
                    Bound.UNKNOWN,
                    0,
                    0,
                    op.source,
                    launches=None if op.index in unnamed else op.launches,
                )
                for op in graph.ops
            ),
            tensors=tuple(planned_tensor(graph, span) for span in spans),
            placements=placements,
            transfers=(),
            tiers=(
                TierUse(
                    tier=Tier.HBM,
                    capacity=None,
                    reserved=0,
                    persistent=0,
                    peak=peak,
                    peak_step=int(alive.argmax()) if alive.size and peak else None,
                    lower_bound=bound,
                    lower_bound_method=method,
                ),
            ),
            links=(),
            fits=True,
            missing_bytes=0,
            makespan_ns=len(graph.ops),
            allocator=allocator,
            rests_on=(
                Source(allocator, f"addresses as written in {graph.origin}; one nanosecond stands for one step"),
            ),
            notes=(*graph.notes, *notes, "weights and what is allocated elsewhere have no address in this file"),
            timed=False,
        )
    )


def _bound(graph: Graph, spans: list[Lifetime], sizes: Mapping[int, int], in_order: int) -> tuple[int, str]:
    """The most bytes that must exist together: over the order of the streams where that can be afforded."""
    if len({op.stream for op in graph.ops}) <= 1 or len(spans) > _MOST_PAIRS:
        return in_order, "bytes alive in order"
    order = precedence(graph)
    chain = heaviest_antichain(order, tuple(sizes.get(storage, 0) for storage in order.storages))
    return chain.nbytes, METHOD
