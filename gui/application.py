"""Starts the desktop app."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from PySide6.QtCore import QSettings, QTimer
from PySide6.QtWidgets import QApplication

from memplan.core.errors import InputError
from memplan.gui.i18n import choose_language
from memplan.gui.model.session.open_request import Request
from memplan.gui.settings import Settings
from memplan.gui.theme import apply_theme
from memplan.gui.window.main_window import MainWindow

_SWITCH_S = 0.00005
"""How long a worker may go on while the window waits for the interpreter: Qt gives it up at many calls of a frame."""
_LATER_MS = 30_000


def application() -> QApplication:
    """The running Qt application, or a new one."""
    sys.setswitchinterval(_SWITCH_S)
    running = QApplication.instance()
    if isinstance(running, QApplication):
        return running
    made = QApplication(sys.argv[:1])
    made.setApplicationName("memplan")
    made.setOrganizationName("memplan")
    return made


def _check_display() -> None:
    """Qt ends the process where it finds no display; this says so in a line before."""
    displays = ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in displays):
        raise InputError("there is no display to open a window on", remedy="use --render FOLDER, or set DISPLAY")


def _prepare(settings: Settings) -> None:
    from memplan.gui.work.preparation import prepare_aside  # an empty window stands before this is imported

    prepare_aside(settings)


def run(plan_path: Path | None = None, profile_path: Path | None = None, chip: str | None = None) -> int:
    """
    Open the window on a plan (or a graph, to plan for `chip`), a profile, both or neither.

    Returns the exit code when the last window closed. Raises `InputError` where there is no display.
    """
    _check_display()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C in the terminal: Qt's loop would never let Python see it
    qt = application()
    store = QSettings()
    settings = Settings(store)
    choose_language(settings.language)
    apply_theme(qt, settings.palette)
    window = MainWindow(settings=store)
    window.show()
    if plan_path is not None or profile_path is not None:
        QTimer.singleShot(0, lambda: window.opener.open_planned(Request(plan_path, profile_path, chip=chip)))
        QTimer.singleShot(_LATER_MS, lambda: _prepare(settings))  # what is opened at once compiles what it needs itself
    else:
        QTimer.singleShot(0, lambda: _prepare(settings))
        QTimer.singleShot(0, window.opener.reopen)
    return qt.exec()
