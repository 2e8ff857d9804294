"""Which page the window shows: what is in its middle, and the docks around it as the user left them there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from PySide6.QtCore import QByteArray, QSize, Qt
from PySide6.QtWidgets import QMainWindow, QStackedWidget, QWidget

from memplan.gui.model.document import Document
from memplan.gui.model.event import Event
from memplan.gui.views.timeline.track_canvas import TrackCanvas
from memplan.gui.views.view import PageSpec, ViewArea
from memplan.gui.window.view_docks import ViewDocks

_ANYWHERE = ("details", "problems", "notes")
"""Views that every page may have beside it."""
_SIZED_FOR_PX = 1000
"""The height of the window up to which docks have the sizes that their pages say."""


_AROUND_PX = 170
"""Menus, tools, the status line, titles and tabs of docks."""


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Which docks a page shows, and Qt's account of where all of them are."""

    shown: tuple[str, ...]
    state: QByteArray


def page_offered(page: PageSpec, document: Document) -> bool:
    """Whether `page` has anything to show of `document`, or a way to add what it lacks."""
    if page.name == "overview" or page.alone:
        return True
    if page.needs == "ranks":
        return document.profile is not None and len(document.profile.ranks) > 1
    return not document.empty


class PageStack(QStackedWidget):
    """The middles of pages; docks may take all but a little of its room, whichever page is shown."""

    def minimumSizeHint(self) -> QSize:
        """The same for every page: else turning one would push docks about."""
        return QSize(200, 120)


