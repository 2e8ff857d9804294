"""Saving and copying what a window shows, and exporting its plan: where to, in which format, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from PySide6.QtWidgets import QFileDialog, QMainWindow, QWidget

from memplan.core.errors import MemplanError
from memplan.export import EXPORTERS, export
from memplan.gui.i18n import tr
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.view import MenuEntry
from memplan.gui.window.view_docks import ViewDocks
from memplan.gui.window.view_export import VIEW_FORMATS, copy_view_data, picture, view_picture, write_view
from memplan.gui.work.jobs import Jobs

if TYPE_CHECKING:
    from memplan.core.progress import Progress
    from memplan.schema import Plan

_Used = TypeVar("_Used")

OWN_FORMAT = "memplan"
"""The plan's own file format, beside those that `memplan.export` writes."""
_SAID_MS = 8_000


class ExportDialogs:
    """What asks where to and writes views of `docks`, the whole `window`, and plans; work is done by `jobs`."""

    def __init__(self, window: QMainWindow, docks: ViewDocks, jobs: Jobs) -> None:
        self._window = window
        self._docks = docks
        self._jobs = jobs

    def entries(self, name: str) -> Sequence[MenuEntry]:
        """What the menu of every view offers."""
        return (
            MenuEntry(tr("Copy"), lambda: self.copy_view(name)),
            MenuEntry(tr("Save as picture or table …"), lambda: self.save_view(name)),
        )

    def save_view(self, name: str) -> None:
        """Ask where to and save view `name`, or the window for an empty name, in the format of the file's suffix."""
        title = self._docks.titles.get(name, "memplan")
        suffixes = [suffix for suffix in VIEW_FORMATS if name or suffix != ".csv"]
        stem = "-".join(title.casefold().replace("−", "minus").split())
        kinds = ";;".join(VIEW_FORMATS[suffix] for suffix in suffixes)
        chosen, kind = QFileDialog.getSaveFileName(
            self._window, f"{tr('Save')}: {tr(title)}", f"{stem}{suffixes[0]}", kinds
        )
        if not chosen:
            return
        path = Path(chosen)
        if path.suffix.casefold() not in suffixes:
            wanted = next((suffix for suffix in suffixes if VIEW_FORMATS[suffix] == kind), suffixes[0])
            path = path.with_name(path.name + wanted)
        try:
            data = view_picture(self._widget(name), path)
        except MemplanError as error:
            self._jobs.failed.emit(error.said(tr))
            return
        title = f"{tr('Save')} {path.name}"
        if data is None:
            self._with_sheet(name, title, lambda sheet: write_view(path, sheet.text().encode()), self._written)
        else:
            self._jobs.start(title, lambda _: write_view(path, data), self._written)

    def copy_view(self, name: str) -> None:
        """Put the picture and the table of view `name`, or the picture of the window, on the clipboard."""
        image = picture(self._widget(name)).toImage()

        def done(table: str | None) -> None:
            copy_view_data(image, table)
            title = self._docks.titles.get(name, "memplan")
            self._window.statusBar().showMessage(tr("copied: {}").format(tr(title)), 5_000)

        if name:
            self._with_sheet(name, tr("Copy"), lambda sheet: sheet.text("\t"), done)
        else:
            done(None)

    def export_plan(self, plan: Plan | None) -> None:
        """Ask for a format and a place and write `plan` there."""
        if plan is None:
            self._window.statusBar().showMessage(tr("No plan is open."), 5_000)
            return
        kinds = {tr("memplan's own plan") + " (*.json)": OWN_FORMAT}
        for exporter in (item for item in EXPORTERS.values() if item.plans):
            kinds[f"{tr(exporter.description)} (*{exporter.suffix})"] = exporter.name
        name, kind = QFileDialog.getSaveFileName(self._window, tr("Export the plan"), "plan.json", ";;".join(kinds))
        if name:
            self.write_plan(plan, kinds.get(kind, OWN_FORMAT), Path(name))

    def write_plan(self, plan: Plan, to: str, path: Path) -> None:
        """Write `plan` in format `to` off the interface's thread, and say where it is or what went wrong."""

        def work(progress: Progress) -> Path:
            if to == OWN_FORMAT:
                plan.save(path)
                return path
            return export(plan, to, path, progress=progress)

        self._jobs.start(f"{tr('Export the plan')} {path.name}", work, self._written)

    def _written(self, path: Path) -> None:
        self._window.statusBar().showMessage(tr("written to {}").format(path), _SAID_MS)

    def _widget(self, name: str) -> QWidget:
        """The view called `name`; the whole window for an empty name."""
        return self._docks.widgets()[name] if name else self._window

    def _with_sheet(self, name: str, title: str, use: Callable[[Sheet], _Used], done: Callable[[_Used], None]) -> None:
        """Give the table of view `name` to `use`, and what comes of it to `done`; long tables are made on a worker."""
        view = self._docks.views[name]
        if isinstance(view, TimeCanvas):
            self._jobs.start(title, lambda _: use(view.sheet()), done)
        else:  # its order is that of a widget, which only this thread may ask
            sheet = view.sheet()
            self._jobs.start(title, lambda _: use(sheet), done)
