"""Profiles whose kernels have no shapes, as of the lowest level: what their times tell instead."""
