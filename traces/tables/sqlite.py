"""Reading the profilers' SQLite databases: read-only, by columns, with whatever columns a version has."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from copy import copy
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from memplan.core.distinct import distinct
from memplan.core.errors import CancelledError, InputError
from memplan.core.once import Once
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.traces.devices import DeviceShare
from memplan.traces.dictionary_array import DictionaryArray
from memplan.traces.notes import Notebook
from memplan.traces.tables.gzip_files import is_gzip

_ROWS = 1 << 14
_DAMAGES = (sqlite3.Error, OverflowError, UnicodeError)
"""What SQLite raises where a file is damaged: words of its schema may be no text."""
_CHECKED_BYTES = 16 * 1024 * 1024
_MOST_COPIED = 8 << 30
_STEPS = 1 << 20  # of SQLite's machine, between two looks at whether to stop


class Database:
    """
    One profiler database.

    It is opened as unchanging, so that SQLite writes nothing beside it. Raises `InputError` where the file is none.
    With a `share` only what is of that device is read of tables that tell devices.
    """

    def __init__(self, path: Path, notes: Notebook, share: DeviceShare | None = None) -> None:
        self._path = path
        self._share = share
        self._notes = notes
        self._progress: Progress = silent
        self._cut_short = False
        self._strings = Once(self._read_strings)
        if is_gzip(path):
            raise InputError("is packed", path=path, remedy="unpack it with gunzip")
        self._copy: TemporaryDirectory[str] | None = None
        try:
            file = self._finished() or path
            self._address = f"file:{quote(str(file.resolve()))}?mode=ro&immutable=1"
            with closing(self._connect()) as connection:
                self._tables = self._read_tables(connection)
        except (*_DAMAGES, OSError) as error:
            raise InputError("can't be read as an SQLite database ({})", error, path=path) from None
        if not self._tables:
            notes.add(path, "skipped: the database holds no tables")

    def _finished(self) -> Path | None:
        """
        A copy that holds what lies in a write-ahead log beside the database too; `None` where there is none.

        The journal of a change that was cut off is not obeyed: it may name other files, which SQLite would remove.
        """
        if _holds_bytes(self._path.with_name(self._path.name + "-journal")):
            self._notes.add(self._path, "a change to it was cut off (-journal): what it changed may be half done")
        log = self._path.with_name(self._path.name + "-wal")
        if not _holds_bytes(log):
            return None
        copy_of = TemporaryDirectory(prefix="memplan-")
        file = Path(copy_of.name) / self._path.name
        try:
            if self._path.stat().st_size > _MOST_COPIED:
                raise OSError("the database is too large to be copied")
            for source in (self._path, log):
                shutil.copyfile(source, file.with_name(source.name))
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (*_DAMAGES, OSError) as error:
            self._notes.add(
                self._path, Sentence("its write-ahead log (-wal) is not read ({}): what came last is missing", (error,))
            )
            return None
        self._copy = copy_of
        self._notes.tell(self._path, "read together with its write-ahead log (-wal): whoever wrote it did not close it")
        return file

    def note_damage(self) -> None:
        """Note that the file is damaged where SQLite finds so; files too large to be looked through soon are not."""
        with suppress(*_DAMAGES, OSError), closing(self._connect()) as connection:
            if self._path.stat().st_size <= _CHECKED_BYTES:
                found = [str(text) for (text,) in connection.execute("PRAGMA quick_check(1)")]
                if found != ["ok"]:
                    self._notes.add(self._path, "the database is damaged: rows may be missing or wrong")

    def watched(self, progress: Progress) -> Database:
        """The same database for one who waits: what is read through it reports to `progress`, which may stop it."""
        database = copy(self)
        database._progress = progress
        return database

    def _connect(self) -> sqlite3.Connection:
        """A connection for one reading: they share no state, so each has its own thread and its own progress."""
        connection = sqlite3.connect(self._address, uri=True)
        connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
        connection.execute("PRAGMA trusted_schema = OFF")
        if self._cut_short:
            # With this SQLite goes on where the file is shorter than it says; nothing is written, it is opened to read.
            connection.execute("PRAGMA writable_schema = ON")
        return connection

    def _read_tables(self, connection: sqlite3.Connection) -> dict[str, list[str]]:
        """Columns by table. Of a file that was cut short, whatever of it is there can be read; a note says so."""
        names = "SELECT name FROM sqlite_master WHERE type = 'table'"
        try:
            found = connection.execute(names).fetchall()
        except (sqlite3.DatabaseError, UnicodeError):
            self._cut_short = True
            connection.execute("PRAGMA writable_schema = ON")
            found = connection.execute(names).fetchall()
            self._notes.add(self._path, "the database was cut short: what is left of it is read")
        return {
            str(name): [str(column[1]) for column in connection.execute(f"PRAGMA table_info({_quoted(name)})")]
            for (name,) in found
        }

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def tables(self) -> Sequence[str]:
        """Names of the tables."""
        return list(self._tables)

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is a table of that name with all these columns."""
        there = {name.casefold() for name in self._columns(table)}
        return bool(there) and all(column.casefold() in there for column in columns)

    def _columns(self, table: str) -> Sequence[str]:
        """The columns of a table as the file calls them, none where it is absent; case doesn't matter, as in SQL."""
        if table in self._tables:
            return self._tables[table]
        return next((found for name, found in self._tables.items() if name.casefold() == table.casefold()), ())

    def numbers(self, table: str, *columns: str) -> list[NDArray[np.int64]]:
        """
        Whole numbers of a table by column, in its own order; -1 for NULL and for columns that it lacks.

        Alternatives are written `new|old`. An absent table has no rows.
        """
        parts = list(self.number_batches(table, *columns))
        if not parts:
            return [np.empty(0, dtype=np.int64) for _ in columns]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def number_batches(self, table: str, *columns: str) -> Iterator[Sequence[NDArray[np.int64]]]:
        """The columns that `numbers` gives, some tens of thousands of rows at a time."""
        wanted = [self._expression(table, column, "CAST({} AS INTEGER)") for column in columns]
        for block in self._blocks(table, wanted):
            part = np.fromiter(chain.from_iterable(block), np.int64, len(block) * len(columns))
            yield list(np.ascontiguousarray(part.reshape(-1, len(columns)).T))

    def measured(
        self, table: str, numbers: Sequence[str], quantities: Sequence[str]
    ) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]:
        """
        Columns of whole numbers, as `numbers` gives them, and of measured quantities, NaN where there is none.

        They are read together: of a damaged table two readings may get to different rows.
        """
        wanted = [self._expression(table, column, "CAST({} AS INTEGER)") for column in numbers]
        wanted += [self._expression(table, column, "CAST({} AS REAL)", "NULL") for column in quantities]
        kinds = [np.int64] * len(numbers) + [np.float64] * len(quantities)
        parts: list[list[NDArray[Any]]] = [[np.empty(0, dtype=kind)] for kind in kinds]
        # Block by block: all rows at once are as many objects of Python, and an array of them one long call.
        for block in self._blocks(table, wanted):
            for part, kind, column in zip(parts, kinds, zip(*block, strict=True), strict=True):
                part.append(np.array(column, dtype=kind))
        columns = [np.concatenate(part) for part in parts]
        return columns[: len(numbers)], columns[len(numbers) :]

    def texts(self, table: str) -> Mapping[str, Sequence[str]]:
        """All columns of a table as text, with string numbers resolved where the column holds such."""
        columns = self._columns(table)
        found: dict[str, list[str]] = {column: [] for column in columns}
        for block in self._rows(table, [_quoted(column) for column in columns]):
            for row in block:
                for column, value in zip(columns, row, strict=True):
                    found[column].append("" if value is None else str(value))
        return found

    def row(self, table: str, rowid: int) -> Mapping[str, object]:
        """One row by column; numbers of strings are resolved."""
        try:
            with closing(self._connect()) as connection:
                row = connection.execute(f"SELECT * FROM {_quoted(table)} WHERE rowid = ?", (rowid,)).fetchone()  # noqa: S608 - of quoted names
        except _DAMAGES:
            return {}
        columns = self._columns(table)
        return {
            column: self.strings.get(value, value) if column in _STRING_COLUMNS and isinstance(value, int) else value
            for column, value in zip(columns, row or (), strict=False)
            if value is not None
        }

    @property
    def strings(self) -> Mapping[int, str]:
        """Texts by number, from `STRING_IDS`; read once for all who watch."""
        return self._strings(self._progress)

    def _read_strings(self, progress: Progress) -> Mapping[int, str]:
        if not self.has("STRING_IDS", "id", "value"):
            return {}
        blocks = self.watched(progress)._rows("STRING_IDS", ['CAST("id" AS INTEGER)', '"value"'])
        return {int(number): str(text) for block in blocks for number, text in block if number is not None}

    def names(self, numbers: NDArray[np.int64], absent: str = "") -> DictionaryArray:
        """Texts of a column of string numbers; a number without a text stands for itself, -1 is `absent`."""
        found, codes = distinct(numbers)
        strings, told = self.strings, found.tolist()
        texts = [strings.get(number, str(number) if number >= 0 else absent) for number in told]
        if missing := sum(number >= 0 and number not in strings for number in told):
            self._notes.add(
                self._path, Sentence("{} [text is|texts are] missing: their numbers stand for them", (missing,))
            )
        return DictionaryArray(codes.astype(np.int32), texts)

    def enumeration(self, table: str) -> dict[int, str]:
        """Names by number of one of the `ENUM_...` tables; empty where there is none."""
        if not self.has(table, "id", "name"):
            return {}
        return {int(number): str(name) for block in self._rows(table, ["id", "name"]) for number, name in block}

    def _expression(self, table: str, column: str, cast: str, absent: str = "-1") -> str:
        present = {name.casefold() for name in self._columns(table)}
        found = next((name for name in column.split("|") if name.casefold() in present or name == "rowid"), None)
        if found is None:
            return absent
        value = cast.format(_quoted(found) if found != "rowid" else found)
        return value if absent == "NULL" else f"COALESCE({value}, {absent})"

    def ends(self, table: str, column: str, rows: int) -> Sequence[int]:
        """Distinct whole numbers in the first and the last `rows` rows of a column; what can't be read is left out."""
        found: dict[int, None] = {}
        with closing(self._connect()) as connection:
            for order in ("ASC", "DESC"):
                part = " ".join(("SELECT", _quoted(column), "FROM", _quoted(table), "ORDER BY rowid", order))
                with suppress(*_DAMAGES):
                    values = connection.execute(_DISTINCT.format(part), (rows,))
                    found.update(dict.fromkeys(int(value) for (value,) in values if isinstance(value, int)))
        return list(found)

    def _condition(self, table: str) -> str:
        """What chooses the rows of the device that is asked for, where a table tells devices or tasks do for it."""
        if self._share is None or table in _OF_ALL_DEVICES:
            return ""
        number, every = self._share.number, ", ".join(map(str, self._share.every))
        own = f"CAST(deviceId AS INTEGER) = {number}"
        if number == self._share.every[0]:
            own = f"({own} OR deviceId IS NULL OR CAST(deviceId AS INTEGER) NOT IN ({every}))"
        if self.has(table, "deviceId"):
            return f" WHERE {own}"
        if not self.has("TASK", "deviceId"):
            return ""
        tasks = _TASKS_OF_DEVICE.format(own)
        if self.has(table, "globalTaskId"):
            return f" WHERE globalTaskId IN ({tasks})"
        if self.has(table, "opId") and self.has("COMMUNICATION_TASK_INFO", "opId", "globalTaskId"):
            return f" WHERE opId IN ({_OPS_OF_TASKS.format(tasks)})"
        return ""

    def _rows(self, table: str, expressions: Sequence[str]) -> list[list[tuple[Any, ...]]]:
        """Rows of a table in blocks, all of them."""
        return list(self._blocks(table, expressions))

    def _blocks(self, table: str, expressions: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
        """Rows of a table block by block; a damaged table gives what can be read of it, with a note."""
        if not self._columns(table) or not expressions:
            return
        read = 0
        query = f"SELECT {', '.join(expressions)} FROM {_quoted(table)}{self._condition(table)}"  # noqa: S608 - of quoted names
        with closing(self._connect()) as connection:
            look = _Look(self._progress, f"rows of {table}")
            connection.set_progress_handler(look, _STEPS)
            try:
                cursor = connection.execute(query)
                while block := cursor.fetchmany(_ROWS):
                    read += len(block)
                    yield block
                    self._progress(read, 0, look.what)
            except _DAMAGES as error:
                look.raise_stop()
                # The block that failed is lost whole: its rows up to the damage come one by one.
                rest: list[tuple[Any, ...]] = []
                with suppress(*_DAMAGES):
                    for row in connection.execute(f"{query} LIMIT -1 OFFSET {read}"):
                        rest.append(row)  # noqa: PERF402 - what came before an error is kept
                look.raise_stop()
                if rest:
                    yield rest
                read += len(rest)
                self._notes.add(
                    self._path, Sentence("table {}: only {} [row|rows] could be read ({})", (table, read, error))
                )


def _holds_bytes(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


class _Look:
    """SQLite's look at whether to stop: what the progress raises would be an error of the database to it."""

    def __init__(self, progress: Progress, what: str) -> None:
        self.what = what
        self._progress = progress
        self._stop: CancelledError | None = None

    def __call__(self) -> int:
        try:
            self._progress(0, 0, self.what)
        except CancelledError as stop:
            self._stop = stop
        return self._stop is not None

    def raise_stop(self) -> None:
        """Raise what the progress raised, if it did."""
        if self._stop is not None:
            raise self._stop


_DISTINCT = "SELECT DISTINCT * FROM ({} LIMIT ?)"
_TASKS_OF_DEVICE = "SELECT globalTaskId FROM TASK WHERE {}"
_OPS_OF_TASKS = "SELECT opId FROM COMMUNICATION_TASK_INFO WHERE globalTaskId IN ({})"
_OF_ALL_DEVICES = frozenset({"STRING_IDS", "NPU_INFO"})
"""Tables that are read whole whatever device is asked for."""
_STRING_COLUMNS = frozenset(
    {
        "name", "taskType", "opType", "opName", "groupName", "algType", "component", "operatorName", "inputDtypes",
        "inputShapes", "inputFormats", "inputDataTypes", "outputFormats", "outputDataTypes", "outputShapes", "attrInfo",
    }
)  # fmt: skip


def _quoted(name: str) -> str:
    return '"' + str(name).replace('"', '""') + '"'
