"""Starts the desktop app, or draws its window into files where there is no display."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from PySide6.QtCore import QMessageLogContext, QSettings, QTimer, QtMsgType, qInstallMessageHandler
from PySide6.QtWidgets import QApplication

from memplan.gui.i18n import choose_language
from memplan.gui.main_window import MainWindow
from memplan.gui.model.opening import Request, open_session
from memplan.gui.model.palette import load_palette, theme_names
from memplan.gui.model.session import OpPick, TensorPick
from memplan.gui.settings import Settings
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
    store = QSettings()
    settings = Settings(store)
    choose_language(settings.language)
    apply_theme(qt, settings.palette)
    window = MainWindow(settings=store)
    window.show()
    if plan_path is not None or profile_path is not None:
        QTimer.singleShot(0, lambda: window.open_request(Request(plan_path, profile_path)))
    else:
        QTimer.singleShot(0, window.reopen)
    return qt.exec()


def render(
    plan_path: Path | None, profile_path: Path | None, out_dir: Path, *, size: tuple[int, int] = (1600, 1000)
) -> list[Path]:
    """
    Draw the window on a plan and a profile into PNG files in `out_dir` without a display; returns their paths.

    Raises `InputError` for files that can't be used.
    """
    return _pictures(plan_path, profile_path, out_dir, size, {"window": lambda _: None})


def screenshots(
    plan_path: Path, profile_path: Path, config: Path, out_dir: Path, *, size: tuple[int, int] = (1600, 1000)
) -> list[Path]:
    """A picture of every view in both themes: the whole window each time, with that view in front."""

    def differences(window: MainWindow) -> None:
        window.docks["deviations"].raise_()
        window.deviations.jump(window.deviations.sorted.index(1, 0))

    def tensor(window: MainWindow) -> None:
        peak = window.session.peak
        if peak is not None and peak.parts and peak.parts[0].largest:
            window.session.pick(TensorPick(peak.parts[0].largest[0][0]))

    def search(window: MainWindow) -> None:
        window.search.open()
        window.search.edit.setText("MatMul")
        window.search.step()

    def pick_largest(window: MainWindow) -> None:
        plan = window.session.document.plan
        if plan is not None:
            window.session.pick(OpPick(max(plan.ops, key=lambda op: op.flops).index))

    def roofline(window: MainWindow) -> None:
        window.show_roofline()
        pick_largest(window)

    def kernel(window: MainWindow) -> None:
        window.show_kernel()
        pick_largest(window)

    views: dict[str, Callable[[MainWindow], None]] = {
        "window": lambda _: None,
        "differences": differences,
        "alive": lambda window: window.docks["alive"].raise_(),
        "tensor": tensor,
        "search": search,
        "roofline": roofline,
        "kernel": kernel,
        "kv-budget": lambda window: window.show_kv_budget(config),
    }
    return _pictures(plan_path, profile_path, out_dir, size, views)


def _pictures(
    plan_path: Path | None,
    profile_path: Path | None,
    out_dir: Path,
    size: tuple[int, int],
    views: Mapping[str, Callable[[MainWindow], None]],
) -> list[Path]:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qInstallMessageHandler(_say)
    session = open_session(Request(plan_path, profile_path))
    qt = application()
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for theme in theme_names():
        palette = load_palette(theme)
        apply_theme(qt, palette)
        for name, arrange in views.items():
            session.pick(None)
            session.viewport.show(*session.viewport.bounds)
            window = MainWindow(session, palette=palette, background=False)
            window.resize(*size)
            window.show()
            qt.processEvents()
            arrange(window)
            for _ in range(4):  # docks lay themselves out over several rounds of events
                qt.processEvents()
            path = out_dir / f"{name}-{theme}.png"
            window.grab().save(str(path))
            paths.append(path)
            window.close()
            window.deleteLater()
    return paths
