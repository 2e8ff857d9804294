"""The command line: one module a command, one place where errors end."""

from memplan.cli.app import main

__all__ = ["main"]
