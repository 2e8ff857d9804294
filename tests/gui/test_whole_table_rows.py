"""Tables: the foot of none cuts a row, by sight and by hand, and the last row is reached."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QScrollArea, QTableView, QTableWidgetItem
from pytestqt.qtbot import QtBot

from memplan.gui.model.cluster.heat_grid import HeatGrid
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.session import Session
from memplan.gui.views.cluster.heat_map import HeatMap
from memplan.gui.views.table_view import TableView
from memplan.gui.views.view_specs import PAGES
from memplan.gui.views.whole_rows import WholeRowsTable, WholeRowsView, foot_of_rows
from memplan.gui.window.main_window import MainWindow
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui

ROWS, ROW_PX = 40, 22


def a_table(qtbot: QtBot, height: int) -> WholeRowsTable:
    table = WholeRowsTable(ROWS, 2)
    qtbot.addWidget(table)
    table.verticalHeader().setDefaultSectionSize(ROW_PX)
    for row in range(ROWS):
        table.setItem(row, 0, QTableWidgetItem(f"row {row}"))
        table.setItem(row, 1, QTableWidgetItem(f"{row * row} MiB"))
    table.resize(300, height)
    table.show()
    settle()
    return table


def seen(table: QTableView) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pixels of a table below its header: height, width and channels."""
    image = table.viewport().grab().toImage().convertToFormat(QImage.Format.Format_RGBA8888)
    pixels = np.frombuffer(image.constBits(), dtype=np.uint8)
    return pixels.reshape(image.height(), image.bytesPerLine() // 4, 4)[:, : image.width(), :3]


def is_plain(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Whether all is of one colour, as where nothing is there at all."""
    return bool((pixels == pixels[:1, :1]).all())


def wheel(table: QTableView, notches: int) -> None:
    at = QPointF(table.viewport().rect().center())
    event = QWheelEvent(
        at, table.viewport().mapToGlobal(at), QPoint(), QPoint(0, 120 * notches), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(table.viewport(), event)
    settle()


@pytest.mark.parametrize("height", range(120, 210, 13))
def test_what_is_below_the_last_whole_row_is_empty(qtbot: QtBot, height: int) -> None:
    table = a_table(qtbot, height)
    for notches in (0, -1, -2, 1, *[-20] * 12):
        wheel(table, notches)
        foot, pixels = foot_of_rows(table), seen(table)
        assert is_plain(pixels[foot:])
        assert len(pixels) - foot < ROW_PX
        last = table.rowAt(foot - 1)
        assert table.rowViewportPosition(last) + table.rowHeight(last) == foot
        assert not is_plain(pixels[foot - ROW_PX : foot]), "the last row has its text"
    assert table.rowAt(foot_of_rows(table) - 1) == ROWS - 1


def test_scrolling_leaves_nothing_of_what_was_there(qtbot: QtBot) -> None:
    table = a_table(qtbot, 187)
    wheel(table, -1)
    moved = seen(table)
    table.viewport().repaint()
    assert np.array_equal(moved, seen(table))


def test_a_click_on_what_is_not_shown_picks_nothing(qtbot: QtBot) -> None:
    table = a_table(qtbot, 150)
    viewport, clicked = table.viewport(), []
    table.cellClicked.connect(lambda row, _: clicked.append(row))
    while viewport.height() - foot_of_rows(table) < 4:
        table.resize(300, table.height() + 1)
        settle()
    QTest.mouseClick(viewport, Qt.MouseButton.LeftButton, pos=QPoint(20, viewport.height() - 2))
    assert clicked == []
    assert not table.selectedItems()
    QTest.mouseClick(viewport, Qt.MouseButton.LeftButton, pos=QPoint(20, foot_of_rows(table) - 3))
    assert clicked == [table.rowAt(foot_of_rows(table) - 1)]


def test_a_table_lower_than_a_row_shows_what_it_can(qtbot: QtBot) -> None:
    table = a_table(qtbot, 120)
    table.setRowHeight(0, 300)
    settle()
    assert foot_of_rows(table) == table.viewport().height()


def test_every_table_of_the_window_is_of_this_kind(qtbot: QtBot, session: Session) -> None:
    window = MainWindow(session, background=False)
    qtbot.addWidget(window)
    window.resize(1280, 720)
    window.show()
    found: set[type] = set()
    for page in PAGES:
        window.show_page(page.name)
        settle()
        found.update(map(type, window.findChildren(QTableView)))
        for view in window.findChildren(TableView):
            table = view.table
            if table.isVisible() and table.rowAt(table.viewport().height() - 1) >= 0:
                assert is_plain(seen(table)[foot_of_rows(table) :])
    assert found == {WholeRowsView, WholeRowsTable}


@pytest.mark.parametrize("height", range(150, 260, 17))
def test_a_heat_map_shows_no_row_in_part_at_its_foot(qtbot: QtBot, height: int) -> None:
    """Went wrong: half of a rank's row was seen above the links."""
    cells = {(row, column): float(row) for row in range(ROWS) for column in range(2)}
    texts = {cell: f"{value:.0f} ms" for cell, value in cells.items()}
    part = HeatMap(load_palette("dark"), lambda _: None)
    part.show_grid(HeatGrid([f"rank {row}" for row in range(ROWS)], ("step 1", "step 2"), cells, texts))
    area = QScrollArea()
    qtbot.addWidget(area)
    area.setWidget(part)
    area.resize(400, height)
    area.show()
    settle()
    bar = area.verticalScrollBar()
    for offset in (0, 3, 20, 26, 77, bar.maximum()):
        bar.setValue(offset)
        settle()
        viewport = area.viewport()
        foot = viewport.height() - part.y()
        tops = [part.box(row, 0).top() for row in range(ROWS)]
        cut = [row for row, top in enumerate(tops) if top < foot < part.box(row, 0).bottom() + 1]
        image = viewport.grab().toImage().convertToFormat(QImage.Format.Format_RGBA8888)
        pixels = np.frombuffer(image.constBits(), dtype=np.uint8).reshape(image.height(), -1, 4)[..., :3]
        for row in cut:
            at = round(tops[row]) + part.y()
            assert is_plain(pixels[max(at, 0) :, : part.width()]), (offset, row)
            assert part.row_at(tops[row] + 1) is None
        assert part.row_at(tops[ROWS - 1] + 1) == ROWS - 1 or ROWS - 1 in cut
