"""Two documents side by side in the window: what tests do with it, and what they look at."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QInputDialog, QWidget

from memplan.gui.model.session.session import Session
from memplan.gui.views.compare.ab_differences_view import AbDifferencesView
from memplan.gui.views.compare.side_by_side_view import SideBySideView
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.side_by_side_controller import TABLE, VIEW


def settle() -> None:
    """Let the window lay itself out and paint."""
    for _ in range(4):
        QApplication.processEvents()


def press(window: MainWindow, name: str = "side-by-side") -> None:
    """Do a command by its key; offscreen, where the window isn't active, by its action."""
    window.commands.refresh()
    action = window.commands.actions[name]
    count: list[int] = []
    connection = action.triggered.connect(lambda *_: count.append(1))
    QTest.keySequence(window, action.shortcut())
    if not count:
        action.trigger()
    action.triggered.disconnect(connection)
    settle()


def wheel(view: QWidget, steps: int, at: QPoint, modifiers: Qt.KeyboardModifier) -> None:
    """Turn the wheel over `view`."""
    event = QWheelEvent(
        QPointF(at),
        QPointF(view.mapToGlobal(at)),
        QPoint(),
        QPoint(0, 120 * steps),
        Qt.MouseButton.NoButton,
        modifiers,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(view, event)


def shown(session: Session) -> tuple[float, float]:
    return session.viewport.start, session.viewport.end


def second_view(window: MainWindow) -> SideBySideView:
    view = window.side_by_side.view
    assert view is not None
    return view


def table(window: MainWindow) -> AbDifferencesView:
    view = window.side_by_side.table
    assert view is not None
    return view


def is_off(window: MainWindow) -> bool:
    """Whether nothing of a side by side is left."""
    side_by_side = window.side_by_side
    return (
        not side_by_side.on
        and (side_by_side.view, side_by_side.table, side_by_side.model) == (None, None, None)
        and not {VIEW, TABLE} & {*window.docks.views, *window.docks}
        and not window.commands.actions["side-by-side"].isChecked()
        and side_by_side.bar.isHidden()
        and side_by_side.split.count() == 1
    )


def close_tab(window: MainWindow, index: int) -> None:
    window.tabs.tabCloseRequested.emit(index)
    settle()


def choose_tab(window: MainWindow, index: int) -> None:
    QTest.mouseClick(window.tabs, Qt.MouseButton.LeftButton, pos=window.tabs.tabRect(index).center())
    settle()


def click_row(view: AbDifferencesView, row: int) -> None:
    index = view.sorted.index(row, 1)
    view.table.scrollTo(index)
    QTest.mouseClick(view.table.viewport(), Qt.MouseButton.LeftButton, pos=view.table.visualRect(index).center())
    settle()


def answer(monkeypatch: pytest.MonkeyPatch, text: str, sure: bool = True) -> list[list[str]]:
    """Answer the question which document it is to be; returns what was offered."""
    offered: list[list[str]] = []

    def reply(*arguments: Any, **_: Any) -> tuple[str, bool]:
        offered.append(list(arguments[3]))
        return next((name for name in arguments[3] if text in name), ""), sure

    monkeypatch.setattr(QInputDialog, "getItem", reply)
    return offered
