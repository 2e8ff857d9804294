"""Kernels as the cost model sees them, where they come from, and what each op type does."""
