"""Matrix products: which one a kernel computes, how it is tiled, and how long its tiles take."""

from memplan.cost.products.matmul_problem import MatmulProblem
from memplan.cost.products.tiling_search import Search, Tiling, given, search_tilings

__all__ = ["MatmulProblem", "Search", "Tiling", "given", "search_tilings"]
