"""Columns of tables read at once: what they hold is what each cell says, however quickly it is read."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.traces.decimals import number, scaled
from memplan.traces.notes import Notebook
from memplan.traces.tables.csv_table import read_table
from memplan.traces.tables.text_table import TextTable

PLAIN = st.one_of(st.just(""), st.from_regex(r"[0-9]{1,16}(\.[0-9]{1,12})?", fullmatch=True))
ODD = st.one_of(
    PLAIN, st.from_regex(r"[0-9]{1,19}(\.[0-9]{0,13})?", fullmatch=True),
    st.sampled_from(["N/A", "1e3", "-1.5", ".5", "9223372036854775807", "9223372036854775.807",
                     "9223372036854775.8075"]),
)  # fmt: skip
FACTORS = st.sampled_from([1, 1000, 1024, 1024 * 1000, 1 << 20, 1 << 22])
CELLS = st.text(st.sampled_from("ab1. \t\v:-"), max_size=4)


@given(texts=st.one_of(st.lists(PLAIN, max_size=6), st.lists(ODD, max_size=6)), factor=FACTORS)
def test_a_column_of_numbers_is_each_of_them(texts: list[str], factor: int) -> None:
    table = TextTable(Path("t.csv"), {"a": texts}, len(texts))
    each = [-1 if (value := scaled(text, factor)) is None else value for text in texts]
    whole = table.whole(factor, "a")
    assert whole is not None
    assert whole.tolist() == each
    np.testing.assert_array_equal(table.floats("a"), [number(text) for text in texts])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@given(
    rows=st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=4)),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_quotes_change_nothing(folder: Path, rows: list[list[str]], ending: str) -> None:
    header = [f"column {place}" for place in range(len(rows[0]) if rows else 2)]
    read = []
    for quoting in (csv.QUOTE_NONE, csv.QUOTE_ALL):
        text = io.StringIO()
        csv.writer(text, quoting=quoting, quotechar='"' if quoting else None, lineterminator=ending).writerows(
            [header, *rows]
        )
        path = folder / "table.csv"
        path.write_text(text.getvalue(), newline="")
        table = read_table(path, Notebook(folder))
        assert table is not None
        read.append(({name: list(column) for name, column in table.columns.items()}, table.rows))
    assert read[0] == read[1]
