"""Memory over time, painted, and its tables."""
