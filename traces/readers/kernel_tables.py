"""
Kernels from `kernel_details.csv`, `op_summary_*.csv` or, failing these, `task_time_*.csv`.

The same columns go by several names: msprof writes `Op Name`, `OP Type`, `Task Type`, `Task Start Time(us)`, the
frameworks rename them; CANN 9 says `Block Num` for `Block Dim`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.sentence import Sentence
from memplan.traces.decimals import ABSENT
from memplan.traces.dictionary_array import DictionaryArray, RowIndex, dictionary_encoded, take_rows
from memplan.traces.far_times import far_note, far_times
from memplan.traces.file_kinds import FileKind, kind_by_name
from memplan.traces.notes import Notebook
from memplan.traces.profile import Kernels
from memplan.traces.tables.text_table import TextTable

_START = ("Start Time(us)", "Task Start Time(us)", "Task Start Time", "task_start(us)", "Start Time")
_DURATION = ("Duration(us)", "Task Duration(us)", "Task Duration", "task_time(us)", "Duration")
_NAMES = ("Name", "Op Name", "kernel_name")
_STEPS = ("Step Id", "Step ID")
UNUSED = frozenset(
    {
        "Model ID", "Model Id", "Model Name", "Task ID", "Task Id", "Mix Block Dim", "Mix Block Num",
        "HF32 Eligible", "Context ID", "Batch ID", "Infer ID", "Index ID",
    }
)  # fmt: skip
_DESCRIBING = UNUSED | frozenset(
    {
        *_START, *_DURATION, "Wait Time(us)", "Task Wait Time(us)", "Step Id", "Step ID", "Device_id", "Device ID",
        "Stream ID", "Stream Id", "Name", "Op Name", "Type",
        "OP Type", "OP State", "Accelerator Core", "Task Type", "Block Dim", "Block Num",
        "Input Shapes", "Input Data Types", "Input Formats", "Output Shapes", "Output Data Types", "Output Formats",
        "kernel_name",
        "kernel_type", "stream_id", "task_id", "task_stop(us)",
    }
)  # fmt: skip


_MOST_HEADERS = 20  # named in a note


def kernels_of(table: TextTable, notes: Notebook) -> Kernels | None:
    """The kernels of `table` in order of start; `None`, with a note, where its columns hold none."""
    start, duration = table.times_ns(*_START), table.times_ns(*_DURATION)
    if start is None or duration is None:
        missing = "start times" if start is None else "durations"
        listed = ", ".join(list(table.columns)[:_MOST_HEADERS]) + (
            ", ..." if len(table.columns) > _MOST_HEADERS else ""
        )
        notes.add(table.path, Sentence("no kernels read: no known column of {} among {}", (missing, listed)))
        return None
    valid = (start >= 0) & (duration >= 0)
    if dropped := table.rows - int(valid.sum()):
        line = int(np.flatnonzero(~valid)[0]) + 2
        notes.add(
            table.path,
            Sentence(
                "{} [row|rows] without a usable start and duration skipped (first: about line {})", (dropped, line)
            ),
        )
    far = far_times(start[valid], duration[valid])
    if far.any():
        notes.add(table.path, far_note(int(far.sum()), "kernels"))
        valid[np.flatnonzero(valid)[far]] = False
    if table.has_exponents(*_START):
        notes.add(table.path, "start times in exponent form have lost their last digits (saved by a spreadsheet?)")
    order: RowIndex = np.flatnonzero(valid)[np.argsort(start[valid], kind="stable")]
    if valid.all() and (start[1:] >= start[:-1]).all():
        order = slice(None)  # in order as it is, which spares copies
    if not table.has(*_NAMES):
        notes.add(table.path, "no known column of names: its kernels have none")
    if not table.has("Type", "OP Type") and kind_by_name(table.path.name) is FileKind.KERNELS:
        notes.add(table.path, "no known column of types: its kernels have none")
    _note_steps(table, notes)
    names = _texts(table, *_NAMES)
    return Kernels(
        start_ns=start[order],
        duration_ns=duration[order],
        wait_ns=_times(table, order, "Wait Time(us)", "Task Wait Time(us)"),
        step=_numbers(table, order, *_STEPS),
        stream=_numbers(table, order, "Stream ID", "Stream Id", "stream_id"),
        block_count=_numbers(table, order, "Block Dim", "Block Num"),
        name=take_rows(names, order),
        type=_encoded(table, order, "Type", "OP Type"),
        core=_encoded(table, order, "Accelerator Core", "Task Type", "kernel_type"),
        input_shapes=_unquoted(_encoded(table, order, "Input Shapes")),
        input_dtypes=_encoded(table, order, "Input Data Types"),
        output_shapes=_unquoted(_encoded(table, order, "Output Shapes")),
        output_dtypes=_encoded(table, order, "Output Data Types"),
        pmu=_counters(table, order),
        state=_where_there(table, order, "OP State"),
        input_formats=_where_there(table, order, "Input Formats"),
        output_formats=_where_there(table, order, "Output Formats"),
    )


def _note_steps(table: TextTable, notes: Notebook) -> None:
    """Tell of steps that are no numbers: their kernels are of no step."""
    steps = table.whole(1, *_STEPS)
    if steps is None or (steps >= 0).all():
        return
    unknown = set(dictionary_encoded(take_rows(table.text(*_STEPS), np.flatnonzero(steps < 0))).values) - ABSENT
    if unknown and (rows := int(sum(text in unknown for text in table.text(*_STEPS)))):
        notes.add(
            table.path,
            Sentence(
                "{} [kernel|kernels] in steps that are no numbers ({!r}): shown as of no step", (rows, min(unknown))
            ),
        )


def _counters(table: TextTable, order: RowIndex) -> dict[str, Floats]:
    """Every numeric column that does not describe the kernel, by its own header."""
    found = {}
    for header in table.columns:
        if header and header not in _DESCRIBING:
            values = table.floats(header)
            if not np.isnan(values).all() or ABSENT.issuperset(dictionary_encoded(table.columns[header]).values):
                found[header] = values[order]
    return found


def _texts(table: TextTable, *headers: str) -> Sequence[str]:
    """A column of text; where the table has none of `headers`, what it would say of a field that it leaves out."""
    found = table.find(*headers)
    return found if found is not None else DictionaryArray(np.zeros(table.rows, dtype=np.int32), ["N/A"])


def _encoded(table: TextTable, order: RowIndex, *headers: str) -> DictionaryArray:
    """A column of few distinct texts as numbers, which whoever groups kernels by it would make again each time."""
    return dictionary_encoded(_texts(table, *headers))[order]


def _where_there(table: TextTable, order: RowIndex, header: str) -> Sequence[str]:
    return _encoded(table, order, header) if table.has(header) else ()


def _times(table: TextTable, order: RowIndex, *headers: str) -> Int64s:
    found = table.times_ns(*headers)
    return found[order] if found is not None else np.full(table.rows, -1, dtype=np.int64)[order]


def _numbers(table: TextTable, order: RowIndex, *headers: str) -> Int64s:
    found = table.whole(1, *headers)
    return found[order] if found is not None else np.full(table.rows, -1, dtype=np.int64)[order]


def _unquoted(texts: DictionaryArray) -> DictionaryArray:
    """Shapes without the quotes that they have once more inside their field: `"4096,1024;1024;"`."""
    values = [text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text for text in texts.values]
    return DictionaryArray(texts.codes, values)
