"""
CSV tables of the profilers, tolerantly: BOM, CRLF, trailing tabs and commas, ragged rows, odd bytes, gzip.

Spreadsheets of many places save them with semicolons or tabs and decimal commas, or as UTF-16: these are read as well.

The files are read as text, column by column; what the text means is for the callers, who know each file's units.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from memplan.core.errors import InputError, reason
from memplan.core.sentence import Sentence
from memplan.traces.decimals import ABSENT
from memplan.traces.notes import Notebook
from memplan.traces.tables.gzip_files import GZIP_MARK, is_gzip, most_unpacked
from memplan.traces.tables.text_table import TextTable

_LARGE = 8 * 1024 * 1024
_ROWS_AT_ONCE = 1 << 16
_MOST_COLUMNS = 4096
_LONGEST_FIELD = 16 * 1024 * 1024  # call stacks and shapes are long, but not that long


def open_source(path: Path) -> BinaryIO:
    """Open a source file for reading, unpacked when it is gzip; raises `InputError` where it can't be opened."""
    try:
        return cast(BinaryIO, gzip.open(path)) if is_gzip(path) else path.open("rb")
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from None


def read_table(path: Path, notes: Notebook, unused: frozenset[str] = frozenset()) -> TextTable | None:
    """
    Read the CSV file at `path`; `None`, with a note, where it holds no table.

    Rows that are shorter or longer than the header are repaired and counted in a note. Columns under `unused` headers
    may be left out.
    """
    form = _form_of(path)
    if not form.plain:
        _note_form(path, form, notes)
    elif _size(path) > _LARGE:
        from memplan.traces.tables.arrow_table import read_arrow_table  # brings Arrow, which a small file does without

        large = read_arrow_table(path, unused)
        if large is not None:
            return large
    elif (table := _regular_table(path)) is not None:
        return table
    return next(_patient_batches(path, form, notes), None)


def read_batches(path: Path, notes: Notebook, wanted: frozenset[str]) -> Iterator[TextTable]:
    """
    The `wanted` columns of the CSV file at `path` as `read_table` reads them, of a large file some rows at a time.

    A file without a table gives none, with a note.
    """
    done = 0
    if _size(path) <= _LARGE:
        table = read_table(path, notes)
        yield from () if table is None else (table,)
        return
    if (form := _form_of(path)).plain:
        from memplan.traces.tables.arrow_table import IrregularTableError, read_arrow_batches

        try:
            for part in read_arrow_batches(path, wanted):
                done += part.rows
                yield part
            return
        except IrregularTableError:
            pass  # the rest is read below
    else:
        _note_form(path, form, notes)
    yield from _patient_batches(path, form, notes, wanted, _ROWS_AT_ONCE, done)


def _patient_batches(
    path: Path,
    form: _Form,
    notes: Notebook,
    wanted: frozenset[str] | None = None,
    at_once: int | None = None,
    skipped: int = 0,
) -> Iterator[TextTable]:
    """
    The table at `path` without its first `skipped` rows, row for row: at once, or so many rows `at_once`.

    What is wrong with the file is noted before the last of it is given.
    """
    header: list[str] = []
    cells: list[list[str]] = []
    again = _Again(path, notes)
    rows = ragged = 0
    first_ragged = 0
    lines = _Lines(path, form)
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        for line, row in lines.rows():
            if not header:
                header = _header_of(row)
                if not header:
                    notes.add(path, "skipped: the first line is not a header")
                    return
                _note_twins(path, header, notes)
                continue
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            rows += 1
            if rows <= skipped or again.holds(row, header, cells, line):
                continue
            if len(row) != len(header) and any(cell.strip() for cell in row[len(header) :] or ["?"]):
                ragged += 1
                first_ragged = first_ragged or line
            cells.append(row if len(row) == len(header) else [*row[: len(header)], *[""] * (len(header) - len(row))])
            if len(cells) == at_once:
                yield _table_of(path, form, header, cells, wanted)
                cells = []
    except (csv.Error, EOFError, OSError, zlib.error) as error:
        notes.add(path, Sentence("stopped after {} [row|rows]: {}", (rows, error)))
    if not header:
        notes.add(path, "skipped: the file is empty")
        return
    if ragged:
        notes.add(
            path,
            Sentence(
                "{} [row|rows] (first: line {}) don't match the {} [column|columns]; repaired",
                (ragged, first_ragged, len(header)),
            ),
        )
    if not rows and not table_ends(path, 1 << 20)[0].endswith(("\n", "\r")):
        notes.add(path, "ends within its first line: its rows are missing")
    again.note()
    if lines.nuls:
        notes.add(path, "holds NUL bytes: what they replaced is missing")
    if lines.quotes % 2:
        notes.add(path, "a quote in it is never closed: lines after one may have become part of a field")
    if lines.replaced:
        notes.add(path, "holds bytes that are not UTF-8; they were replaced")
    yield _table_of(path, form, header, cells, wanted)


