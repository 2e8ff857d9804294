"""Draws the window into files where there is no display: one picture, or one of every view in both themes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PySide6.QtCore import (
    QCoreApplication,
    QDeadlineTimer,
    QEvent,
    QMessageLogContext,
    QPoint,
    Qt,
    QThread,
    QTimer,
    QtMsgType,
    qInstallMessageHandler,
)
from PySide6.QtGui import QImage, QPainter, QPixmap
from PySide6.QtWidgets import QApplication, QDialog

from memplan.core.errors import InputError, reason
from memplan.gui.application import application
from memplan.gui.i18n import LANGUAGES, choose_language
from memplan.gui.model.palette import load_palette, theme_names
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.scenes import Scene, SceneFiles, page_scenes, view_scenes
from memplan.gui.theme import apply_theme
from memplan.gui.views.view_specs import PAGES
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.view_export import png, write_view

_LONGEST_REST_MS = 10_000
_QUIET_ROUNDS, _ROUND_MS = 8, 5
"""So many rounds of events in which nothing waits for its moment: a view may be made in a later one than the first."""


def render_window(
    plan_path: Path | None,
    profile_path: Path | None,
    out_dir: Path,
    *,
    chip: str | None = None,
    size: tuple[int, int] = (1600, 1000),
) -> list[Path]:
    """
    Draw the window on a plan and a profile into PNG files in `out_dir` without a display; returns their paths.

    A graph is planned for `chip` first. Raises `InputError` for files that can't be used, and if `out_dir` can't be
    written.
    """
    _prepare()
    session = open_session(Request(plan_path, profile_path, chip=chip))
    return _pictures({"window": Scene(session, lambda _: None)}, out_dir, size)


def screenshots(
    files: SceneFiles,
    out_dir: Path,
    *,
    size: tuple[int, int] = (1400, 900),
    only: Callable[[str], bool] = lambda _: True,
) -> list[Path]:
    """A small picture of every view that `only` takes, and of one in Chinese: the whole window, that view in front."""
    _prepare()
    scenes = view_scenes(files)
    shown = {name: one for name, one in scenes.items() if only(name)}
    paths = _pictures(shown, out_dir, size, ("light",), small=True)
    choose_language("zh")
    paths += _pictures({"chinese-overview": scenes["overview"]}, out_dir, size, ("light",), small=True)
    choose_language("en")
    return paths


def every_picture(
    files: SceneFiles, out_dir: Path, sizes: Sequence[tuple[int, int]], *, only: Callable[[str], bool] = lambda _: True
) -> list[Path]:
    """
    Every scene that `only` takes in all sizes, themes and languages: to look for what is cut, overlaps or reads badly.

    The pictures of one language and size are in a folder of their own.
    """
    _prepare()
    scenes = {name: one for name, one in (page_scenes(files) | view_scenes(files)).items() if only(name)}
    paths = []
    for language in LANGUAGES:
        choose_language(language)
        for size in sizes:
            paths += _pictures(scenes, out_dir / f"{language}-{size[0]}", size)
    choose_language("en")
    return paths


def _prepare() -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qInstallMessageHandler(_say)
    application()


def _say(_kind: QtMsgType, _context: QMessageLogContext, text: str) -> None:
    """Qt's messages on standard error, but for one that the offscreen platform makes of every window."""
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)


def _pictures(
    scenes: Mapping[str, Scene],
    out_dir: Path,
    size: tuple[int, int],
    themes: Sequence[str] = (),
    *,
    small: bool = False,
) -> list[Path]:
    """`small` pictures have 256 colours, which makes them a fifth as large; without `themes` there is one of each."""
    qt = application()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("can't be written: {}", reason(error), path=out_dir) from error
    paths = []
    window_pages = [page.name for page in PAGES]
    for theme in themes or theme_names():
        palette = load_palette(theme)
        apply_theme(qt, palette)
        for name, scene in scenes.items():
            session = scene.session
            session.page = next(iter(window_pages))
            session.select(None)
            session.clear_markers()
            session.viewport.selected_range = None
            session.viewport.show(*session.viewport.bounds)
            window = MainWindow(session, palette=palette, background=False)
            window.resize(*size)
            window.show()
            qt.processEvents()
            scene.arrange(window)
            _settle(window)
            # Without a running loop of events tab bars of the docks of another page would never go.
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            path = out_dir / f"{name}-{theme}.png"
            write_view(path, png(_in_few_colours(_photograph(window)) if small else _photograph(window)))
            paths.append(path)
            window.close()
            window.deleteLater()
    return paths


def _settle(window: MainWindow) -> None:
    """Let `window` lay out its docks, which takes several rounds of events, and say what follows a moment's rest."""
    rests, quiet = QDeadlineTimer(_LONGEST_REST_MS), 0
    while quiet < _QUIET_ROUNDS and not rests.hasExpired():
        QCoreApplication.processEvents()
        QThread.msleep(_ROUND_MS)
        waiting = any(timer.isSingleShot() and timer.isActive() for timer in window.findChildren(QTimer))
        quiet = 0 if waiting else quiet + 1


def _in_few_colours(picture: QPixmap) -> QImage:
    """`picture` in the 256 colours that it has most of."""
    image = picture.toImage().convertToFormat(QImage.Format.Format_RGB32)
    pixels = np.frombuffer(image.constBits(), dtype=np.uint32).reshape(image.height(), image.bytesPerLine() // 4)
    colours, counts = np.unique(pixels[:, : image.width()] | np.uint32(0xFF000000), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    # One of each shade first: a small swatch must not be drawn in a colour that means something else.
    _, first = np.unique(colours[order] & np.uint32(0xFFF0F0F0), return_index=True)
    most = colours[order][[*np.sort(first), *np.setdiff1d(np.arange(len(order)), first)][:256]]
    return image.convertToFormat(QImage.Format.Format_Indexed8, most.tolist(), Qt.ImageConversionFlag.AvoidDither)


def _photograph(window: MainWindow) -> QPixmap:
    """The window, and the dialogs that are open over it in their places."""
    picture = window.grab()
    dialogs = [
        item
        for item in QApplication.topLevelWidgets()
        if isinstance(item, QDialog) and item.isVisible() and item.parentWidget() is window
    ]
    for dialog in dialogs:
        at = QPoint((window.width() - dialog.width()) // 2, (window.height() - dialog.height()) // 3)
        painter = QPainter(picture)
        painter.drawPixmap(at, dialog.grab())
        painter.setPen(dialog.palette().windowText().color())
        painter.drawRect(at.x() - 1, at.y() - 1, dialog.width() + 1, dialog.height() + 1)
        painter.end()
        dialog.close()
    return picture
