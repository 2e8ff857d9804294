"""Starts the desktop app, or draws its window into files where there is no display."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PySide6.QtCore import QMessageLogContext, QSettings, QTimer, QtMsgType, qInstallMessageHandler
from PySide6.QtWidgets import QApplication

from memplan.gui.i18n import CatalogueTranslator, system_language
from memplan.gui.main_window import MainWindow
from memplan.gui.model.opening import Request, open_session
from memplan.gui.model.palette import load_palette
from memplan.gui.theme import apply_theme


def application() -> QApplication:
    """The running Qt application, or a new one."""
    running = QApplication.instance()
    if isinstance(running, QApplication):
        return running
    made = QApplication(sys.argv[:1])
    made.setApplicationName("memplan")
    made.setOrganizationName("memplan")
    return made


def _say(kind: QtMsgType, context: QMessageLogContext, text: str) -> None:  # noqa: ARG001 - Qt's own signature
    """Qt's messages on standard error, but for one that the offscreen platform makes of every window."""
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)


def run(plan_path: Path | None = None, profile_path: Path | None = None) -> int:
    """Open the window on a plan, a profile, both or neither; returns the exit code when the last window closed."""
    qt = application()
    settings = QSettings()
    language = str(settings.value("language") or system_language())
    translator = CatalogueTranslator(language, qt)
    qt.installTranslator(translator)
    palette = load_palette(str(settings.value("theme") or "light"), str(settings.value("colours") or "okabe-ito"))
    apply_theme(qt, palette)
    window = MainWindow(settings=settings, palette=palette)
    window.show()
    if plan_path is not None or profile_path is not None:
        QTimer.singleShot(0, lambda: window.open_request(Request(plan_path, profile_path)))
    return qt.exec()


def render(
    plan_path: Path | None, profile_path: Path | None, out_dir: Path, *, size: tuple[int, int] = (1600, 1000)
) -> list[Path]:
    """
    Draw the window on a plan and a profile into PNG files in `out_dir` without a display; returns their paths.

    Raises `InputError` for files that can't be used.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qInstallMessageHandler(_say)
    session = open_session(Request(plan_path, profile_path))
    qt = application()
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for theme in ("light", "dark"):
        palette = load_palette(theme)
        apply_theme(qt, palette)
        window = MainWindow(session, palette=palette, background=False)
        window.resize(*size)
        window.show()
        qt.processEvents()
        path = out_dir / f"window-{theme}.png"
        window.grab().save(str(path))
        paths.append(path)
        window.close()
        window.deleteLater()
    return paths
