"""What `cluster_analysis_output` says of each rank: its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memplan.core.progress import Progress, silent
from memplan.traces.notes import Notebook
from memplan.traces.tables.csv_table import read_table
from memplan.traces.tables.sqlite import Database
from memplan.traces.tables.step_tables import step_table
from memplan.traces.tables.text_table import TextTable


def steps_by_rank(paths: Sequence[Path], notes: Notebook, progress: Progress = silent) -> dict[int, TextTable]:
    """The rows of each rank in a `cluster_step_trace_time.csv` or the same table of a `cluster_analysis.db`."""
    found: dict[int, TextTable] = {}
    for path in paths:
        table = _database_table(path, notes, progress) if path.suffix == ".db" else read_table(path, notes)
        kinds, ranks = (table.find("Type"), table.find("Index")) if table is not None else (None, None)
        if table is None or kinds is None or ranks is None:
            notes.add(path, "skipped: no columns Type and Index")
            continue
        rows: dict[int, list[int]] = {}
        for row, (kind, rank) in enumerate(zip(kinds, ranks, strict=True)):
            if kind == "rank" and rank.isascii() and rank.isdigit() and len(rank) < 8:
                rows.setdefault(int(rank), []).append(row)
        for number, own in rows.items():
            columns = {header: [column[row] for row in own] for header, column in table.columns.items()}
            found.setdefault(number, TextTable(path, columns, len(own)))
    return found


def _database_table(path: Path, notes: Notebook, progress: Progress) -> TextTable | None:
    return step_table(Database(path, notes).watched(progress), "ClusterStepTraceTime")
