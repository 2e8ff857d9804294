"""The timeline, painted."""
