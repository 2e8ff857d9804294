"""The main window: pages by task, chosen on a rail; views on one time axis in the middle and in docks around it."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow, QVBoxLayout, QWidget

from memplan.gui.commands import Command, Commands
from memplan.gui.i18n import choose_language, tr
from memplan.gui.icons import app_icon
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.open_documents import OpenDocuments
from memplan.gui.model.session.open_request import Request, remarks_on
from memplan.gui.model.session.session import Session
from memplan.gui.settings import Settings
from memplan.gui.theme import apply_theme
from memplan.gui.views.command_palette import CommandPalette
from memplan.gui.views.job_bar import JobBar
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.gui.views.page_rail import PageRail
from memplan.gui.views.problems_panel import ProblemsView
from memplan.gui.views.search_bar import SearchBar
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.views.view import ViewServices
from memplan.gui.views.view_specs import PAGES, VIEW_SPECS
from memplan.gui.views.welcome_page import WayToBegin, WelcomeView
from memplan.gui.window.document_opener import DocumentOpener
from memplan.gui.window.document_tabs import DocumentTabs
from memplan.gui.window.export_dialogs import ExportDialogs
from memplan.gui.window.file_menu import file_commands
from memplan.gui.window.go_menu import StepNavigator, go_commands
from memplan.gui.window.page_switcher import PageLayout, PageStack, PageSwitcher, page_offered
from memplan.gui.window.rank_switcher import RankSwitcher
from memplan.gui.window.sharing import Sharing
from memplan.gui.window.side_by_side_controller import SideBySideController
from memplan.gui.window.tool_bar import ToolBar
from memplan.gui.window.tracks_menu import track_commands
from memplan.gui.window.view_docks import ViewDocks
from memplan.gui.window.view_menu import view_commands
from memplan.gui.work.garbage_collection import GarbageCollection
from memplan.gui.work.jobs import Jobs
from memplan.gui.work.loader import DocumentLoader

_RIGHT = Qt.DockWidgetArea.RightDockWidgetArea
_SAID_MS, _PROBLEM_MS = 5_000, 10_000
_FIRST_PX = (1600, 1000)
"""The size of the first window, where the screen has room for it."""


class MainWindow(QMainWindow):
    """
    One window on the documents of its tabs. `settings` keeps layout, colours and files; `None` keeps nothing.

    With `background` tracks are read and files opened on worker threads, otherwise at once (for pictures). The parts
    know each other by what they are given here: `documents`, what opens them, `docks` with the views, `side_by_side`.
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
        self.setWindowIcon(app_icon())
        self.settings = Settings(settings)
        self.colours = palette or self.settings.palette
        self.documents = OpenDocuments(session)
        self.jobs = Jobs(self, background=background)
        self.jobs.failed.connect(self.problem)
        self._garbage = GarbageCollection(self.jobs, self)
        self.documents.dropped.connect(self._garbage.dropped)
        self.loader = DocumentLoader(self.jobs, self)
        self.loader.tracks_read.connect(self._show_tracks)
        self.opener = DocumentOpener(
            self,
            self.documents,
            self.loader,
            self.settings,
            say=self.say,
            problem=self.problem,
            problems_ever=lambda: self.problems.errors_ever,
            opened=lambda before: self.problems.forget_errors(before),
        )
        self.docks = ViewDocks(self, VIEW_SPECS, self.services, lambda name: self.exports.entries(name))
        self.pages = PageSwitcher(self, PAGES, self.docks)
        self.pages.go = self.show_page
        self.pages.has_plan = lambda: self.session.document.plan is not None
        self.pages.has_run = lambda: self.session.document.profile is not None
        self.pages.changed.connect(self._page_changed)
        self.exports = ExportDialogs(self, self.docks, self.jobs)
        self.side_by_side = SideBySideController(self.documents, self.docks, self.opener, self.services, self.say)
        self.ranks = RankSwitcher(self.documents, self.opener, self.side_by_side, self.jobs)
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        self.setCorner(Qt.Corner.BottomRightCorner, _RIGHT)
        self.setCorner(Qt.Corner.TopRightCorner, _RIGHT)
        self._make_status()
        self._make_bars()
        self._make_middle()
        self._make_views()
        self.side_by_side.changed.connect(self._side_by_side_changed)
        self._page_shown: tuple[str, bool, bool] | None = None
        self._restore_layout()
        self.middle.setFocus()
        self.documents.changed.connect(self._show_current)
        self._show_current()

    @property
    def session(self) -> Session:
        """The session that is shown."""
        return self.documents.current.session

    def services(self) -> ViewServices:
        """What a view is made with now."""
        return ViewServices(
            self.session,
            self.colours,
            self.jobs,
            self.loader,
            self.settings,
            self,
            run=lambda name: self.commands.run(name),
            bring=lambda name: self.docks.bring(name),
            open_rank=self.ranks.open,
            ranks_beside=self.ranks.beside,
            compare_with=self.ranks.compare_with,
            planning_sources=self.opener.planning_sources,
            open_planned=self.opener.open_made,
        )

    # -- parts ---------------------------------------------------------------------------------------------------

    def _make_views(self) -> None:
        self.welcome = WelcomeView(self._ways_to_begin(), self.opener.open_request, self.colours, self)
        self.pages.use(self.middle, self.welcome)
        self.docks.make()
        timeline = self.timeline = self.docks.view(TimelineView)
        self.problems = self.docks.view(ProblemsView)
        self.problems.changed.connect(self._show_problem_count)
        self.search = SearchBar(self.session, self.jobs, self)
        self.search.jumped.connect(timeline.show_track)
        self.search.opened.connect(lambda: self.loader.every_track(self.session))
        self.search.opened.connect(lambda: self.pages.lead_to("timeline"))
        self.search.hide()
        self.pages.put_middle("overview", self.docks.view(OverviewView))
        self.pages.put_middle("timeline", self.side_by_side.make_page(timeline))
        self.stacked.insertWidget(1, self.search)
        self.commands = Commands(self, self._commands())
        self.toolbar.show_commands(self.commands)
        self.commands.set_palette(self.colours)
        self.rail.name_pages()

    def _commands(self) -> list[Command]:
        """Everything that the window can do, in the order of its menus."""
        steps = StepNavigator(self, self.documents, self.jobs, self.say)
        return [
            *file_commands(
                self.documents,
                self.opener,
                self.exports,
                self.docks,
                Sharing(self, self.documents, self.services, self.jobs, self.say),
                cancel=self.loader.cancel,
                close_window=self.close,
            ),
            *go_commands(
                self.documents, self.docks, self.search, steps, say=self.say, show_commands=self._show_commands
            ),
            *track_commands(self.documents, self.side_by_side.acting_timeline, self.say),
            *view_commands(
                self.documents,
                self.docks,
                self.pages,
                self.side_by_side,
                self,
                self.ranks,
                language=lambda: self.settings.language,
                show_tier=self.loader.show_tier,
                say=lambda text: self.statusBar().showMessage(text, 2_000),
                choose_colours=self._choose_colours,
            ),
        ]

    def _ways_to_begin(self) -> list[WayToBegin]:
        opener = self.opener
        return [
            (
                "Open the sample",
                "A small Llama training step: its plan and a profile of it",
                "open-sample",
                opener.open_sample,
            ),
            ("Open plan or graph …", "A plan of memplan, MindIR, kernel IR or ONNX", "open-file", opener.open_file),
            (
                "Open profile directory …",
                "What the CANN profiler left: one rank or many",
                "open-folder",
                opener.open_folder,
            ),
            (
                "Plan a model …",
                "A step of a published model: training, prefill or decode",
                "plan-model",
                lambda: opener.plan_model(),
            ),
            ("KV budget …", "How many tokens a served model has room for", "kv", lambda: self.docks.show("kv")),
        ]

    def _make_middle(self) -> None:
        """The tabs of the documents, room for the search bar, and the middles of pages or the welcome."""
        self.tabs = DocumentTabs(self.documents, self.opener.close, self)
        self.middle = PageStack(self)
        middle = QWidget(self)
        middle.setAutoFillBackground(True)  # bars of tabs that Qt keeps lie below: margins would show their ends
        self.stacked = QVBoxLayout(middle)
        self.stacked.setContentsMargins(0, 0, 0, 0)
        self.stacked.setSpacing(0)
        self.stacked.addWidget(self.tabs)
        self.stacked.addWidget(self.middle, 1)
        self.setCentralWidget(middle)

    def _make_status(self) -> None:
        self.simulated_mark = QLabel(self)
        self.statusBar().addPermanentWidget(self.simulated_mark)
        self.statusBar().addPermanentWidget(JobBar(self.jobs, self.loader, self))

    def _make_bars(self) -> None:
        """The bars at the edges, once: a bar that is taken away and put back moves everything beside it."""
        self.toolbar = ToolBar(self)
        self.addToolBar(self.toolbar)
        self.rail = PageRail(PAGES, self.show_page, self.colours, self)
        self.addToolBar(Qt.ToolBarArea.LeftToolBarArea, self.rail)

    def _show_commands(self) -> None:
        CommandPalette(self.commands, self).open()

    def _choose_colours(self) -> None:
        from memplan.gui.views.colours_dialog import ColoursDialog

        tracks = self.session.tracks
        lanes = [tracks.lanes(track) for track in tracks.all]
        categories = [kind for one in lanes if one is not None for kind in one.kinds]
        ColoursDialog(self.colours, categories, self.set_colours, self).open()

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
        for view in self.docks.session_views():
            view.show_session(session)
        self.search.show_session(session)
        self.problems.show_remarks(remarks_on(session))
        if session.document.empty:
            self.welcome.show_recent(self.settings.recent)
        self._turn_to_page()
        self.tabs.show_documents(self.side_by_side.letter, self.colours)
        name = session.document.name
        mark = f" [{tr('simulated profile')}]" if session.document.simulated else ""
        self.simulated_mark.setText(tr("simulated profile"))
        self.simulated_mark.setVisible(session.document.simulated)
        self.setWindowTitle(f"{name}{mark} – memplan" if name else "memplan")
        self.side_by_side.follow()
        self.commands.refresh()

    def show_page(self, name: str) -> None:
        """Show a page of the current document, if it has anything to show."""
        if page_offered(self.pages.pages[name], self.session.document):
            self.session.page = name
            self._turn_to_page()
        self.rail.show_page(self.pages.current, self._offered)

    def _turn_to_page(self) -> None:
        """Show the page that the current document is looked at on, unless it is there already."""
        session = self.session
        if not self._offered(session.page):
            session.page = next(iter(self.pages.pages))
        now = session.page, session.document.empty, session.document.plan is not None
        if now != self._page_shown:
            self._page_shown = now
            self.pages.show(session.page, empty=session.document.empty)
        self.rail.show_page(self.pages.current, self._offered)

    def _offered(self, name: str) -> bool:
        return page_offered(self.pages.pages[name], self.session.document)

    def _page_changed(self) -> None:
        self.commands.refresh()

    def _side_by_side_changed(self) -> None:
        self.tabs.show_documents(self.side_by_side.letter, self.colours)
        self.commands.refresh()

    def say(self, text: str) -> None:
        """Show a line for a while."""
        self.statusBar().showMessage(text, _SAID_MS)

    def problem(self, text: str) -> None:
        """Say what went wrong, in the problems panel."""
        self.problems.add_error(text)
        self.docks.bring("problems")
        self.statusBar().showMessage(text, _PROBLEM_MS)

    def _show_tracks(self, session: Session) -> None:
        for timeline in self.side_by_side.timelines():
            if timeline.session is session:
                timeline.tracks_changed()
        if session is self.session:
            self.search.search_for(self.search.edit.text())
            self.problems.show_remarks(remarks_on(session))

    def _show_problem_count(self) -> None:
        self.docks["problems"].setWindowTitle(self.problems.title)

    # -- looks and layout ----------------------------------------------------------------------------------------

    def _restore_layout(self) -> None:
        geometry = self.settings.geometry
        if geometry is None or not self.restoreGeometry(geometry):
            room = self.screen().availableSize()
            self.resize(min(_FIRST_PX[0], room.width()), min(_FIRST_PX[1], room.height()))
        self.pages.layouts = {
            page: PageLayout(shown, state) for page, (shown, state) in self.settings.page_layouts.items()
        }

    def reset_layout(self) -> None:
        """Put every dock back where it was in the first place."""
        self.pages.reset()

    def set_colours(self, palette: Palette) -> None:
        """Draw the whole application with other colours, now and at the next start."""
        application = QApplication.instance()
        if palette.theme != self.colours.theme and isinstance(application, QApplication):
            apply_theme(application, palette)
        self.colours = palette
        self.settings.palette = palette
        self.docks.set_palette()
        self.welcome.set_palette(palette)
        self.side_by_side.set_palette()
        self.rail.set_palette(palette)
        self.commands.set_palette(palette)
        self.tabs.show_documents(self.side_by_side.letter, self.colours)

    def set_language(self, code: str) -> None:
        """Speak another language, now and at the next start: every view is made anew."""
        self.settings.language = code
        choose_language(code)
        made = self.docks.made_lazily
        errors = list(self.problems.errors)
        self.side_by_side.forget_views()
        self.docks.drop_views()
        self.stacked.removeWidget(self.search)
        self.search.deleteLater()
        self.menuBar().setMinimumHeight(self.menuBar().height())  # an empty one would move everything under it
        self.commands.remove()
        self._make_views()
        for name in made:
            self.docks.show(name, lambda: None)
        self.side_by_side.follow()
        for text in reversed(errors):
            self.problems.add_error(text)
        self.pages.renew_middle(empty=self.session.document.empty)
        self._show_current()

    # -- events --------------------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open what was dropped."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            self.opener.open(paths)
            event.acceptProposedAction()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop the work under way and keep layout, tracks and what was open."""
        self.side_by_side.end()
        self.pages.keep()
        self.settings.geometry = self.saveGeometry()
        self.settings.page_layouts = {page: (kept.shown, kept.state) for page, kept in self.pages.layouts.items()}
        self.opener.keep_arrangement()
        kept = [(item.request, item.session.viewport) for item in self.documents.opened]
        self.settings.open_at_start = [
            (request, (viewport.start, viewport.end))
            for request, viewport in kept
            if request.plan is not None or request.profile is not None
        ]
        self.jobs.stop()
        self._garbage.stop()
        self.docks.forget()
        super().closeEvent(event)
