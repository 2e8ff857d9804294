"""`memplan cache list` and `memplan cache clear`: the imported profiles in the user's cache directory."""

from __future__ import annotations

import typer

from memplan.cli.reporting import reporting
from memplan.reports.report import Report

cache_app = typer.Typer(help="List or clear the imported profiles in the user's cache directory.", no_args_is_help=True)


@cache_app.command("list")
@reporting
def list_entries() -> Report:
    """List the imported profiles: where they are from, how large the import is, and when it was made."""
    from memplan.reports.kv.cache_report import cache_report
    from memplan.traces.timeline.store import Store, cache_directory

    folder = cache_directory()
    return cache_report(folder, Store(folder).entries())


@cache_app.command()
@reporting
def clear() -> Report:
    """Remove all imported profiles; they are imported again when next opened."""
    from memplan.core.units import format_bytes
    from memplan.traces.timeline.store import Store, cache_directory

    folder = cache_directory()
    freed = Store(folder).clear()
    return Report(
        title=f"freed {format_bytes(freed)} in {folder}",
        document=lambda: {"folder": str(folder), "freed_bytes": freed},
    )
