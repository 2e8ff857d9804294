"""
The most bytes that must exist together under a partial order: a lower bound on any placement.

Storages of which none is over before another begins may all be alive at once, so their sizes add up. The heaviest
such set (a maximum-weight antichain) is found exactly: by Dilworth's theorem with weights it equals the least weight
of chains that cover every storage as often as its size, and that is a maximum flow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.graph.conflicts import Precedence

METHOD = "maximum-weight antichain (weighted Dilworth, by maximum flow)"


@dataclass(frozen=True, slots=True)
class Antichain:
    """`nbytes` is the weight of `storages`, which may all be alive together; no other such set is heavier."""

    nbytes: int
    storages: tuple[int, ...]
    method: str = METHOD


def heaviest_antichain(order: Precedence, sizes: tuple[int, ...] | None = None) -> Antichain:
    """
    The heaviest set of storages that are pairwise unordered.

    `sizes` replaces the storages' own bytes, for example by what an allocator rounds them up to.
    """
    import networkx as nx  # slow to import, and few graphs run on several streams

    weights = sizes if sizes is not None else order.nbytes
    count = len(order.storages)
    if not count:
        return Antichain(0, ())
    network = nx.DiGraph()
    total = sum(weights)
    for item in range(count):
        network.add_edge("source", ("out", item), capacity=weights[item])
        network.add_edge(("in", item), "sink", capacity=weights[item])
        # Passing through stands for the pairs that follow by transitivity.
        network.add_edge(("in", item), ("out", item), capacity=total)
    for earlier, later in _covering_pairs(order):
        network.add_edge(("out", earlier), ("in", later), capacity=total)
    flow, (reached, _) = nx.minimum_cut(network, "source", "sink", flow_func=nx.algorithms.flow.preflow_push)
    chosen = tuple(
        order.storages[item]
        for item in range(count)
        if ("out", item) in reached and ("in", item) not in reached and weights[item]
    )
    return Antichain(total - int(flow), chosen)


def _covering_pairs(order: Precedence) -> list[tuple[int, int]]:
    """Pairs of the order with nothing between them."""
    before = order.before
    # A successor that another successor precedes is reached through that one.
    numeric = before.astype(np.float32)
    between = (numeric @ numeric) > 0
    rows, columns = np.nonzero(before & ~between)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))
