"""The version of memplan, as plans and simulated profiles record it."""

VERSION = "0.1.0"
