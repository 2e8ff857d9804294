"""The compiled graph and what follows from it alone: lifetimes."""

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
