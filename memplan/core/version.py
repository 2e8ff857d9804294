"""The version of memplan, as plans and simulated profiles record it."""

MEMPLAN_VERSION = "0.1.0"
