"""`memplan mcp FOLDER...`: serve reports to assistants over the Model Context Protocol."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer


def command(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders that may be read; nothing outside them is.", show_default=False)
    ],
) -> None:
    """
    Serve plans, KV budgets, findings and comparisons to an assistant, on standard input and output.

    Nothing is written: what large traces are read into is kept in a folder of its own that goes when the server ends.
    """
    from memplan.assistants.server import assistant_server

    server = assistant_server(folders)
    with tempfile.TemporaryDirectory(prefix="memplan-mcp-") as scratch:
        os.environ["MEMPLAN_CACHE_DIR"] = scratch
        server.run()
