"""Memory over time: the planned map and the curves."""
