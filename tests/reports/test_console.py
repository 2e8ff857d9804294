"""Tables of a terminal: as wide as it is, numbers whole, nothing in a name that steers it."""

from __future__ import annotations

import io
import os
import shutil
import sys

import pytest

from memplan.reports import Column, Quantity, Report, ReportTable, render_report, section
from memplan.reports.renderers.render_console import print_report
from memplan.reports.report import Drawing, ReportSection

_COLUMNS = (Column("what"), Column("time", Quantity.DURATION), Column("where"))


def _report(*rows: tuple[str, int, str]) -> Report:
    return Report("Title", sections=(section("Part", ReportTable(_COLUMNS, rows)),))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _printed(monkeypatch: pytest.MonkeyPatch, report: Report, width: int) -> list[str]:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((width, 24)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_report(report)
    return screen.getvalue().splitlines()


def test_text_gives_way_where_the_terminal_is_narrow_and_numbers_never(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "a sentence that is longer than what there is room for beside its numbers"
    lines = _printed(monkeypatch, _report((words, 1_234_567_890, "here"), ("short", 5, "there")), 60)
    assert lines[0] == "\033[1mTitle\033[0m"
    body = [line for line in lines if "\033" not in line]
    assert max(map(len, body)) <= 60
    assert any("1.234568 s" in line or "1.235 s" in line for line in body)
    assert " ".join(" ".join(body).split()).count("sentence") == 1
    assert all(part in " ".join(body) for part in words.split())


def test_a_word_longer_than_its_column_is_cut_and_nothing_of_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "".join(chr(ord("a") + place % 26) for place in range(200))
    lines = _printed(monkeypatch, _report((name, 1, "x")), 50)
    cells = [line[1:].split("   ")[0].strip() for line in lines if "\033" not in line]
    assert name in "".join(cells)


def test_letters_of_two_columns_keep_their_columns_flush() -> None:
    text = render_report(_report(("流水线气泡", 1000, "甲"), ("bubble", 1000, "b")), "table").splitlines()
    wide, plain = (next(line for line in text if word in line) for word in ("流水线", "bubble"))
    assert plain.index("1.000") - wide.index("1.000") == len("流水线气泡")


@pytest.mark.parametrize("form", ["table", "md", "csv", "html", "json"])
def test_a_name_does_not_steer_the_terminal(form: str) -> None:
    """Pages and tables of files are printed as well."""
    text = render_report(_report(("\033[2Jgone\x07", 1, "x")), form)
    assert "\033" not in text
    assert "\x07" not in text
    assert "gone" in text


def test_a_title_is_one_line_whatever_a_graph_is_called() -> None:
    text = render_report(Report("decoder\nmemplan: all is well", headline="a\nb"), "table")
    assert text.splitlines()[:2] == ["decoder memplan: all is well", "a b"]


def test_pictures_that_only_pages_show_leave_no_title_behind() -> None:
    report = Report("Title", sections=(section("Links", Drawing("<svg/>", title="rates")),))
    assert "Links" not in render_report(report, "table")
    assert "Links" in render_report(report, "html")


def test_pictures_are_drawn_for_pages_alone() -> None:
    drawn: list[str] = []

    def pictures() -> tuple[Drawing, ...]:
        drawn.append("<svg/>")
        return (Drawing("<svg/>"), Drawing())

    report = Report("Title", sections=(ReportSection("Links", (), pictures), ReportSection("Nothing", (), lambda: ())))
    for form in ("table", "json", "csv", "md"):
        assert "Links" not in render_report(report, form)
    assert not drawn
    page = render_report(report, "html")
    assert "Links" in page
    assert "Nothing" not in page
    assert drawn