class PageSwitcher:
    """
    The pages of a window over its `docks`; the view in the middle of each is a widget of the stack `middle`.

    `current` is the page that is shown; `changed` tells of another one. What the user makes of a page's docks is kept
    in `layouts` while another page is shown. `welcome` takes the middle of an empty document. `has_plan` and
    `has_run` tell what the present document has.
    """

    def __init__(self, window: QMainWindow, pages: Sequence[PageSpec], docks: ViewDocks) -> None:
        self.pages = {page.name: page for page in pages}
        self.changed = Event()
        self.has_plan: Callable[[], bool] = lambda: True
        self.has_run: Callable[[], bool] = lambda: True
        self.current = next(iter(self.pages))
        self.layouts: dict[str, PageLayout] = {}
        self._window = window
        self._docks = docks
        self._middles: dict[str, QWidget] = {}
        self._wanted: tuple[str, ...] = ()
        self._first: QByteArray | None = None
        docks.page_of = self.lead_to
        docks.place_middle = self.put_middle

    # -- the middle ----------------------------------------------------------------------------------------------

    def use(self, stack: QStackedWidget, welcome: QWidget) -> None:
        """Put what is in the middle of pages into `stack`; called with every new one, before `put_middle`."""
        self._stack, self._welcome = stack, welcome
        self._middles.clear()
        while (before := stack.widget(0)) is not None:
            stack.removeWidget(before)
            before.deleteLater()
        stack.addWidget(welcome)

    def put_middle(self, name: str, widget: QWidget) -> None:
        """Let `widget` be the middle of the pages of the view called `name`."""
        self._middles[name] = widget
        self._stack.addWidget(widget)

    # -- showing -------------------------------------------------------------------------------------------------

    def show(self, name: str, *, empty: bool = False) -> None:
        """Show page `name`; of an `empty` document the welcome stands in the middle, if the page needs a document."""
        page = self.pages[name]
        if name != self.current:
            self.keep()
        self.current = name
        self._show_middle(page, empty)
        layout = self.layouts.get(name)
        if layout is not None and self._window.restoreState(layout.state):
            self._show_docks(layout.shown)
        else:
            self._arrange(page, empty)
        self.changed.emit()

    def renew_middle(self, *, empty: bool) -> None:
        """Show the middle of the page that is shown once more, after all of them were made anew."""
        self._show_middle(self.pages[self.current], empty)

    def keep(self) -> None:
        """Remember the docks of the page that is shown."""
        away = [name for name in self._wanted if self._lacks(name)]
        shown = (*away, *(name for name, dock in self._docks.items() if not dock.isHidden()))
        self.layouts[self.current] = PageLayout(shown, self._window.saveState())

    def reset(self) -> None:
        """Put the docks of every page back where they were in the first place."""
        self.layouts.clear()
        if self._first is not None:
            self._window.restoreState(self._first)
        self._arrange(self.pages[self.current], False)

    def _show_middle(self, page: PageSpec, empty: bool) -> None:
        if empty and not page.alone:
            self._stack.setCurrentWidget(self._welcome)
            return
        if page.middle in self._middles:
            self._stack.setCurrentWidget(self._middles[page.middle])
        else:
            self._docks.show(page.middle, lambda: self._middle_made(page))

    def _middle_made(self, page: PageSpec) -> None:
        """A view that is made when it is first asked for is there."""
        if self.current == page.name:
            self._stack.setCurrentWidget(self._middles[page.middle])

    def _show_docks(self, names: Sequence[str]) -> None:
        """
        Show these docks and no others; those that are not there yet follow when they are made.

        Those that have nothing to show of the present document are wanted and stay away.
        """
        self._wanted = tuple(names)
        names = [name for name in names if not self._lacks(name)]
        for name, dock in self._docks.items():
            if name in self._docks.specs:  # what came for a while, such as the differences of A and B, stays
                dock.setVisible(name in names)
        for name in names:
            if name not in self._docks:
                self._docks.show(name, partial(self._made_late, name))

    def _lacks(self, name: str) -> bool:
        """Whether the document has not what the view `name` needs to show anything."""
        spec = self._docks.specs.get(name)
        if spec is None:
            return False
        return (spec.needs_plan and not self.has_plan()) or (spec.needs_run and not self.has_run())

    def _made_late(self, name: str) -> None:
        """A view that was made when its page was shown: by now another page may be."""
        layout = self.layouts.get(self.current)
        if layout is not None and name in self._wanted:
            self._window.restoreState(layout.state)
        for other, dock in self._docks.items():
            if other not in self._docks.specs:
                continue
            dock.setVisible(other in self._wanted and not self._lacks(other))
        if layout is None and name in self._wanted:
            self._size(self.pages[self.current], self._wanted)

    def _arrange(self, page: PageSpec, empty: bool) -> None:
        """The docks of a page as they are in the first place."""
        if self._first is None:
            self._first = self._window.saveState()
        names = [] if empty else list(page.docks)
        self._show_docks(names)
        self._size(page, names)

    def _size(self, page: PageSpec, names: Sequence[str]) -> None:
        """Give every dock its first size, the first of those behind one another the front."""
        made = [name for name in names if name in self._docks and name in page.docks]
        made = [name for name in made if not self._docks[name].isHidden()]
        for name in reversed(made):
            self._docks[name].raise_()
        for area, direction in (
            (ViewArea.BOTTOM, Qt.Orientation.Vertical),
            (ViewArea.RIGHT, Qt.Orientation.Horizontal),
        ):
            sized = [name for name in made if page.docks[name] and self._docks.specs[name].area is area]
            if sized:
                # A high window shares what it has more of; to the right there is text, which needs no more room.
                larger = max(self._window.height() / _SIZED_FOR_PX, 1.0) if area is ViewArea.BOTTOM else 1.0
                if area is ViewArea.BOTTOM:
                    larger *= self._growth(sum(page.docks[name] for name in sized) * larger, page)
                docks, pixels = (
                    [self._docks[name] for name in sized],
                    [round(page.docks[name] * larger) for name in sized],
                )
                self._window.resizeDocks(docks, pixels, direction)

    def _growth(self, taken: float, page: PageSpec) -> float:
        """How many times as high docks that take so many pixels may be where the middle needs less than is left."""
        middle = self._docks.views.get(page.middle)
        if not isinstance(middle, TrackCanvas) or not taken:
            return 1.0
        return max((self._window.height() - _AROUND_PX - middle.needed_height()) / taken, 1.0)

    # -- going ---------------------------------------------------------------------------------------------------

    def lead_to(self, view: str) -> None:
        """Show a page that has the view called `view`: the present one if it may, else the first."""
        now = self.pages[self.current]
        if view in now.docks or view == now.middle:
            return
        if view in _ANYWHERE and not now.alone:
            return
        dock = self._docks.get(view)
        if dock is not None and not dock.isHidden():
            return
        found = next((page.name for page in self.pages.values() if view in page.docks or view == page.middle), None)
        if found is not None:
            self.go(found)

    go: Callable[[str], object]
    """What shows a page by its name, given by the window."""
