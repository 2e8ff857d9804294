"""The compiled graph and what follows from it alone, lifetimes: each is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from memplan.graph.lifetime import Lifetime, lifetimes
    from memplan.graph.live import bytes_by_kind, live_curve
    from memplan.graph.model import DTYPE_BITS, Graph, Op, OpScope, Tensor, TensorKind, dense_bytes

__all__ = [
    "DTYPE_BITS",
    "Graph",
    "Lifetime",
    "Op",
    "OpScope",
    "Tensor",
    "TensorKind",
    "bytes_by_kind",
    "dense_bytes",
    "lifetimes",
    "live_curve",
]

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Lifetime", "lifetimes"), "memplan.graph.lifetime"),
        **dict.fromkeys(("bytes_by_kind", "live_curve"), "memplan.graph.live"),
        **dict.fromkeys(
            ("DTYPE_BITS", "Graph", "Op", "OpScope", "Tensor", "TensorKind", "dense_bytes"), "memplan.graph.model"
        ),
    },
)