class _Again:
    """A table behind whose rows its header, and mostly the rows too, come again: two exports in one file."""

    def __init__(self, path: Path, notes: Notebook) -> None:
        self._path, self._notes = path, notes
        self._line = 0
        self._seen: set[tuple[str, ...]] = set()
        self._repeats = 0

    def holds(self, row: Sequence[str], header: Sequence[str], cells: Sequence[Sequence[str]], line: int) -> bool:
        """Whether `row`, which follows `cells`, is the header or, behind one that came again, an earlier row."""
        if row[0].strip() == header[0] and [cell.strip() for cell in row[: len(header)]] == header:
            self._line = self._line or line
            self._seen.update(map(tuple, cells))
            return True
        repeats = bool(self._line) and tuple(row) in self._seen
        self._repeats += repeats
        return repeats

    def note(self) -> None:
        """Say what came again."""
        if self._line:
            rows = f"{self._repeats} rows behind it that were there before are counted once"
            self._notes.tell(self._path, Sentence("its header comes again in line {}; {}", (self._line, rows)))


def _header_of(row: Sequence[str]) -> list[str]:
    """The names of the columns; none where they can't be such."""
    header = [name.strip() for name in row]
    while header and not header[-1]:
        header.pop()
    return header if len(header) <= _MOST_COLUMNS else []


def _note_twins(path: Path, header: Sequence[str], notes: Notebook) -> None:
    for place, name in enumerate(header):
        if name in header[:place]:
            notes.add(path, Sentence("column {!r} occurs twice; the first is used", (name,)))


def _table_of(
    path: Path, form: _Form, header: Sequence[str], cells: Sequence[Sequence[str]], wanted: frozenset[str] | None
) -> TextTable:
    """Rows of cells as columns of stripped text, numbers with decimal points."""
    columns: dict[str, Sequence[str]] = {}
    for place, name in enumerate(header):
        if name in columns or (wanted is not None and name not in wanted):
            continue
        column = [row[place].strip() for row in cells]
        columns[name] = _decimal_points(column) if form.separator != "," and "Shape" not in name else column
    return TextTable(path, columns, len(cells))


def table_ends(path: Path, size: int) -> tuple[str, str]:
    """The first and, of a file that is not packed, the last `size` bytes of a table as text; empty where unreadable."""
    try:
        with path.open("rb", buffering=0) as file:
            head, tail = file.read(size), b""
            if len(head) == size and not head.startswith(GZIP_MARK):
                file.seek(max(file.seek(0, io.SEEK_END) - size, size))
                tail = file.read(size)
        if head.startswith(GZIP_MARK):
            with gzip.open(path) as unpacked:
                head = unpacked.read(size)
    except (OSError, EOFError, zlib.error):
        return "", ""
    encoding = _encoding_of(head)
    return head.decode(encoding, errors="replace"), tail.decode(encoding, errors="replace")


def _regular_table(path: Path) -> TextTable | None:
    """A small file whose rows are all as long as its header, read at once; `None` where anything is out of the way."""
    try:
        if is_gzip(path):
            return None
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text or "\ufffd" in text or text.count('"') % 2:
            return None
        if (plain := _unquoted_columns(text)) is not None:
            return _named_columns(path, plain)
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (csv.Error, OSError, UnicodeDecodeError):
        return None
    if len(rows) < 2 or len(rows[0]) < 2 or len(set(map(len, rows))) != 1 or rows[0] in rows[1:]:
        return None
    return _named_columns(path, [_stripped(column) for column in zip(*rows, strict=True)])


_BLANKS = " \t\v\f\x1c\x1d\x1e\x1f"
_ANY_BLANK = f"{_BLANKS}\r\n".encode()


def _stripped(column: Sequence[str]) -> Sequence[str]:
    """The texts without surrounding blanks; most columns have none anywhere, which is soon seen."""
    everything = "".join(column)
    if everything.isascii() and len(everything.encode().translate(None, _ANY_BLANK)) == len(everything):
        return column
    return list(map(str.strip, column))


