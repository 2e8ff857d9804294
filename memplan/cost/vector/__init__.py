"""Vector kernels: elementwise work, norms, reductions, copies, gathers, optimisers."""

from memplan.cost.vector.kernel_work import VectorWork, vector_passes, vector_work
from memplan.cost.vector.pipe_time import VectorTime, vector_time

__all__ = ["VectorTime", "VectorWork", "vector_passes", "vector_time", "vector_work"]
