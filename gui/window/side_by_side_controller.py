"""The window's side by side: which document is B, the widgets that show it, and what happens when documents change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QSplitter, QVBoxLayout, QWidget

from memplan.core.errors import CancelledError, MemplanError
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.gui.i18n import say, tr
from memplan.gui.model.compare.viewport_link import AlignBy, default_moments, moments
from memplan.gui.model.event import Event
from memplan.gui.model.session.open_documents import OpenDocument, OpenDocuments
from memplan.gui.model.session.session import Session
from memplan.gui.views.compare.side_by_side_view import CURVE, NO_MEMORY, NameStrip, SideBySideBar, SideBySideView
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.views.view import ViewServices
from memplan.gui.window.dialogs import ask_item
from memplan.gui.window.document_opener import DocumentOpener
from memplan.gui.window.view_docks import ViewDocks

if TYPE_CHECKING:
    from memplan.gui.model.compare.ab_differences import AbDifference, AbDifferences
    from memplan.gui.model.compare.side_by_side import Located, SideBySide
    from memplan.gui.views.compare.ab_differences_view import AbDifferencesView

VIEW, TABLE = "side-by-side", "ab-differences"
_MOMENTS, _DIFFERENCES, _PLACE = "moments", "differences", "place"
"""What it asks of workers."""
_CURVE_FROM_PX = 420
"""Height of the middle from which B's memory is shown under its timeline without being asked for."""


_PLOT_FROM_PX = 420
"""Width of a timeline's plot from which two stand beside each other without being asked to."""


