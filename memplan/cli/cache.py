"""`memplan cache list` and `memplan cache clear`: the imported profiles in the user's cache directory."""

from __future__ import annotations

from datetime import datetime

import typer

from memplan.cli.console import YES, JsonOption, print_json, print_table
from memplan.core.units import format_bytes

app = typer.Typer(help="List or clear the imported profiles in the user's cache directory.", no_args_is_help=True)


@app.command("list")
def list_entries(as_json: JsonOption = False) -> int:
    """List the imported profiles: where they are from, how large the import is, and when it was made."""
    from memplan.traces.timeline.store import Store, cache_directory

    folder = cache_directory()
    entries = Store(folder).entries()
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "entries": [
                    {"sources": list(entry.sources), "bytes": entry.size, "created": int(entry.created)}
                    for entry in entries
                ],
            }
        )
        return YES
    rows = [
        (
            datetime.fromtimestamp(entry.created).strftime("%Y-%m-%d %H:%M"),
            format_bytes(entry.size),
            ", ".join(entry.sources),
        )
        for entry in entries
    ]
    total = format_bytes(sum(entry.size for entry in entries))
    print_table(
        f"{len(entries)} imported profiles, {total}, in {folder}", ("imported", "size", "from"), rows, right=(1,)
    )
    return YES


@app.command()
def clear(as_json: JsonOption = False) -> int:
    """Remove all imported profiles; they are imported again when next opened."""
    from memplan.traces.timeline.store import Store, cache_directory

    folder = cache_directory()
    freed = Store(folder).clear()
    if as_json:
        print_json({"folder": str(folder), "freed_bytes": freed})
    else:
        print(f"freed {format_bytes(freed)} in {folder}")
    return YES
