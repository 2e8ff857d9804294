"""The commands of the main window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog

from memplan.gui.commands import Command
from memplan.gui.i18n import tr

if TYPE_CHECKING:
    from memplan.gui.main_window import MainWindow


def window_commands(window: MainWindow) -> list[Command]:
    """Everything that `window` can do, in the order of its menus."""
    return [*_file(window), *_go(window), *_view(window)]


def _file(window: MainWindow) -> list[Command]:
    return [
        Command("open-file", "File", "Open plan …", lambda: open_file(window), ("Ctrl+O",)),
        Command("open-folder", "File", "Open profile directory …", lambda: open_folder(window), ("Ctrl+Shift+O",)),
        Command("cancel", "File", "Cancel reading", window.cancel_opening, ("Ctrl+.",)),
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
        window.session.viewport.selection = None
        window.session.pick(None)

    def marker() -> None:
        viewport = window.session.viewport
        time = viewport.cursor if viewport.cursor is not None else (viewport.start + viewport.end) / 2
        window.session.add_marker(time)

    return [
        Command("show-all", "Go", "Show everything", show_all, ("Home", "0")),
        Command("zoom-to", "Go", "Zoom to the selection or the picked thing", to_selection, ("F",)),
        Command("back", "Go", "Back to before the jump", viewport_back, ("Backspace", "Alt+Left")),
        Command("peak", "Go", "To the memory peak", to_peak, ("P",)),
        Command("marker", "Go", "Set a marker at the cursor", marker, ("M",), separated=True),
        Command("clear-markers", "Go", "Remove all markers", lambda: window.session.clear_markers(), ("Shift+M",)),
        Command("clear", "Go", "Clear selection", clear, ("Escape",)),
    ]


def _view(window: MainWindow) -> list[Command]:
    commands = []
    for index, (name, dock) in enumerate(window.docks.items()):
        title = {"map": "Memory map", "curve": "Memory over time", "details": "Details", "problems": "Problems"}[name]

        def turn(dock: object = dock) -> None:
            dock.setVisible(not dock.isVisible())  # type: ignore[attr-defined]

        commands.append(
            Command(f"dock-{name}", "View", title, turn, (f"Ctrl+{index + 1}",), checked=dock.isVisible)
        )
    commands.append(Command("reset-layout", "View", "Reset the layout", window.reset_layout, separated=True))
    return commands


def open_file(window: MainWindow) -> None:
    """Ask for a plan and open it."""
    name, _ = QFileDialog.getOpenFileName(window, tr("Open plan"), "", f"{tr('Plans')} (*.json)")
    if name:
        window.open([Path(name)])


def open_folder(window: MainWindow) -> None:
    """Ask for a profile directory and open it."""
    name = QFileDialog.getExistingDirectory(window, tr("Open profile directory"))
    if name:
        window.open([Path(name)])
