"""What a view shows as a plain table, for CSV files and the clipboard."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from memplan.core.csv_rows import csv_rows

SheetCell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A header and rows under it; numbers stay numbers, with their unit in the header (`start_ns`, `size_bytes`)."""

    header: tuple[str, ...]
    rows: Sequence[tuple[SheetCell, ...]]

    def text(self, delimiter: str = ",") -> str:
        """The sheet as CSV, or as text that spreadsheets paste with a tab; an unknown value is an empty cell."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(csv_rows(self.rows))
        return out.getvalue()
