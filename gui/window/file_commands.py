"""What the File menu does: opening, saving, copying and exporting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from PySide6.QtWidgets import QFileDialog, QWidget

from memplan.core.errors import MemplanError
from memplan.export import EXPORTERS, export
from memplan.gui.i18n import tr
from memplan.gui.model.document.open_request import PLAN_PATTERNS, Request
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.window.dialogs import ask_item
from memplan.gui.window.view_export import VIEW_FORMATS, copy_view_data, view_picture, write_view

if TYPE_CHECKING:
    from memplan.core.progress import Progress
    from memplan.gui.model.sheet import Sheet
    from memplan.gui.window.main_window import MainWindow
    from memplan.schema import Plan

T = TypeVar("T")

OWN_FORMAT = "memplan"
"""The plan's own file format, beside those that `memplan.export` writes."""


def open_sample(window: MainWindow) -> None:
    """Open the bundled plan and the profile that was simulated from it."""
    samples = Path(str(resources.files("memplan.samples")))
    window.open_request(Request(samples / "llama_train.plan.json", samples / "llama_train_profile"))


def open_file(window: MainWindow) -> None:
    """Ask for plans, or graphs to plan first, and open them."""
    kinds = f"{tr('Plans and graphs')} ({PLAN_PATTERNS});;{tr('All files')} (*)"
    names, _ = QFileDialog.getOpenFileNames(window, tr("Open plan or graph"), "", kinds)
    if names:
        window.open([Path(name) for name in names])


def open_folder(window: MainWindow) -> None:
    """Ask for a profile directory and open it."""
    name = QFileDialog.getExistingDirectory(window, tr("Open profile directory"))
    if name:
        window.open([Path(name)])


def reopen_recent(window: MainWindow) -> None:
    """Ask for one of the documents that were open before."""
    recent = window.settings.recent
    names = [" + ".join(str(path) for path in (item.plan, item.profile) if path is not None) for item in recent]
    if not names:
        window.statusBar().showMessage(tr("Nothing was opened yet."), 5_000)
        return
    chosen = ask_item(window, tr("Open recent"), tr("What to open again"), names, names[0])
    if chosen is not None:
        window.open_request(recent[names.index(chosen)])


def choose_rank(window: MainWindow, *, new_tab: bool = False) -> None:
    """Ask for a rank of the open profile and show it: in place of the present one or in a `new_tab`."""
    document = window.session.document
    if document.profile is None or document.rank is None or len(document.profile.ranks) < 2:
        window.statusBar().showMessage(tr("The open profile holds one rank only."), 5_000)
        return
    ranks = [str(rank) for rank in document.profile.ranks]
    chosen = ask_item(window, tr("Choose a rank"), tr("Rank"), ranks, str(document.rank.rank))
    if chosen is not None:
        now = window.request
        window.open_request(replace(now, rank=int(chosen)), new_tab=new_tab)


def _widget(window: MainWindow, name: str) -> QWidget:
    """The view called `name`; the whole window for an empty name."""
    return dict(window.view_widgets())[name] if name else window


def _with_sheet(
    window: MainWindow, name: str, title: str, use: Callable[[Sheet], T], done: Callable[[T], None]
) -> None:
    """Give the table of view `name` to `use`, and what comes of it to `done`; long tables are made on a worker."""
    view = window.views[name]
    if isinstance(view, TimeCanvas):
        window.jobs.start(title, lambda _: use(view.sheet()), done)
    else:  # its order is that of a widget, which only this thread may ask
        sheet = view.sheet()
        window.jobs.start(title, lambda _: use(sheet), done)


def save_view(window: MainWindow, name: str) -> None:
    """Ask where to and save view `name`, or the window, in the format that the file's suffix names."""
    title = window.titles.get(name, "memplan")
    suffixes = [suffix for suffix in VIEW_FORMATS if name or suffix != ".csv"]
    stem = "-".join(title.casefold().replace("−", "minus").split())
    chosen, kind = QFileDialog.getSaveFileName(
        window,
        f"{tr('Save')}: {tr(title)}",
        f"{stem}{suffixes[0]}",
        ";;".join(VIEW_FORMATS[suffix] for suffix in suffixes),
    )
    if not chosen:
        return
    path = Path(chosen)
    if path.suffix.casefold() not in suffixes:
        wanted = next((suffix for suffix in suffixes if VIEW_FORMATS[suffix] == kind), suffixes[0])
        path = path.with_name(path.name + wanted)

    def done(written: Path) -> None:
        window.statusBar().showMessage(f"{tr('written to')} {written}", 8_000)

    try:
        data = view_picture(_widget(window, name), path)
    except MemplanError as error:
        window.problem(str(error))
        return
    title = f"{tr('Save')} {path.name}"
    if data is None:
        _with_sheet(window, name, title, lambda sheet: write_view(path, sheet.text().encode()), done)
    else:
        window.jobs.start(title, lambda _: write_view(path, data), done)


def copy_view(window: MainWindow, name: str) -> None:
    """Put the picture and the table of view `name`, or the picture of the window, on the clipboard."""
    image = _widget(window, name).grab().toImage()

    def done(table: str | None) -> None:
        copy_view_data(image, table)
        window.statusBar().showMessage(f"{tr('copied')}: {tr(window.titles.get(name, 'memplan'))}", 5_000)

    if name:
        _with_sheet(window, name, tr("Copy"), lambda sheet: sheet.text("\t"), done)
    else:
        done(None)


def export_plan(window: MainWindow) -> None:
    """Ask for a format and a place and write the open plan there."""
    plan = window.session.document.plan
    if plan is None:
        window.statusBar().showMessage(tr("No plan is open."), 5_000)
        return
    kinds = {tr("memplan's own plan") + " (*.json)": OWN_FORMAT}
    for exporter in EXPORTERS.values():
        kinds[f"{tr(exporter.description)} (*{exporter.suffix})"] = exporter.name
    name, kind = QFileDialog.getSaveFileName(window, tr("Export the plan"), "plan.json", ";;".join(kinds))
    if name:
        write_plan(window, plan, kinds.get(kind, OWN_FORMAT), Path(name))


def write_plan(window: MainWindow, plan: Plan, to: str, path: Path) -> None:
    """Write `plan` in format `to` off the interface's thread, and say where it is or what went wrong."""

    def work(progress: Progress) -> Path:
        if to == OWN_FORMAT:
            plan.save(path)
            return path
        return export(plan, to, path, progress=progress)

    def done(written: Path) -> None:
        window.statusBar().showMessage(f"{tr('written to')} {written}", 8_000)

    window.jobs.start(f"{tr('Export the plan')} {path.name}", work, done)
