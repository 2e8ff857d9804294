"""The pair model: kernels aligned with the rows of a plan in their order, and how surely."""
