"""Every command of the window, done with its own keys, and seen to do what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from memplan.gui.window.main_window import MainWindow
from tests.gui.file_command_cases import FILE_CASES
from tests.gui.go_command_cases import GO_CASES
from tests.gui.scene import Scene
from tests.gui.view_command_cases import VIEW_CASES

pytestmark = pytest.mark.gui

CASES = {**FILE_CASES, **GO_CASES, **VIEW_CASES}


@pytest.fixture
def scene(window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scene:
    """The window of the sample."""
    return Scene(window, qtbot, monkeypatch, tmp_path)


def test_every_command_has_a_case(window: MainWindow) -> None:
    assert {command.name for command in window.commands.commands} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_command_does_what_it_says(name: str, scene: Scene) -> None:
    CASES[name](scene)


def test_no_key_means_two_things(window: MainWindow) -> None:
    keys = [key for command in window.commands.commands for key in command.keys]
    assert sorted(keys) == sorted(set(keys))


def test_the_tool_bar_fits_a_small_screen(window: MainWindow) -> None:
    assert window.toolbar.sizeHint().width() <= 1280


@pytest.mark.parametrize("name", ["next-view", "previous-view"])
def test_the_keyboard_goes_nowhere_where_all_views_are_closed(window: MainWindow, name: str) -> None:
    for view in window.docks.widgets().values():
        view.hide()
    had_keyboard = QApplication.focusWidget()
    window.commands.actions[name].trigger()
    assert QApplication.focusWidget() is had_keyboard
