"""Training on paper: what a step keeps in memory, and what its recipe could change."""
