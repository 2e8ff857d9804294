"""The walk of docs/tour.md, by clicks on what can be seen: nothing is typed but a file's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QSettings, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog, QTextBrowser, QWidget
from pytestqt.qtbot import QtBot

from memplan.gui.model.session.session import TensorRef
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.kv.kv_budget_view import KvBudgetView
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.gui.window.main_window import MainWindow
from memplan.schema import load_plan
from tests.gui.conftest import PLAN

pytestmark = pytest.mark.gui


def press(qtbot: QtBot, window: MainWindow, tool: str) -> None:
    """Click the tool bar's button of a command, which must be on the screen."""
    button = window.toolbar.widgetForAction(window.commands.actions[tool])
    assert isinstance(button, QWidget)
    assert button.isVisible()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def link_at(browser: QTextBrowser, text: str) -> QPoint:
    """Where the link that holds `text` is on the screen."""
    for y in range(4, browser.viewport().height(), 4):
        for x in range(4, browser.viewport().width(), 12):
            cursor = browser.cursorForPosition(QPoint(x, y))
            cursor.select(cursor.SelectionType.LineUnderCursor)
            if browser.anchorAt(QPoint(x, y)) and text in cursor.selectedText():
                return QPoint(x, y)
    raise AssertionError(f"no link with {text!r} can be seen")


def test_from_a_fresh_start_to_an_exported_plan(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = QSettings(str(tmp_path / "fresh.ini"), QSettings.Format.IniFormat)
    window = MainWindow(settings=store)
    qtbot.addWidget(window)
    window.resize(1400, 900)
    window.show()
    window.opener.reopen()

    # Open the sample: the first thing offered.
    assert window.middle.currentWidget() is window.welcome
    QTest.mouseClick(window.welcome.buttons[0], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.session.document.comparison is not None, timeout=30_000)
    assert window.docks.view(OverviewView).isVisible()
    assert not window.welcome.isVisible()

    # What makes the peak: the reason is at the right, its largest tensor one click away.
    press(qtbot, window, "peak")
    text = window.docks.view(DetailsView).toPlainText()
    peak = window.session.peak
    assert peak is not None
    assert "Why HBM peaks" in text
    assert window.session.viewport.span < 200_000
    largest = peak.parts[0].largest[0][0]
    mapped = window.session.map
    assert mapped is not None
    name = mapped.tensors[mapped.plan.placements[int(mapped.placement[largest])].tensor].name
    QTest.mouseClick(
        window.docks.view(DetailsView).viewport(),
        Qt.MouseButton.LeftButton,
        pos=link_at(window.docks.view(DetailsView), name.split(".")[0]),
    )
    selected = window.session.selected
    assert isinstance(selected, TensorRef)
    assert name in window.docks.view(DetailsView).toPlainText()

    # The costliest difference: the table's first row, shown in every view.
    press(qtbot, window, "costliest")
    table = window.docks.view(DeviationsView)
    assert table.isVisible()
    first = table.row_at(table.sorted.index(0, 0))
    assert first.sort_keys[-1] == max(row.sort_keys[-1] for row in table.model.rows)
    assert first.span_ns is not None
    viewport, origin = window.session.viewport, window.session.origin_ns
    assert viewport.start <= first.span_ns[0] - origin < viewport.end

    # The KV budget: a model is there, the figures follow the slider.
    QTest.mouseClick(window.rail.buttons["kv"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.docks.find(KvBudgetView) is not None, timeout=10_000)
    kv = window.docks.view(KvBudgetView)
    assert kv is not None
    assert kv.isVisible()
    before = kv.verdict.text()
    assert before
    slider = kv.form.context.slider
    slider.setFocus()
    QTest.keyClick(slider, Qt.Key.Key_End)
    assert kv.verdict.text() != before

    # The plan goes into a file of its own.
    target = tmp_path / "my.plan.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), ""))
    press(qtbot, window, "export-plan")
    qtbot.waitUntil(target.exists, timeout=10_000)
    assert load_plan(target) == load_plan(PLAN)
    assert window.problems.errors == []
    window.close()
