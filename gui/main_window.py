"""The main window: the timeline in the middle, the other views in docks around it, all on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QApplication,
    QDockWidget,
    QInputDialog,
    QLabel,
    QMainWindow,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from memplan.gui.commands import Commands
from memplan.gui.i18n import tr
from memplan.gui.jobs import Job, Jobs
from memplan.gui.model.document import Document
from memplan.gui.model.opening import Request, is_graph, notes_of, open_session, request_for
from memplan.gui.model.palette import Palette, load_palette
from memplan.gui.model.rows import Row
from memplan.gui.model.session import Session
from memplan.gui.theme import apply_theme
from memplan.gui.views.alive import AliveView
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.curve import CurveView
from memplan.gui.views.details import DetailsView
from memplan.gui.views.deviations import DeviationsView
from memplan.gui.views.memory_map import MemoryMapView
from memplan.gui.views.problems import ProblemsView
from memplan.gui.views.search import SearchBar
from memplan.gui.views.timeline import TimelineView
from memplan.gui.window_commands import window_commands
from memplan.hardware import chips
from memplan.progress import Progress

if TYPE_CHECKING:
    from memplan.gui.views.kv_budget import KvBudgetView
    from memplan.gui.views.roofline import RooflineView


class MainWindow(QMainWindow):
    """
    One window on one document. `settings` keeps layout, theme and recent files; `None` keeps nothing.

    With `background` rows are read and files opened on worker threads, otherwise at once (for pictures).
    """

    def __init__(
        self,
        session: Session | None = None,
        *,
        settings: QSettings | None = None,
        palette: Palette | None = None,
        background: bool = True,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.colours = palette or load_palette()
        self.session = session or Session(Document())
        self.request = Request()
        self.background = background
        self.jobs = Jobs(self)
        self.jobs.changed.connect(self._show_jobs)
        self._opening: Job | None = None
        self._loading: set[str] = set()
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        for corner, area in (
            (Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea),
            (Qt.Corner.TopRightCorner, Qt.DockWidgetArea.RightDockWidgetArea),
        ):
            self.setCorner(corner, area)
        self._make_views()
        self._make_status()
        self.commands = Commands(self, window_commands(self))
        self.resize(1500, 920)
        self._default_state = self.saveState()
        if settings is not None:
            self._restore(settings)
        self.show_session(self.session)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _make_views(self) -> None:
        loader = self._load_rows if self.background else None
        self.timeline = TimelineView(self.session, self.colours, self, loader)
        self.memory_map = MemoryMapView(self.session, self.colours, self)
        self.curve = CurveView(self.session, self.colours, self)
        self.details = DetailsView(self.session, self.colours, self)
        self.deviations = DeviationsView(self.session, self)
        self.alive = AliveView(self.session, self)
        self.problems = ProblemsView(self.colours, self)
        self.problems.changed.connect(self._show_problem_count)
        self.search = SearchBar(self.session, self)
        self.search.jumped.connect(self.timeline.show_row)
        self.search.opened.connect(self._load_every_row)
        self.search.hide()
        middle = QWidget(self)
        stacked = QVBoxLayout(middle)
        stacked.setContentsMargins(0, 0, 0, 0)
        stacked.setSpacing(0)
        stacked.addWidget(self.search)
        stacked.addWidget(self.timeline, 1)
        self.setCentralWidget(middle)
        self.docks: dict[str, QDockWidget] = {}
        self.titles: dict[str, str] = {}
        bottom, right = Qt.DockWidgetArea.BottomDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea
        details_dock = self.add_view("details", "Details", self.details, right)
        self.add_view("problems", "Problems", self.problems, right, under=details_dock)
        details_dock.raise_()
        map_dock = self.add_view("map", "Memory map", self.memory_map, bottom)
        curve_dock = self.add_view("curve", "Memory over time", self.curve, bottom)
        self.splitDockWidget(map_dock, curve_dock, Qt.Orientation.Vertical)
        # Qt leaves a stray tab bar behind when a second group of tabs is made before the first was laid out.
        layout = self.layout()
        if layout is not None:
            layout.activate()
        self.add_view("deviations", "Plan against profile", self.deviations, bottom, under=curve_dock)
        self.add_view("alive", "Alive at the cursor", self.alive, bottom, under=self.docks["deviations"])
        self.kv: KvBudgetView | None = None
        self.roofline: RooflineView | None = None
        curve_dock.raise_()
        self.resizeDocks([map_dock, curve_dock], [250, 220], Qt.Orientation.Vertical)
        self.resizeDocks([details_dock], [360], Qt.Orientation.Horizontal)

    def show_kv_budget(self, config: Path | None = None) -> None:
        """Show the KV budget, of `config` when given; made on first use, for its data files take time to read."""
        if self.kv is None:
            from memplan.gui.views.kv_budget import KvBudgetView

            self.kv = KvBudgetView(self.colours, self, config)
            area = Qt.DockWidgetArea.BottomDockWidgetArea
            self.add_view("kv", "KV budget", self.kv, area, under=self.docks["alive"])
        elif config is not None:
            self.kv.show_model(config)
        self.docks["kv"].show()
        self.docks["kv"].raise_()

    def show_roofline(self) -> None:
        """Show the roofline; made on first use, for its plotting library takes time to import."""
        if self.roofline is None:
            from memplan.gui.views.roofline import RooflineView

            self.roofline = RooflineView(self.session, self.colours, self)
            area = Qt.DockWidgetArea.BottomDockWidgetArea
            self.add_view("roofline", "Roofline", self.roofline, area, under=self.docks["alive"])
        self.docks["roofline"].show()
        self.docks["roofline"].raise_()

    def add_view(
        self, name: str, title: str, view: QWidget, area: Qt.DockWidgetArea, under: QDockWidget | None = None
    ) -> QDockWidget:
        """Put `view` into a dock called `name` with an English title: at `area`, or as a tab with dock `under`."""
        dock = QDockWidget(tr(title), self)
        dock.setObjectName(name)
        dock.setWidget(view)
        if under is None:
            self.addDockWidget(area, dock)
        else:
            self.tabifyDockWidget(under, dock)
        self.docks[name] = dock
        self.titles[name] = title
        return dock

    def _make_status(self) -> None:
        self.progress_text = QLabel(self)
        self.progress_bar = QProgressBar(self)
        self.progress_bar.setMaximumWidth(180)
        self.cancel_button = QPushButton(tr("Cancel"), self)
        self.cancel_button.clicked.connect(self.cancel_opening)
        self.simulated_mark = QLabel(tr("simulated profile"), self)
        self.statusBar().addPermanentWidget(self.simulated_mark)
        for widget in (self.progress_text, self.progress_bar, self.cancel_button):
            self.statusBar().addPermanentWidget(widget)
            widget.hide()

    def canvases(self) -> Sequence[TimeCanvas]:
        """The views on the common time axis."""
        return self.timeline, self.memory_map, self.curve

    # -- what is shown -------------------------------------------------------------------------------------------

    def show_session(self, session: Session) -> None:
        """Show `session` in every view."""
        self.session = session
        self._loading.clear()
        for canvas in self.canvases():
            canvas.show_session(session)
        self.details.show_session(session)
        self.deviations.show_session(session)
        self.alive.show_session(session)
        if self.roofline is not None:
            self.roofline.show_session(session)
        self.search.show_session(session)
        self.problems.show_notes(notes_of(session))
        name = session.document.name
        mark = f" [{tr('simulated profile')}]" if session.document.simulated else ""
        self.simulated_mark.setVisible(session.document.simulated)
        self.setWindowTitle(f"{name}{mark} – memplan" if name else "memplan")
        self.commands.refresh()

    def open(self, paths: Sequence[Path], chip: str | None = None) -> None:
        """Open files and folders beside what is open of the other kind."""
        request = request_for(list(paths), self.request)
        chip = chip or request.chip
        if request.plan is not None and is_graph(request.plan) and chip is None:
            chip = self.ask_chip()
            if chip is None:
                return
        self.open_request(Request(request.plan, request.profile, request.rank, chip))

    def ask_chip(self) -> str | None:
        """The chip that a graph is to be planned for, or `None` if the user gave up."""
        names = [item.name.removeprefix("Ascend") for item in chips() if item.hbm_bytes is not None]
        chosen, sure = QInputDialog.getItem(
            self, tr("Plan a graph"), tr("Chip to plan it for"), names, names.index("910B3"), False
        )
        return chosen if sure else None

    def open_request(self, request: Request) -> None:
        """Show what `request` names; while it is read, what was open stays."""

        def done(session: Session) -> None:
            self.request = request
            self.show_session(session)

        if not self.background:
            done(open_session(request))
            return
        self.cancel_opening()
        names = " + ".join(path.name for path in (request.plan, request.profile) if path is not None)
        self._opening = self.jobs.start(names, lambda report: open_session(request, report), done, self.problem)

    def cancel_opening(self) -> None:
        """Stop reading what was asked for last."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def problem(self, text: str) -> None:
        """Say what went wrong, in the problems panel."""
        self.problems.add_error(text)
        self.docks["problems"].show()
        self.docks["problems"].raise_()
        self.statusBar().showMessage(text, 10_000)

    def _load_every_row(self) -> None:
        """Read the tracks that were never on the screen, so that a search misses none of them."""
        unread = [row for row in self.session.rows.rows if not self.session.rows.loaded(row)]
        if self.background:
            self._load_rows(unread)
            return
        for row in unread:
            self.session.rows.load(row)

    def _load_rows(self, rows: Sequence[Row]) -> None:
        fresh = [row for row in rows if row.key not in self._loading]
        if not fresh:
            return
        self._loading.update(row.key for row in fresh)
        model, session = self.session.rows, self.session

        def work(progress: Progress) -> None:
            for number, row in enumerate(fresh):
                progress(number, len(fresh), row.label)
                model.load(row)

        def done(_: object) -> None:
            if session is self.session:
                self.timeline.rows_changed()
                self.search.search_for(self.search.edit.text())
                self.problems.show_notes(notes_of(session))

        self.jobs.start(tr("reading tracks"), work, done, self.problem)

    # -- jobs ----------------------------------------------------------------------------------------------------

    def _show_jobs(self) -> None:
        job = self.jobs.running[0] if self.jobs.running else None
        for widget in (self.progress_text, self.progress_bar):
            widget.setVisible(job is not None)
        self.cancel_button.setVisible(job is not None and job is self._opening)
        if job is None:
            return
        self.progress_text.setText(f"{job.title} {job.what}"[:80])
        self.progress_bar.setRange(0, 1000 if job.total > 1 else 0)
        if job.total > 1:
            self.progress_bar.setValue(int(1000 * min(job.done / job.total, 1.0)))

    def _show_problem_count(self) -> None:
        self.docks["problems"].setWindowTitle(self.problems.title)

    # -- settings ------------------------------------------------------------------------------------------------

    def _restore(self, settings: QSettings) -> None:
        geometry, state = settings.value("geometry"), settings.value("state")
        if geometry is not None:
            self.restoreGeometry(geometry)
        if state is not None:
            self.restoreState(state)

    def reset_layout(self) -> None:
        """Put every dock back where it was in the first place."""
        self.restoreState(self._default_state)

    def choose_theme(self, theme: str) -> None:
        """Draw the whole application in `theme`, now and at the next start."""
        application = QApplication.instance()
        palette = load_palette(theme)
        if isinstance(application, QApplication):
            apply_theme(application, palette)
        self.set_colours(palette)
        if self.settings is not None:
            self.settings.setValue("theme", theme)

    def set_colours(self, palette: Palette) -> None:
        """Draw everything with other colours."""
        self.colours = palette
        for canvas in self.canvases():
            canvas.set_palette(palette)
        self.details.set_palette(palette)
        if self.kv is not None:
            self.kv.set_palette(palette)
        if self.roofline is not None:
            self.roofline.set_palette(palette)
        self.problems.colours = palette

    # -- events --------------------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open what was dropped."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            self.open(paths)
            event.acceptProposedAction()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop the work under way and keep the layout."""
        if self.settings is not None:
            self.settings.setValue("geometry", self.saveGeometry())
            self.settings.setValue("state", self.saveState())
        self.jobs.stop()
        for canvas in self.canvases():
            canvas.forget()
        self.details.forget()
        self.alive.forget()
        if self.roofline is not None:
            self.roofline.forget()
        super().closeEvent(event)
