"""Memory over time: the planned map, the curves, the live tensors and the moves between tiers."""