def _unquoted_columns(text: str) -> list[list[str]] | None:
    """The stripped columns of a table without quotes, headers first; `None` where it has any or is not regular."""
    lines = text.replace("\r\n", "\n").strip("\n")
    header, _, body = lines.partition("\n")
    if not body or "\n\n" in body or '"' in text or "\r" in lines or not text.isascii():
        return None
    width = header.count(",") + 1
    if width < 2 or f"\n{header}\n" in f"\n{body}\n" or not _commas_in_each(body, width - 1):
        return None
    # Tools end their times with a tab, so that spreadsheets take them for text.
    body = body.replace("\n", ",").replace("\t,", ",")
    cells = body.split(",")
    if any(blank in body for blank in _BLANKS):
        cells = list(map(str.strip, cells))
    return [[name.strip(), *cells[place::width]] for place, name in enumerate(header.split(","))]


def _commas_in_each(lines: str, count: int) -> bool:
    """Whether each line, ASCII, has `count` commas; asked of all at once, for there may be very many."""
    codes = np.frombuffer(f"{lines}\n".encode(), dtype=np.uint8)
    commas = np.searchsorted(np.flatnonzero(codes == ord(",")), np.flatnonzero(codes == ord("\n")))
    return bool((np.diff(commas, prepend=0) == count).all())


def _named_columns(path: Path, fields: Sequence[Sequence[str]]) -> TextTable | None:
    """A table of columns whose first cell is their header; `None` where two headers are one, or one is missing."""
    columns: dict[str, Sequence[str]] = {}
    for name, *column in fields:
        if name in columns or (not name and any(column)):
            return None
        columns[name] = column
    ends = list(columns)[-1]
    if not ends:
        del columns[ends]  # a comma at the end of every line
    return None if "" in columns else TextTable(path, columns, len(fields[0]) - 1)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a table is written; `told` where its first line says the separator (`sep=;`), as spreadsheets have it."""

    encoding: str = "utf-8-sig"
    separator: str = ","
    told: bool = False

    @property
    def plain(self) -> bool:
        return self == _Form()


_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_TOLD = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(?:,\d+)?(?:[eE][+-]?\d+)?")


def _form_of(path: Path) -> _Form:
    """The form of the table at `path`, by its first line: the separator that makes most columns of it."""
    try:
        with open_source(path) as raw:
            head = raw.read(1 << 16)
    except (OSError, EOFError, zlib.error):
        return _Form()
    encoding = _encoding_of(head)
    lines = head.decode(encoding, errors="replace").split("\n")
    first = lines[0].strip("\r")
    if told := _TOLD.fullmatch(first.strip() if "\t" not in first else first):
        return _Form(encoding, told.group(1) if told.group(1) in _SEPARATORS else ",", told=True)

    def columns(separator: str) -> int:
        try:
            return sum(bool(name.strip(" \t,;|")) for name in next(csv.reader([first], delimiter=separator), []))
        except csv.Error:
            return 0

    return _Form(encoding, max(_SEPARATORS, key=columns))


def _encoding_of(head: bytes) -> str:
    return "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _note_form(path: Path, form: _Form, notes: Notebook) -> None:
    if form.separator != ",":
        notes.tell(path, Sentence("separated by {}, not by commas: read so", (_SEPARATORS[form.separator],)))
    if form.encoding == "utf-16":
        notes.tell(path, "written as UTF-16: read so")


def _decimal_points(column: Sequence[str]) -> list[str]:
    """A column whose numbers have decimal commas with points instead; as it is where anything else is in it."""
    if all(text in ABSENT or _DECIMAL_COMMA.fullmatch(text) for text in column):
        return [text.replace(",", ".") for text in column]
    return list(column)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from None


class _Lines:
    """Rows of one file, and whether bytes had to be replaced on the way."""

    def __init__(self, path: Path, form: _Form) -> None:
        self._path = path
        self._form = form
        self.replaced = False
        self.quotes = 0
        self.nuls = False

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        with open_source(self._path) as raw:
            text = io.TextIOWrapper(raw, encoding=self._form.encoding, errors="replace", newline="")
            lines = self._clean(text)
            if self._form.told:
                next(lines, "")
            reader = csv.reader(lines, delimiter=self._form.separator)
            for row in reader:
                yield reader.line_num, row

    def _clean(self, text: io.TextIOWrapper) -> Iterator[str]:
        done, most = 0, most_unpacked(self._path)
        while line := text.readline(_LONGEST_FIELD):
            done += len(line)
            if done > most:
                raise InputError("unpacks to far more than a table of its size holds", path=self._path)
            self.quotes += line.count('"')
            if "\ufffd" in line:
                self.replaced = True
            if "\0" in line:
                self.nuls = True
                line = line.replace("\0", "")
            yield line