class SideBySideController:
    """
    A window's side by side: off, or the shown document (A) with `second` (B) beside it.

    `page` holds A's timeline, and B beside it while it is on. It ends when its B is closed or becomes the shown
    document, and when the shown one is empty; another document that is shown in place of A becomes A.
    """

    def __init__(
        self,
        documents: OpenDocuments,
        docks: ViewDocks,
        opener: DocumentOpener,
        services: Callable[[], ViewServices],
        say_line: Callable[[str], object],
    ) -> None:
        """`changed` tells that it began, ended or came to nothing; `say_line` shows a line."""
        self.changed = Event()
        self._documents = documents
        self._docks = docks
        self._opener = opener
        self._services = services
        self._say = say_line
        self.second: OpenDocument | None = None
        self.model: SideBySide | None = None
        self._first: Session | None = None
        self.view: SideBySideView | None = None
        self.table: AbDifferencesView | None = None
        self._differences: AbDifferences | None = None
        self._front: list[str] = []
        self._stacked_for_room = False

    # -- widgets -------------------------------------------------------------------------------------------------

    def make_page(self, timeline: TimelineView) -> QWidget:
        """The page of `timeline`, with room for a second one; made anew with every new timeline."""
        self.page = QWidget(self._services().parent)
        self.bar = SideBySideBar(self.page)
        self.bar.closed.connect(self.end)
        self.bar.align_asked.connect(self.align)
        self.bar.turned.connect(self.turn)
        self.bar.memory_asked.connect(self._show_memory)
        self.split = QSplitter(Qt.Orientation.Horizontal, self.page)
        self.split.setChildrenCollapsible(False)
        left = QWidget(self.split)
        self.strip = NameStrip("A", "planned", self._services().palette, left)
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.strip)
        column.addWidget(timeline, 1)
        self.split.addWidget(left)
        page = QVBoxLayout(self.page)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(0)
        page.addWidget(self.bar)
        page.addWidget(self.split, 1)
        self.bar.hide()
        self.strip.hide()
        return self.page

    @property
    def on(self) -> bool:
        """Whether a second document is shown."""
        return self.second is not None

    def letter(self, item: OpenDocument) -> str:
        """What a document is called while two are shown: A, B, or nothing."""
        if not self.on:
            return ""
        return "B" if item is self.second else "A" if item is self._documents.current else ""

    def timelines(self) -> Sequence[TimelineView]:
        """The timelines that are there: A's, and B's if it is shown."""
        timeline = self._docks.view(TimelineView)
        return (timeline, self.view.timeline) if self.view is not None else (timeline,)

    def acting_timeline(self) -> TimelineView:
        """The timeline that a key acts on: the one under the mouse, else A's."""
        return next((timeline for timeline in self.timelines() if timeline.mouse is not None), self.timelines()[0])

    def turn(self, stacked: bool) -> None:
        """Put B under A, or beside it."""
        self.split.setOrientation(Qt.Orientation.Vertical if stacked else Qt.Orientation.Horizontal)
        self._halve()

    def _halve(self) -> None:
        size = self.split.height() if self.split.orientation() is Qt.Orientation.Vertical else self.split.width()
        self.split.setSizes([size // 2, size - size // 2])

    def _show_memory(self, what: str) -> None:
        if self.view is not None:
            self.view.show_memory(what)
            self.bar.memories[self.view.shown].setChecked(True)

    def set_palette(self) -> None:
        """Draw A's name with the window's colours; the views are told by the window."""
        self.strip.set_palette(self._services().palette)

    # -- beginning and ending ------------------------------------------------------------------------------------

    def toggle(self) -> None:
        """End it, or begin it: with the one other document, one of several, or one to open now."""
        if self.on:
            self.end()
        elif self._shown.document.empty:
            self._say(tr("Open a document first."))
        else:
            self._choose()
        self.changed.emit()  # nothing may have come of it

    @property
    def _shown(self) -> Session:
        return self._documents.current.session

    def _choose(self) -> None:
        documents, opener = self._documents, self._opener
        others = [item for item in documents.others if not item.session.document.empty]
        if len(others) == 1:
            self.begin(others[0])
            return
        called = zip(documents.opened, documents.names(), strict=True)
        places = {id(item): f"{number}: {say(name)}" for number, (item, name) in enumerate(called, 1)}
        names = [places[id(item)] for item in others]
        ways: dict[str, Callable[[], object]] = {
            tr("Open profile directory …"): lambda: self._add(opener.ask_folder()),
            tr("Open plan or graph …"): lambda: self._add(opener.ask_file()),
        }
        ranks = self._other_ranks()
        if ranks:
            ways = {tr("Open another rank …"): lambda: self._add_rank(ranks), **ways}
        offered = [*names, *ways]
        parent = self._services().parent
        chosen = ask_item(parent, tr("Side by side"), tr("What to show beside it"), offered, offered[0])
        if chosen in names:
            self.begin(others[names.index(chosen)])
        elif chosen is not None:
            ways[chosen]()

    def _other_ranks(self) -> list[int]:
        document = self._shown.document
        if document.profile is None or document.rank is None:
            return []
        return [rank for rank in document.profile.ranks if rank != document.rank.rank]

    def _add(self, path: Path | None) -> None:
        """Open one file or folder as a further document and show it as B."""
        if path is not None:
            self._opener.add([path], self._begin_if_still(self._shown))

    def _add_rank(self, ranks: Sequence[int]) -> None:
        """Open another rank of the shown profile as a further document and show it as B."""
        request = self._opener.ask_rank(ranks, ranks[0])
        if request is not None:
            self._opener.add_request(request, self._begin_if_still(self._shown))

    def _begin_if_still(self, shown: Session) -> Callable[[OpenDocument], None]:
        def begin(opened: OpenDocument) -> None:
            if self._shown is shown:  # else the user went elsewhere meanwhile
                self.begin(opened)

        return begin

    def begin(self, second: OpenDocument) -> None:
        """Show `second` beside the shown document."""
        if self.on:
            self.end()
        self._docks.bring("timeline")
        self.second = second
        self._make_views(second.session)
        self._link_up()
        self.changed.emit()

    def end(self) -> None:
        """Show one document again."""
        if not self.on:
            return
        self.second = None
        self._unlink()
        self.forget_views()
        if self._stacked_for_room:
            self.bar.stack.setChecked(False)
            self._stacked_for_room = False
        self.changed.emit()

    def follow(self) -> None:
        """Keep to what the window shows now; called whenever its documents changed."""
        second = self.second
        if second is None:
            return
        if self._shown.document.empty or not any(item is second for item in self._documents.others):
            self.end()
            return
        made = self.view is None
        if made:
            self._make_views(second.session)
        if self._first is not self._shown:
            self._link_up()
        elif made:
            self.strip.show_session(self._shown)
            self._show_model()

    def _make_views(self, session: Session) -> None:
        from memplan.gui.views.compare.ab_differences_view import AbDifferencesView  # once there are two to compare

        services = self._services()
        self._front = [name for name, dock in self._docks.items() if not dock.visibleRegion().isEmpty()]
        self.view = SideBySideView(session, services.palette, self.split, services.track_loader)
        self.split.addWidget(self.view)
        self._docks.name_view(VIEW, "Side by side", self.view)
        self.table = AbDifferencesView(session, services.parent)
        self.table.asked.connect(self.jump)
        self._docks.add(TABLE, "Differences of A and B", self.table, tab_with="deviations")
        self._docks.bring(TABLE)
        self.bar.show()
        self.strip.show()
        narrow = self.split.width() < 2 * (GUTTER_PX + _PLOT_FROM_PX)
        if narrow and not self.bar.stack.isChecked():
            self.bar.stack.setChecked(True)
            self._stacked_for_room = True
        self._halve()
        roomy = self.split.height() >= _CURVE_FROM_PX and (session.curves.measured or session.curves.planned)
        self._show_memory(CURVE if roomy else NO_MEMORY)

    def forget_views(self) -> None:
        """Take B's widgets away; what is linked stays, so that they can be made anew."""
        if self.view is not None:
            self.view.forget()
            self.view.setParent(None)
            self.view.deleteLater()
        self.view = self.table = None
        self.strip.forget()
        self.bar.forget()
        self.bar.hide()
        self.strip.hide()
        for name in (VIEW, TABLE):
            self._docks.drop(name)
        for name in self._front:
            if name in self._docks and not self._docks[name].isHidden():
                self._docks[name].raise_()

    # -- what is linked ------------------------------------------------------------------------------------------

    def _unlink(self) -> None:
        """Unlink the two; work under way for it stops."""
        for question in (_MOMENTS, _DIFFERENCES, _PLACE):
            self._services().jobs.drop(self, question)
        self._differences = None
        self._first = None
        if self.model is not None:
            self.model.forget()
        self.model = None

    def _link_up(self) -> None:
        """Link the shown document with B once it is known how they lie on each other, and list their differences."""
        second = self.second
        self._unlink()
        if second is None:
            return
        one, other = self._shown, second.session
        self._first = one
        self.strip.show_session(one)

        from memplan.gui.model.compare.ab_differences import AbDifferences
        from memplan.gui.model.compare.side_by_side import SideBySide, document_differences

        def link_up(at: tuple[float, float]) -> None:
            self.model = SideBySide(one, other, at)
            self.model.jumped.connect(self._show_tracks)
            self._show_model()

        def done(found: AbDifferences) -> None:
            self._differences = found
            self._show_model()

        def compare(progress: Progress) -> AbDifferences:
            try:
                return document_differences(one, other, progress)
            except CancelledError:
                raise
            except MemplanError as error:
                return AbDifferences(reason=error.sentence)
            except OSError as error:
                return AbDifferences(reason=str(error))

        self._show_model()
        jobs = self._services().jobs
        jobs.latest(
            self, tr("lining up"), lambda progress: default_moments(one, other, progress), link_up, question=_MOMENTS
        )
        jobs.latest(self, tr("comparing"), compare, done, question=_DIFFERENCES)

    def _show_model(self) -> None:
        if self.model is not None:
            self.bar.steer(self.model)
        if self.table is not None:
            self.table.show_differences(self._differences)

    def align(self, how: AlignBy) -> None:
        """Put the moments that `how` names on each other; says so where there are none."""
        model = self.model
        if model is None:
            return

        def done(found: tuple[float, float] | None) -> None:
            if found is None:
                self._say(say(Sentence("{}: not known of both documents", (Sentence(how.value),))))
                return
            model.align_at(*found)

        self._services().jobs.latest(
            self,
            tr("lining up"),
            lambda progress: moments(model.first, model.second, how, progress),
            done,
            question=_MOMENTS,
        )

    def jump(self, difference: AbDifference) -> None:
        """Show where `difference` is best seen in both; the last one asked for wins."""
        model = self.model
        if model is None:
            return

        def done(located: Located) -> None:
            for timeline in self.timelines():
                timeline.tracks_changed()
            model.show(located)
            if located.places == (None, None):
                self._say(tr("This has no place in the timelines."))

        self._services().jobs.latest(
            self,
            tr("looking for the place"),
            lambda progress: model.locate(difference, progress),
            done,
            question=_PLACE,
        )

    def _show_tracks(self) -> None:
        """Bring the tracks of a jump onto the screen."""
        model = self.model
        for timeline, place in zip(self.timelines(), model.places if model is not None else (), strict=False):
            if place is not None and place.track is not None:
                timeline.show_track(place.track)
