"""How the window looks: themes, layout, density, languages, and what stands where there is nothing to show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QTabBar
from pytestqt.qtbot import QtBot

from memplan.gui.i18n import LANGUAGES, CatalogueTranslator, catalogue
from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.session import Session
from memplan.gui.screenshots import render_window
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.title_bar import TitleBar
from tests.gui.conftest import PLAN, PROFILE, pixels

pytestmark = pytest.mark.gui


def test_the_theme_changes_every_view(window: MainWindow) -> None:
    light = pixels(window.timeline.grab().toImage())
    window.commands.run("theme-dark")
    dark = pixels(window.timeline.grab().toImage())
    assert light.mean() > dark.mean()
    window.commands.run("theme-light")
    assert np.array_equal(pixels(window.timeline.grab().toImage()), light)


def test_buttons_in_titles_are_drawn_in_the_theme_s_colour_also_after_they_were_used(window: MainWindow) -> None:
    dock = window.docks["curve"]

    def colours() -> set[int]:
        title = dock.titleBarWidget()
        assert isinstance(title, TitleBar)
        found = set()
        for button in (title.float, title.close_dock):
            image = button.icon().pixmap(32, 32).toImage()
            dots = [image.pixel(x, y) for x in range(32) for y in range(32)]
            found |= {dot & 0xFFFFFF for dot in dots if dot >> 24 == 255}
        return found

    for theme in ("dark", "light"):
        window.commands.run(f"theme-{theme}")
        faint = window.colours.role("faint") & 0xFFFFFF
        assert colours() == {faint}
        dock.setFloating(True)
        dock.setWindowTitle("another")
        dock.setFloating(False)
        QApplication.processEvents()
        assert colours() == {faint}


def test_the_layout_is_remembered_and_can_be_reset(session: Session, qtbot: QtBot, tmp_path: Path) -> None:
    settings = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    first = MainWindow(session, settings=settings, background=False)
    first.show()
    first.show_page("memory")
    QApplication.processEvents()
    first.commands.run("dock-map")
    assert not first.docks["map"].isVisible()
    first.close()
    second = MainWindow(session, settings=settings, background=False)
    second.show()
    second.show_page("memory")
    assert not second.docks["map"].isVisible()
    second.commands.run("reset-layout")
    assert second.docks["map"].isVisible()
    second.close()


def test_both_themes_are_photographed(tmp_path: Path) -> None:
    pictures = render_window(PLAN, PROFILE, tmp_path, size=(1200, 800))
    assert [path.name for path in pictures] == ["window-light.png", "window-dark.png"]
    for path in pictures:
        assert len(np.unique(pixels(QImage(str(path))))) > 50


def test_a_dense_screen_is_painted_dot_by_dot(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from memplan.gui.screenshots import render_window;"
        "render_window(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), size=(1200, 800))"
    )
    environment = {**os.environ, "QT_SCALE_FACTOR": "2"}
    run = [sys.executable, "-c", code, str(PLAN), str(PROFILE), str(tmp_path)]
    subprocess.run(run, check=True, env=environment, timeout=120)
    image = QImage(str(tmp_path / "window-light.png"))
    assert (image.width(), image.height()) == (2400, 1600)
    dots = pixels(image)
    assert (dots[:, 0::2] != dots[:, 1::2]).any(axis=0).sum() > 400, "more than a picture made larger"


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
def test_every_command_and_view_is_translated(language: str, window: MainWindow) -> None:
    words = catalogue(language)
    texts = {command.text for command in window.commands.commands} | {c.menu for c in window.commands.commands}
    texts |= set(window.docks.titles.values())
    assert texts <= set(words), sorted(texts - set(words))
    translator = CatalogueTranslator(language)
    assert translator.translate("memplan", "File") == words["File"]
    assert translator.translate("memplan", "never heard of") is None


def test_an_empty_window_says_what_to_do(qtbot: QtBot) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.show()
    assert "Open a plan" in window.docks.view(DetailsView).toPlainText()
    assert window.windowTitle() == "memplan"
    window.close()


def test_every_group_of_tabs_has_one_tab_bar(window: MainWindow) -> None:
    shown = [tuple(bar.tabText(i) for i in range(bar.count())) for bar in window.findChildren(QTabBar)]
    assert len(shown) == len(set(shown)), shown


def test_only_the_peak_is_dashed_in_the_map(window: MainWindow) -> None:
    window.docks.view(MemoryMapView).grab()
    assert window.session.peak is not None
    assert window.docks.view(MemoryMapView).pen("text").style() == Qt.PenStyle.SolidLine


def test_a_small_window_s_welcome_cuts_no_line(qtbot: QtBot) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1280, 720)
    window.show()
    qtbot.waitExposed(window)
    assert window.height() <= 720
    buttons = window.welcome.buttons
    assert all(button.height() >= button.heightForWidth(button.width()) for button in buttons)
    assert buttons[2].visibleRegion().boundingRect().height() == buttons[2].height(), "three ways without scrolling"
    window.close()


def test_a_timeline_without_tracks_says_why(window: MainWindow, tmp_path: Path) -> None:
    view = window.timeline
    for track in window.session.tracks.all:
        window.session.tracks.hide(track.key)
    hidden = pixels(view.grab().toImage())[:, GUTTER_PX:]
    (tmp_path / "step_trace_time.csv").write_text("Device_id,Step,Computing\n0,1,10.0\n")
    window.opener.open_request(Request(None, tmp_path), new_tab=True)
    assert window.session.tracks.all == ()
    bare = pixels(view.grab().toImage())[:, GUTTER_PX:]
    middle = slice(view.plot.height() // 2 - 20, view.plot.height() // 2 + 60)
    for image in (hidden, bare):
        assert len(np.unique(image[middle])) > 3, "there is text in the middle"
    assert not np.array_equal(hidden[middle], bare[middle])
