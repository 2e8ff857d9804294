"""The table of what differs between two documents, and what a click on it shows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog

from memplan.gui.model.compare.ab_choice import (
    MOST_OF_EACH,
    MOST_OF_ONE,
    READING_ORDER,
    AbChoice,
    ab_total,
    groups_of,
    listed,
)
from memplan.gui.model.compare.ab_differences import (
    AB_SHEET_HEADER,
    AbAmount,
    AbDifferences,
    AbGroup,
    AbLedger,
    AmountUnit,
    compared,
)
from memplan.gui.model.session.session import OpRef, Session, SliceRef
from memplan.gui.model.slices.slice_text import selected_line
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.side_by_side_controller import TABLE, VIEW
from tests.gui.two_documents import (
    click_row,
    press,
    second_view,
    shown,
    table,
)

pytestmark = pytest.mark.gui


def test_a_click_on_a_difference_shows_it_in_both(both: MainWindow) -> None:
    view = table(both)
    rows = [view.difference_at(view.sorted.index(row, 0)) for row in range(view.sorted.rowCount())]
    assert rows[0].group is AbGroup.TYPE
    assert rows[0].name == "MatMul"
    kernel = next(number for number, item in enumerate(rows) if item.group is AbGroup.KERNEL)
    both.session.tracks.fold_all(True)
    click_row(view, kernel)
    name = rows[kernel].name.rsplit("/", 1)[-1]
    for timeline in (both.timeline, second_view(both).timeline):
        selected = timeline.session.selected
        assert isinstance(selected, SliceRef)
        assert str(selected_line(timeline.session)).startswith(name)
        assert selected.track in {placed.track.key for placed, _ in timeline.visible() if placed.track is not None}
        start, end = timeline.session.selected_span() or (0.0, 0.0)
        assert timeline.session.viewport.start < start < end < timeline.session.viewport.end
    assert second_view(both).strip.selected.whole.startswith(name)
    assert both.side_by_side.strip.selected.whole.startswith(name)
    press(both, "back")
    assert shown(second_view(both).session) == pytest.approx(shown(both.session))


def test_the_largest_difference_of_each_group_comes_first(both: MainWindow) -> None:
    view = table(both)
    for column in range(8):
        for click in (1, 2):
            header = view.table.horizontalHeader()
            at = QPoint(header.sectionViewportPosition(column) + 8, header.height() // 2)
            QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=at)
            found = [view.row_at(view.sorted.index(row, 0)) for row in range(view.sorted.rowCount())]
            groups = [str(row.cells[0]) for row in found]
            order = [group.value for group in READING_ORDER if group.value in groups]
            if view.sorted.sortOrder() is Qt.SortOrder.AscendingOrder:
                assert list(dict.fromkeys(groups)) == order, (column, click)
            for group in order:
                keys = [row.sort_keys[column] for row in found if str(row.cells[0]) == group]
                falls = view.sorted.sortOrder() is Qt.SortOrder.DescendingOrder
                assert keys == sorted(keys, reverse=falls), (column, click)


def test_the_list_is_cut_down_by_group_measure_and_name(both: MainWindow, tmp_path: Path) -> None:
    view = table(both)
    whole = view.sorted.rowCount()
    at = view.group.findData(AbGroup.TYPE)
    QTest.keyClick(view.group, Qt.Key.Key_Down)  # as a user does, with a real key
    assert view.choice.group is groups_of(view.differences)[0]
    view.group.setCurrentIndex(at)
    view.group.activated.emit(at)
    assert view.group.currentIndex() == at
    assert view.sorted.rowCount() == 1
    assert "Op type: A 750.494 µs, B 809.100 µs (+7.8%)" in view.headline.text()
    QTest.mouseClick(view.changed_only, Qt.MouseButton.LeftButton, pos=QPoint(8, view.changed_only.height() // 2))
    assert view.sorted.rowCount() > 5
    QTest.keyClicks(view.name, "matm")
    assert [view.difference_at(view.sorted.index(0, 0)).name] == ["MatMul"]
    sheet = view.sheet()
    assert sheet.header == AB_SHEET_HEADER
    assert [row[:3] for row in sheet.rows if row[1] == "MatMul"] == [("Op type", "MatMul", "ns")]
    view.name.clear()
    view.group.setCurrentIndex(0)
    view.group.activated.emit(0)
    view.measure.setCurrentIndex(view.measure.findData(AmountUnit.BYTES))
    view.measure.activated.emit(view.measure.currentIndex())
    assert {item.measure for item in view.listed.found} == {AmountUnit.BYTES}
    view.name.setText("no such thing")
    assert view.sorted.rowCount() == 0
    assert "nothing" in view.headline.text()
    assert whole > 1


def test_the_table_is_saved_as_it_is_chosen(both: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "differences.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), ""))
    both.exports.save_view(TABLE)
    lines = list(csv.reader(target.read_text(encoding="utf-8").splitlines()))
    assert tuple(lines[0]) == AB_SHEET_HEADER
    assert len(lines) - 1 == len(table(both).listed.found)
    target = tmp_path / "b.csv"
    both.exports.save_view(VIEW)
    assert target.read_text(encoding="utf-8").startswith("group,track")


def many(count: int) -> AbDifferences:
    """`count` kernels that differ, one that doesn't, and a peak that one document doesn't tell of."""
    first = {f"k{index}": AbAmount(1, 10) for index in range(count + 1)}
    second = {f"k{index}": AbAmount(1, 10 + index) for index in range(count + 1)}
    return compared(
        [
            AbLedger(AbGroup.KERNEL, AmountUnit.TIME, first, second),
            AbLedger(AbGroup.MEMORY, AmountUnit.BYTES, {"HBM": AbAmount(None, 7)}, None, adds_up=False),
        ]
    )


def test_the_largest_are_listed_and_the_rest_is_counted() -> None:
    found = many(5_000)
    chosen = listed(found, AbChoice())
    kernels = [item for item in chosen.found if item.group is AbGroup.KERNEL]
    assert [item.name for item in kernels] == [f"k{index}" for index in range(5_000, 5_000 - MOST_OF_EACH, -1)]
    assert chosen.found[-1].name == "HBM"  # what can't be compared isn't hidden
    assert chosen.left_out == 5_000 - MOST_OF_EACH
    assert len(listed(found, AbChoice(AbGroup.KERNEL)).found) == MOST_OF_ONE
    assert len(listed(found, AbChoice(AbGroup.KERNEL, changed=False), all_of_them=True).found) == 5_001
    assert [item.name for item in listed(found, AbChoice(name=" K4999 ")).found] == ["k4999"]
    assert groups_of(found) == (AbGroup.KERNEL, AbGroup.MEMORY)
    assert set(READING_ORDER) == set(AbGroup)


def test_a_sum_is_given_where_there_is_one() -> None:
    found = many(3)
    assert ab_total(found, AbChoice(AbGroup.KERNEL)) == (AbGroup.KERNEL, 40, 46)
    assert ab_total(found, AbChoice(AbGroup.MEMORY)) is None
    assert ab_total(found, AbChoice()) is None


def test_what_is_selected_is_named_in_a_line(session: Session) -> None:
    assert selected_line(session) == ""
    session.select(OpRef(0))
    plan = session.document.plan
    assert plan is not None
    assert str(selected_line(session)).startswith(plan.ops[0].name.rsplit("/", 1)[-1])
    track = next(track for track in session.tracks.all if track.kind == "stream")
    session.select(SliceRef(track.key, 0))
    assert selected_line(session) == ""  # its track isn't read yet
