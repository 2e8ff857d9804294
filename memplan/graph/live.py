"""How many bytes are alive at every step of the schedule."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from memplan.core.units import round_up
from memplan.graph.lifetime import lifetimes
from memplan.graph.model import Graph, TensorKind


def live_curve(
    graph: Graph,
    *,
    alignment: int = 1,
    kinds: Collection[TensorKind] | None = None,
    persistent: bool = True,
    workspace: bool = True,
) -> NDArray[np.int64]:
    """
    Bytes alive during each step: `len(graph.ops)` values.

    Every storage is rounded up to `alignment` bytes. `kinds` keeps only storages of those kinds, `persistent=False`
    leaves out what exists before the first step, `workspace=False` the scratch of the ops themselves.
    """
    change = np.zeros(len(graph.ops) + 1, dtype=np.int64)
    for span in lifetimes(graph):
        kind = graph.tensors[span.tensor].kind
        if (kinds is not None and kind not in kinds) or (kind.persistent and not persistent):
            continue
        size = round_up(span.nbytes, alignment)
        change[span.start] += size
        change[span.end] -= size
    curve = np.cumsum(change)[:-1]
    if workspace and (kinds is None or TensorKind.WORKSPACE in kinds):
        curve = curve + np.fromiter(
            (round_up(op.workspace_bytes, alignment) for op in graph.ops), dtype=np.int64, count=len(graph.ops)
        )
    return curve


def bytes_by_kind(graph: Graph) -> dict[TensorKind, int]:
    """Bytes of all storages of each kind together, whenever they are alive; workspace is the largest of any op."""
    total = dict.fromkeys(TensorKind, 0)
    for span in lifetimes(graph):
        total[graph.tensors[span.tensor].kind] += span.nbytes
    total[TensorKind.WORKSPACE] += max((op.workspace_bytes for op in graph.ops), default=0)
    return total
