"""What `cluster_analysis_output` says of each rank: its steps, where the ranks' own directories are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from memplan.core.progress import silent
from memplan.traces.readers.sqlite import Database
from memplan.traces.notes import Notebook
from memplan.traces.readers.partial import PartReader
from memplan.traces.profile import StepTimes
from memplan.traces.step_times import steps_of
from memplan.traces.readers.csv_table import Table, read_table

_COLUMNS = {
    "step": "Step", "type": "Type", "index": "Index", "computing": "Computing", "overlapped": "Overlapped",
    "communication_not_overlapped": "Communication(Not Overlapped)", "communication": "Communication", "free": "Free",
    "stage": "Stage", "bubble": "Bubble", "preparing": "Preparing",
}  # fmt: skip


def steps_by_rank(paths: Sequence[Path], notes: Notebook) -> dict[int, Table]:
    """The rows of each rank in a `cluster_step_trace_time.csv` or the same table of a `cluster_analysis.db`."""
    found: dict[int, Table] = {}
    for path in paths:
        table = _database_table(path, notes) if path.suffix == ".db" else read_table(path, notes)
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
            found.setdefault(number, Table(path, columns, len(own)))
    return found


def _database_table(path: Path, notes: Notebook) -> Table | None:
    columns = Database(path, notes, silent).texts("ClusterStepTraceTime")
    renamed: Mapping[str, Sequence[str]] = {_COLUMNS.get(name, name): texts for name, texts in columns.items()}
    return Table(path, renamed, len(next(iter(renamed.values())))) if renamed else None


class ClusterReader(PartReader):
    """The steps of one rank."""

    def __init__(self, steps: Table, notes: Notebook) -> None:
        super().__init__(notes)
        self._table = steps

    def steps(self) -> list[StepTimes]:
        return steps_of(self._table, self._notes)
