"""The commands of the main window."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDockWidget, QFileDialog

from memplan.gui.commands import Command
from memplan.gui.i18n import tr
from memplan.gui.model.deviations import SHAPE
from memplan.gui.model.opening import Request
from memplan.gui.model.palette import theme_names
from memplan.gui.views.command_palette import CommandPalette

if TYPE_CHECKING:
    from memplan.gui.main_window import MainWindow


def window_commands(window: MainWindow) -> list[Command]:
    """Everything that `window` can do, in the order of its menus."""
    return [*_file(window), *_go(window), *_view(window)]


def _file(window: MainWindow) -> list[Command]:
    return [
        Command("open-file", "File", "Open plan or graph …", lambda: open_file(window), ("Ctrl+O",)),
        Command("open-folder", "File", "Open profile directory …", lambda: open_folder(window), ("Ctrl+Shift+O",)),
        Command("open-sample", "File", "Open the sample", lambda: open_sample(window)),
        Command("cancel", "File", "Cancel reading", window.cancel_opening, ("Ctrl+.",)),
        Command("save-window", "File", "Save the window as a picture …", lambda: save_picture(window), separated=True),
        Command("copy-window", "File", "Copy the window as a picture", lambda: copy_picture(window), ("Ctrl+Shift+C",)),
        Command("save-table", "File", "Save the differences as CSV …", lambda: save_table(window)),
        Command("close", "File", "Close window", window.close, ("Ctrl+W",), separated=True),
    ]


def _go(window: MainWindow) -> list[Command]:
    def viewport_back() -> None:
        window.session.viewport.back()

    def show_all() -> None:
        window.session.viewport.show_all()

    def to_selection() -> None:
        selection = window.session.viewport.selection
        if selection is not None:
            window.session.viewport.reveal(*selection, margin=0.02)
        else:
            window.session.reveal_picked()

    def to_peak() -> None:
        peak, viewport = window.session.peak, window.session.viewport
        if peak is not None:
            viewport.centre(float(peak.time_ns - window.session.origin_ns))

    def clear() -> None:
        if window.search.isVisible():
            window.search.hide()
            window.timeline.setFocus()
            return
        window.session.viewport.selection = None
        window.session.pick(None)

    def marker() -> None:
        viewport = window.session.viewport
        time = viewport.cursor if viewport.cursor is not None else (viewport.start + viewport.end) / 2
        window.session.add_marker(time)

    return [
        Command("find", "Go", "Find …", window.search.open, ("Ctrl+F", "/")),
        Command("find-next", "Go", "Next hit", lambda: window.search.step(), ("F3", "Ctrl+G")),
        Command("find-previous", "Go", "Previous hit", lambda: window.search.step(False), ("Shift+F3",)),
        Command("commands", "Go", "All commands …", lambda: open_palette(window), ("Ctrl+Shift+P",)),
        Command("show-all", "Go", "Show everything", show_all, ("Home", "0")),
        Command("zoom-to", "Go", "Zoom to the selection or the picked thing", to_selection, ("F",)),
        Command("back", "Go", "Back to before the jump", viewport_back, ("Backspace", "Alt+Left")),
        Command("peak", "Go", "To the memory peak", to_peak, ("P",)),
        Command("marker", "Go", "Set a marker at the cursor", marker, ("M",), separated=True),
        Command("clear-markers", "Go", "Remove all markers", lambda: window.session.clear_markers(), ("Shift+M",)),
        Command("clear", "Go", "Close the search, or clear the selection", clear, ("Escape",)),
    ]


def _view(window: MainWindow) -> list[Command]:
    commands = []
    for index, (name, dock) in enumerate(window.docks.items()):
        title = window.titles[name]

        def turn(dock: QDockWidget = dock) -> None:
            dock.setVisible(not dock.isVisible())

        commands.append(Command(f"dock-{name}", "View", title, turn, (f"Ctrl+{index + 1}",), checked=dock.isVisible))
    commands.append(Command("roofline", "View", "Roofline …", window.show_roofline, ("Ctrl+R",), separated=True))
    commands.append(Command("kv", "View", "KV budget …", lambda: window.show_kv_budget(), ("Ctrl+K",)))
    commands += [_theme(window, theme) for theme in theme_names()]
    commands.append(Command("reset-layout", "View", "Reset the layout", window.reset_layout, separated=True))
    return commands


def _theme(window: MainWindow, theme: str) -> Command:
    return Command(
        f"theme-{theme}",
        "View",
        f"{theme.capitalize()} theme",
        lambda: window.choose_theme(theme),
        checked=lambda: window.colours.theme == theme,
        separated=theme == theme_names()[0],
    )


def open_sample(window: MainWindow) -> None:
    """Open the bundled plan and the profile that was simulated from it."""
    samples = Path(str(resources.files("memplan.samples")))
    window.open_request(Request(samples / "llama_train.plan.json", samples / "llama_train_profile"))


def open_palette(window: MainWindow) -> None:
    """Show the command palette."""
    CommandPalette(window.commands, window).open()


def save_picture(window: MainWindow) -> None:
    """Ask where to and save what the window shows as PNG."""
    name, _ = QFileDialog.getSaveFileName(window, tr("Save picture"), "memplan.png", "PNG (*.png)")
    if name and not window.grab().save(name, "PNG"):
        window.problem(f"{name}: {tr('the picture could not be written')}")


def copy_picture(window: MainWindow) -> None:
    """Put what the window shows on the clipboard."""
    QGuiApplication.clipboard().setPixmap(window.grab())


def save_table(window: MainWindow) -> None:
    """Ask where to and save the differences between plan and profile as CSV."""
    name, _ = QFileDialog.getSaveFileName(window, tr("Save table"), "differences.csv", "CSV (*.csv)")
    if not name:
        return
    try:
        with Path(name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(SHAPE.header)
            writer.writerows(row.cells for row in window.deviations.model.rows)
    except OSError as error:
        window.problem(f"{name}: {error.strerror}")


def open_file(window: MainWindow) -> None:
    """Ask for a plan, or a graph to plan first, and open it."""
    kinds = f"{tr('Plans and graphs')} (*.json *.mindir *.ir *.onnx);;{tr('All files')} (*)"
    name, _ = QFileDialog.getOpenFileName(window, tr("Open plan or graph"), "", kinds)
    if name:
        window.open([Path(name)])


def open_folder(window: MainWindow) -> None:
    """Ask for a profile directory and open it."""
    name = QFileDialog.getExistingDirectory(window, tr("Open profile directory"))
    if name:
        window.open([Path(name)])
