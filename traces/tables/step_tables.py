"""Steps as the profilers sum them up: `step_trace_time.csv`, and the same table in a database."""

from __future__ import annotations

from memplan.core.sentence import Sentence
from memplan.traces.decimals import ABSENT, nanoseconds, scaled
from memplan.traces.notes import Notebook
from memplan.traces.profile import StepTimes
from memplan.traces.tables.sqlite import Database
from memplan.traces.tables.text_table import TextTable

_REQUIRED = ("Computing", "Communication(Not Overlapped)", "Overlapped", "Communication", "Free")

_COLUMNS = {
    "step": "Step", "type": "Type", "index": "Index", "computing": "Computing", "overlapped": "Overlapped",
    "communication_not_overlapped": "Communication(Not Overlapped)", "communication": "Communication", "free": "Free",
    "stage": "Stage", "bubble": "Bubble", "preparing": "Preparing",
}  # fmt: skip


def step_table(database: Database, name: str) -> TextTable | None:
    """The step table `name` of a database, under the headers that it has in text; `None` where it has no rows."""
    columns = {_COLUMNS.get(column, column): texts for column, texts in database.texts(name).items()}
    rows = len(next(iter(columns.values()), ()))
    return TextTable(database.path, columns, rows) if rows else None


def iterations_of(table: TextTable, notes: Notebook) -> list[StepTimes]:
    """
    The iterations of a `step_trace` table of msprof: each ends at its `Iteration End` after its `Iteration Time`.

    Where the time is left out, as of a first iteration, it counts from the start of the forward pass.
    """
    number, end, time, forward = (
        table.integers("Iteration ID"), table.times_ns("Iteration End(us)"), table.times_ns("Iteration Time(us)"),
        table.times_ns("FP Start(us)"),
    )  # fmt: skip
    if number is None or end is None or (time is None and forward is None):
        notes.add(table.path, "skipped: no columns Iteration ID, Iteration End(us) and Iteration Time(us)")
        return []
    if time is None:
        notes.add(table.path, "no column of iteration times: each counts from the start of its forward pass")
    told_numbers = table.text("Iteration ID")
    told_times = table.text("Iteration Time(us)")
    steps = []
    for row in range(table.rows):
        last = int(end[row])
        length = int(time[row]) if time is not None else -1
        if length < 0 and told_times[row] not in ABSENT:
            notes.add(table.path, Sentence("row {}: its time is no number", (row + 2,)))
        if length < 0 and forward is not None and 0 <= forward[row] <= last:
            length = last - int(forward[row])
        if last < 0 or not 0 <= length <= last:
            notes.add(table.path, Sentence("row {} skipped: no usable end and time of an iteration", (row + 2,)))
            continue
        told = int(number[row])
        if told < 0 and told_numbers[row] not in ABSENT:
            notes.add(table.path, Sentence("row {}: its iteration is no number", (row + 2,)))
        steps.append(StepTimes(told if told >= 0 else None, start_ns=last - length, iteration_ns=length))
    return steps


def step_times_of(table: TextTable, notes: Notebook) -> list[StepTimes]:
    """The rows of a step-trace table, rounded to nanoseconds (the file's floats carry noise digits)."""
    if missing := [name for name in _REQUIRED if table.find(name) is None]:
        notes.add(table.path, Sentence("skipped: no column {}", (", ".join(missing),)))
        return []
    if not table.has("Step"):
        notes.add(table.path, "no column Step: its steps have no numbers")
    numbers = table.text("Step")
    steps = []
    for row in range(table.rows):
        times = {name: nanoseconds(column[row]) for name, column in table.columns.items()}
        required = [times[name] for name in _REQUIRED]
        known = [time for time in required if time is not None]
        if len(known) < len(required):
            notes.add(table.path, Sentence("row {} skipped: a time is missing", (row + 2,)))
            continue
        computing, not_overlapped, overlapped, communication, free = known
        number = scaled(numbers[row], 1)
        if number is None and numbers[row] not in ABSENT:
            notes.add(table.path, Sentence("row {}: its step is no number", (row + 2,)))
        steps.append(
            StepTimes(
                step=number,
                computing_ns=computing,
                communication_not_overlapped_ns=not_overlapped,
                overlapped_ns=overlapped,
                communication_ns=communication,
                free_ns=free,
                stage_ns=times.get("Stage"),
                bubble_ns=times.get("Bubble"),
                preparing_ns=times.get("Preparing"),
            )
        )
    return steps
