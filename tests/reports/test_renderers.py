"""One report in every format: the same figures, nothing lost, nothing of a name taken for markup."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.reports import (
    REPORT_FORMATS,
    Column,
    Figure,
    Figures,
    Quantified,
    Quantity,
    Remark,
    Report,
    ReportTable,
    Severity,
    format_of,
    render_report,
    section,
)
from memplan.reports.charts import area_chart, bar_chart
from memplan.schema import Source

HOSTILE = 'Default/a|b_c*<script src="http://x">'


def table(rows: int = 2, total: int | None = None) -> ReportTable:
    columns = (
        Column("op"),
        Column("time", Quantity.DURATION),
        Column("bytes", Quantity.BYTES),
        Column("of all", Quantity.SHARE),
        Column("unit", shown=False),
    )
    cells = [(f"{HOSTILE}{place}", 1_500 * place, None, 0.125, "ns") for place in range(1, rows + 1)]
    return ReportTable(columns, tuple(cells), "Ops", total)


REPORT = Report(
    title=f"What {HOSTILE} does",
    headline=Sentence("fits in {}", ("64.00 GiB",)),
    sections=(
        section(
            "Where the time goes",
            table(total=700),
            area_chart([1, 5, 2], Quantity.BYTES, across="{} steps"),
            bar_chart([(HOSTILE, 3e9)], Quantity.RATE),
            "A paragraph.",
        ),
        section("Totals", Figures((Figure("peak", 3 << 20, Quantity.BYTES, "of the tightest stage"),))),
    ),
    notes=(Remark("mind this", Severity.WARNING),),
    sources=(Source("data sheet", "page 3"),),
)


@pytest.mark.parametrize("form", ["table", "html", "md"])
def test_what_is_read_has_every_figure_with_its_unit(form: str) -> None:
    text = render_report(REPORT, form).replace("\\", "")
    for words in ("fits in 64.00 GiB", "1.500 µs", "3.000 µs", "12.5%", "3.00 MiB", "of the tightest stage", "2 of 700",
                  "A paragraph.", "warning", "mind this", "data sheet (page 3)"):  # fmt: skip
        assert words in text
    assert text.endswith("\n")


def test_json_and_csv_hold_raw_numbers_and_the_columns_that_are_not_shown() -> None:
    document = json.loads(render_report(REPORT, "json"))
    found = document["sections"][0]["parts"][0]
    assert found["total"] == 700
    assert found["rows"][0] == {
        "op": f"{HOSTILE}1", "time_ns": 1500, "bytes": None, "of_all_share": 0.125, "unit": "ns",
    }  # fmt: skip
    assert document["rests_on"] == [{"value": "data sheet", "note": "page 3"}]
    lines = list(csv.reader(render_report(REPORT, "csv").splitlines()))
    assert lines[0] == ["# Ops"]
    assert lines[1] == ["op", "time_ns", "bytes", "of_all_share", "unit"]
    assert lines[2] == [f"{HOSTILE}1", "1500", "", "0.125", "ns"]
    assert ["peak", str(3 << 20), "bytes", "of the tightest stage"] in lines


def test_csv_of_one_table_is_a_plain_file() -> None:
    lines = render_report(Report("", sections=(section("", table()),)), "csv").splitlines()
    assert lines[0] == "op,time_ns,bytes,of_all_share,unit"
    assert len(lines) == 3


def test_a_documents_own_json_is_kept() -> None:
    assert json.loads(render_report(Report("", document=lambda: [1, {"µ": None}]), "json")) == [1, {"µ": None}]


class Page(HTMLParser):
    """Tags, attributes, and whether all that opens closes."""

    VOID = frozenset({"meta", "br", "rect", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_a_page_loads_nothing_runs_nothing_and_fits_narrow_and_dark_screens() -> None:
    text = render_report(REPORT, "html")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {name for name, _ in page.attributes} & {"src", "href", "srcset", "onload", "onclick"}
    assert not re.search(r"@import|url\(", text)
    assert ("name", "viewport") in page.attributes
    assert "prefers-color-scheme: dark" in text
    assert page.tags.count("svg") == 2


def test_cells_of_wide_tables_carry_their_heads_for_narrow_screens() -> None:
    text = render_report(REPORT, "html")
    rows = re.findall(r"<tr>(<td.*?)</tr>", text)
    assert re.findall(r'data-head="([^"]*)"', rows[0]) == ["op", "time", "bytes", "of all"]
    assert '<td class="number none" data-head="bytes">' in rows[0]  # nothing to show: no line of the card
    narrow = ReportTable((Column("op"), Column("time", Quantity.DURATION)), (("add", 5),))
    page = render_report(Report(title="t", sections=(section("s", narrow),)), "html")
    assert "data-head=" not in page.split("<body>")[1]


def test_markdown_keeps_a_row_in_a_line_and_names_as_they_are() -> None:
    rows = [line for line in render_report(REPORT, "md").splitlines() if line.startswith("| Default")]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert all(r"a\|b\_c\*\<script" in row for row in rows)


def test_a_row_may_have_a_quantity_of_its_own() -> None:
    columns = (Column("what"), Column("change", Quantity.NUMBER))
    rows = (
        ("peak", Quantified(2048, Quantity.BYTES, signed=True)),
        ("busy", Quantified(-1500, Quantity.DURATION, signed=True)),
        ("share", Quantified(None, Quantity.SHARE)),
    )
    report = Report("", sections=(section("", ReportTable(columns, rows)),))
    assert "+2.00 KiB" in render_report(report, "table")
    assert "−1.500 µs" in render_report(report, "table")
    assert render_report(report, "csv").splitlines()[1:] == ["peak,2048", "busy,-1500", "share,"]


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="as many cells"):
        ReportTable((Column("a"),), ((1, 2),))


def test_formats_go_by_the_files_name_and_unknown_ones_are_refused() -> None:
    names = ("a.html", "a.HTM", "a.md", "a.csv", "a.json", "a.txt", "a")
    assert [format_of(Path(name)) for name in names] == ["html", "html", "md", "csv", "json", "table", "table"]
    assert set(REPORT_FORMATS) == {"table", "json", "html", "md", "csv"}
    with pytest.raises(InputError, match="pdf"):
        render_report(REPORT, "pdf")


def test_charts_keep_the_peak_of_many_values() -> None:
    values: list[Any] = [1] * 5000
    values[1234] = 1000
    drawing = area_chart(values, Quantity.COUNT, across="{} steps")
    assert drawing.text.count("█") == 1
    assert "1,000" in drawing.svg
    assert area_chart([], Quantity.COUNT, across="{} steps").svg == ""
