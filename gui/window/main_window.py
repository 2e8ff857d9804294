"""The main window: the timeline in the middle, the other views in docks around it, all on one time axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QApplication,
    QDockWidget,
    QLabel,
    QMainWindow,
    QStackedWidget,
    QTabBar,
    QToolBar,
    QVBoxLayout,
    QWidget,
)

from memplan.core.errors import InputError, UnboundShapeError
from memplan.gui.i18n import choose_language, say, tr
from memplan.gui.model.document.open_documents import OpenDocuments
from memplan.gui.model.document.open_request import Request, notes_of, requests_for, wants_chip
from memplan.gui.model.document.session import Session
from memplan.gui.model.palette import Palette
from memplan.gui.theme import apply_theme
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.icons import colour_title_buttons
from memplan.gui.views.job_bar import JobBar
from memplan.gui.views.memory.live_tensors_view import LiveTensorsView
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.memory.memory_delta_view import MemoryDeltaView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.memory.transfers_view import TransfersView
from memplan.gui.views.problems_panel import ProblemsView
from memplan.gui.views.search_bar import SearchBar
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.views.view import SessionView, View
from memplan.gui.views.welcome_page import WelcomeView
from memplan.gui.window.commands import Commands
from memplan.gui.window.dialogs import ask_chip, ask_shape
from memplan.gui.window.lazy_docks import LazyDocks
from memplan.gui.window.settings import Settings
from memplan.gui.window.side_by_side_controller import SideBySideController
from memplan.gui.window.window_commands import TOOLS, view_menu, ways_to_begin, window_commands
from memplan.gui.work.jobs import Jobs
from memplan.gui.work.loader import DocumentLoader

BOTTOM, RIGHT = Qt.DockWidgetArea.BottomDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea


class MainWindow(QMainWindow):
    """
    One window on the documents of its tabs. `settings` keeps layout, colours and files; `None` keeps nothing.

    With `background` tracks are read and files opened on worker threads, otherwise at once (for pictures).
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
        self.settings = Settings(settings)
        self.colours = palette or self.settings.palette
        self.documents = OpenDocuments(session)
        self.jobs = Jobs(self, background=background)
        self.jobs.failed.connect(self.problem)
        self.loader = DocumentLoader(self.jobs, self)
        self.loader.unbound.connect(self._ask_shape)
        self.loader.tracks_read.connect(self._show_tracks)
        self.side_by_side = SideBySideController(self)
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        self.setCorner(Qt.Corner.BottomRightCorner, RIGHT)
        self.setCorner(Qt.Corner.TopRightCorner, RIGHT)
        self._make_status()
        self._make_views()
        self.resize(1500, 920)
        self._default_state = self.saveState()
        self._restore_layout()
        self.documents.changed.connect(self._show_current)
        self._show_current()

    @property
    def session(self) -> Session:
        """The session that is shown."""
        return self.documents.current.session

    @property
    def request(self) -> Request:
        """What the session that is shown was opened from."""
        return self.documents.current.request

    # -- parts ---------------------------------------------------------------------------------------------------

    def _make_views(self) -> None:
        loader = self.loader.tracks if self.jobs.background else None
        session = self.session
        self.timeline = TimelineView(session, self.colours, self, loader)
        self.memory_map = MemoryMapView(session, self.colours, self)
        self.curve = CurveView(session, self.colours, self)
        self.difference = MemoryDeltaView(session, self.colours, self)
        self.details = DetailsView(session, self.colours, self)
        self.deviations = DeviationsView(session, self)
        self.alive = LiveTensorsView(session, self)
        self.transfers = TransfersView(session, self)
        self.problems = ProblemsView(self.colours, self)
        self.problems.changed.connect(self._show_problem_count)
        self.search = SearchBar(session, self.jobs, self)
        self.search.jumped.connect(self.timeline.show_track)
        self.search.opened.connect(lambda: self.loader.every_track(self.session))
        self.search.hide()
        self.lazy_docks = LazyDocks(self)
        self.views: dict[str, View] = {}
        self.docks: dict[str, QDockWidget] = {}
        self.titles: dict[str, str] = {}
        self._make_middle()
        details_dock = self.add_view("details", "Details", self.details, RIGHT)
        self.add_view("problems", "Problems", self.problems, RIGHT, under=details_dock)
        details_dock.raise_()
        map_dock = self.add_view("map", "Memory map", self.memory_map, BOTTOM)
        curve_dock = self.add_view("curve", "Memory over time", self.curve, BOTTOM)
        self.splitDockWidget(map_dock, curve_dock, Qt.Orientation.Vertical)
        # Qt leaves a stray tab bar behind when a second group of tabs is made before the first was laid out.
        layout = self.layout()
        if layout is not None:
            layout.activate()
        self.add_view("difference", "Planned − measured", self.difference, BOTTOM, under=curve_dock)
        self.add_view("deviations", "Plan against profile", self.deviations, BOTTOM, under=self.docks["difference"])
        self.add_view("alive", "Alive at the cursor", self.alive, BOTTOM, under=self.docks["deviations"])
        self.add_view("transfers", "Moves", self.transfers, BOTTOM, under=self.docks["alive"])
        curve_dock.raise_()
        self.resizeDocks([map_dock, curve_dock], [250, 220], Qt.Orientation.Vertical)
        self.resizeDocks([details_dock], [360], Qt.Orientation.Horizontal)
        self.commands = Commands(self, window_commands(self))
        self.toolbar = QToolBar(tr("Tools"), self)
        self.toolbar.setObjectName("tools")
        self.toolbar.setMovable(False)
        for tool in TOOLS:
            if tool is None:
                self.toolbar.addSeparator()
                continue
            action = self.commands.actions[tool[0]]
            action.setIconText(tr(tool[1]))
            action.setToolTip(action.text())
            self.toolbar.addAction(action)
        self.addToolBar(self.toolbar)

    def _make_middle(self) -> None:
        """The tabs of the documents, the search bar, and the timeline or the welcome page."""
        self.tabs = QTabBar(self)
        self.tabs.setTabsClosable(True)
        self.tabs.setExpanding(False)
        self.tabs.setDocumentMode(True)
        self.tabs.currentChanged.connect(self.documents.select)
        self.tabs.tabCloseRequested.connect(self.close_document)
        self.welcome = WelcomeView(ways_to_begin(self), self.open_request, self.colours, self)
        self.middle = QStackedWidget(self)
        self.middle.addWidget(self.side_by_side.make_page(self.timeline))
        self.middle.addWidget(self.welcome)
        self.name_view("timeline", "Timeline", self.timeline)
        middle = QWidget(self)
        stacked = QVBoxLayout(middle)
        stacked.setContentsMargins(0, 0, 0, 0)
        stacked.setSpacing(0)
        stacked.addWidget(self.tabs)
        stacked.addWidget(self.search)
        stacked.addWidget(self.middle, 1)
        self.setCentralWidget(middle)

    def name_view(self, name: str, title: str, view: QWidget) -> None:
        """Let `view` be saved, copied and drawn in other colours as `name`, with an English title."""
        view.setObjectName(name)
        self.titles[name] = title
        if isinstance(view, View):
            self.views[name] = view
            view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
            view.customContextMenuRequested.connect(lambda at: view_menu(self, name).popup(view.mapToGlobal(at)))

    def add_view(
        self, name: str, title: str, view: QWidget, area: Qt.DockWidgetArea, under: QDockWidget | None = None
    ) -> QDockWidget:
        """Put `view` into a dock called `name` with an English title: at `area`, or as a tab with dock `under`."""
        dock = QDockWidget(tr(title), self)
        dock.setObjectName(f"dock-{name}")
        dock.setWidget(view)
        if under is None:
            self.addDockWidget(area, dock)
        else:
            self.tabifyDockWidget(under, dock)
        self.docks[name] = dock
        self.name_view(name, title, view)
        # Qt gives the buttons its own icons again whenever the dock floats or settles.
        dock.topLevelChanged.connect(lambda *_: colour_title_buttons(dock, self.colours.css("faint")))
        colour_title_buttons(dock, self.colours.css("faint"))
        return dock

    def show_view(self, name: str) -> None:
        """Bring a dock to the front."""
        self.docks[name].show()
        self.docks[name].raise_()

    def _make_status(self) -> None:
        self.simulated_mark = QLabel(self)
        self.statusBar().addPermanentWidget(self.simulated_mark)
        self.statusBar().addPermanentWidget(JobBar(self.jobs, self.loader, self))

    def canvases(self) -> Sequence[TimeCanvas]:
        """The views on the common time axis."""
        return self.timeline, self.memory_map, self.curve, self.difference

    def view_widgets(self) -> Iterator[tuple[str, QWidget]]:
        """Every view that can be saved or copied, as a widget, by name."""
        return ((name, view) for name, view in self.views.items() if isinstance(view, QWidget))

    def session_views(self) -> Iterator[SessionView]:
        """The views that show the session."""
        return (view for view in self.views.values() if isinstance(view, SessionView))

    # -- what is shown -------------------------------------------------------------------------------------------

    def show_session(self, session: Session) -> None:
        """Show `session` in place of the current one."""
        self.documents.show(Request(), session, new_tab=False)

    def _show_current(self) -> None:
        session = self.session
        self.loader.forget_tracks()
        arrangement = self.settings.arrangement
        if arrangement:
            session.tracks.arrange(arrangement)
        for view in self.session_views():
            view.show_session(session)
        self.search.show_session(session)
        self.problems.show_notes(notes_of(session))
        empty = session.document.empty
        self.middle.setCurrentWidget(self.welcome if empty else self.side_by_side.page)
        if empty:
            self.welcome.show_recent(self.settings.recent)
        self.show_tabs()
        name = session.document.name
        mark = f" [{tr('simulated profile')}]" if session.document.simulated else ""
        self.simulated_mark.setText(tr("simulated profile"))
        self.simulated_mark.setVisible(session.document.simulated)
        self.setWindowTitle(f"{name}{mark} – memplan" if name else "memplan")
        self.side_by_side.follow()
        self.commands.refresh()

    def show_tabs(self) -> None:
        """One tab a document, the two of a side by side with their letters."""
        self.tabs.blockSignals(True)
        while self.tabs.count():
            self.tabs.removeTab(0)
        for item, called in zip(self.documents.opened, self.documents.names(), strict=True):
            name, letter = say(called) or tr("Empty"), self.side_by_side.letter(item)
            place = self.tabs.addTab(f"{letter} · {name}" if letter else name)
            self.tabs.setTabToolTip(place, "\n".join(str(path) for path in item.request.paths))
        self.tabs.setCurrentIndex(self.documents.index)
        self.tabs.blockSignals(False)
        self.tabs.setVisible(len(self.documents.opened) > 1)

    def close_document(self, index: int | None = None) -> None:
        """Close document `index`, the shown one without; the last one gives way to the welcome page."""
        self.keep_arrangement()
        self.documents.close(self.documents.index if index is None else index)

    def open(self, paths: Sequence[Path], chip: str | None = None) -> None:
        """Open files and folders: beside what is open of the other kind, else as further documents."""
        for request in requests_for(list(paths), self.request):
            if not self.open_planned(replace(request, chip=chip or request.chip)):
                return

    def open_planned(self, request: Request) -> bool:
        """Open `request`, of a graph after asking for the chip to plan it for; false if the user gave up."""
        if wants_chip(request):
            chip = ask_chip(self)
            if chip is None:
                return False
            request = replace(request, chip=chip)
        self.open_request(request)
        return True

    def open_request(
        self, request: Request, time_range: tuple[float, float] | None = None, *, new_tab: bool = False
    ) -> None:
        """
        Show what `request` names, at `time_range` of it; while it is read, what was open stays.

        It takes the place of a document that it holds all of, unless it is to have a `new_tab`.
        """

        def done(request: Request, session: Session) -> None:
            if time_range is not None:
                session.viewport.show(*time_range)
            self.settings.opened(request)
            self.keep_arrangement()
            now = self.request  # of several that were asked for together, the first to be read may be shown by now
            extends = now.plan in (None, request.plan) and now.profile in (None, request.profile) and not new_tab
            self.documents.show(request, session, new_tab=not extends)

        self.loader.open(request, done)

    def _ask_shape(self, request: Request, error: UnboundShapeError, done: Callable[[Request, Session], None]) -> None:
        """Ask for the shape that an input leaves open, and read on with it."""
        try:
            shape = ask_shape(self, error)
        except InputError as wrong:
            self.problem(str(wrong))
            return
        if shape is None:
            self.problem(str(error))
            return
        kept = tuple(item for item in request.shapes if item[0] != shape[0])
        self.loader.open(replace(request, shapes=(*kept, shape)), done)

    def reopen(self) -> None:
        """Open what was open when the app ended; what has gone since is a line in the problems panel."""
        for request, time_range in self.settings.open_at_start:
            self.open_request(request, time_range)

    def problem(self, text: str) -> None:
        """Say what went wrong, in the problems panel."""
        self.problems.add_error(text)
        self.show_view("problems")
        self.statusBar().showMessage(text, 10_000)

    def _show_tracks(self, session: Session) -> None:
        for timeline in self.side_by_side.timelines():
            if timeline.session is session:
                timeline.tracks_changed()
        if session is self.session:
            self.search.search_for(self.search.edit.text())
            self.problems.show_notes(notes_of(session))

    def _show_problem_count(self) -> None:
        self.docks["problems"].setWindowTitle(self.problems.title)

    # -- looks and layout ----------------------------------------------------------------------------------------

    def _restore_layout(self) -> None:
        kept = self.settings.layout()
        if kept is not None:
            self.restoreGeometry(kept[0])
            self.restoreState(kept[1])
            for name in self.settings.lazy_docks:
                self.lazy_docks.show(name, lambda: self.restoreState(kept[1]))

    def reset_layout(self) -> None:
        """Put every dock back where it was in the first place."""
        self.restoreState(self._default_state)

    def keep_arrangement(self) -> None:
        """Keep how the tracks are arranged, if the user arranged any."""
        tracks = self.session.tracks
        if tracks.arranged:
            self.settings.arrangement = tracks.arrangement(self.settings.arrangement)

    def set_colours(self, palette: Palette) -> None:
        """Draw the whole application with other colours, now and at the next start."""
        application = QApplication.instance()
        if palette.theme != self.colours.theme and isinstance(application, QApplication):
            apply_theme(application, palette)
        self.colours = palette
        self.settings.palette = palette
        for view in self.views.values():
            view.set_palette(palette)
        for dock in self.docks.values():
            colour_title_buttons(dock, palette.css("faint"))
        self.welcome.set_palette(palette)
        self.side_by_side.set_palette()

    def set_language(self, code: str) -> None:
        """Speak another language, now and at the next start: every view is made anew."""
        self.settings.language = code
        choose_language(code)
        state = self.saveState()
        made = self.lazy_docks.made
        errors = list(self.problems.errors)
        self.side_by_side.forget_views()
        self._forget_views()
        for dock in self.docks.values():
            self.removeDockWidget(dock)
            dock.deleteLater()
        self.removeToolBar(self.toolbar)
        self.toolbar.deleteLater()
        self.commands.remove()
        self._make_views()
        for name in made:
            self.lazy_docks.show(name)
        self.side_by_side.follow()
        for text in reversed(errors):
            self.problems.add_error(text)
        self.restoreState(state)
        self._show_current()

    def active_view(self) -> str:
        """Name of the view that has the keyboard, or the timeline."""
        widget = QApplication.focusWidget()
        while widget is not None and widget is not self:
            name = widget.objectName()
            if name in self.views:
                return name
            widget = widget.parentWidget()
        return "timeline"

    def _forget_views(self) -> None:
        for view in self.session_views():
            view.forget()

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
        """Stop the work under way and keep layout, tracks and what was open."""
        self.side_by_side.end()
        self.settings.keep_layout(self.saveGeometry(), self.saveState())
        self.settings.lazy_docks = self.lazy_docks.shown
        self.keep_arrangement()
        kept = [(item.request, item.session.viewport) for item in self.documents.opened]
        self.settings.open_at_start = [
            (request, (viewport.start, viewport.end))
            for request, viewport in kept
            if request.plan is not None or request.profile is not None
        ]
        self.jobs.stop()
        self._forget_views()
        super().closeEvent(event)
