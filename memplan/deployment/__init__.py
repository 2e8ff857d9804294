"""Deployments of a model: cases to serve, what options do to them, and the layouts that a number of dies can take."""
