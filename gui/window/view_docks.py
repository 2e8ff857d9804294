"""The views of a window, made from their descriptions, and the docks that most of them stand in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TypeVar

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QDockWidget, QMainWindow, QMenu, QWidget

from memplan.core.progress import Progress
from memplan.gui.i18n import tr
from memplan.gui.views.view import MenuEntry, MenuView, SessionView, View, ViewArea, ViewServices, ViewSpec
from memplan.gui.window.title_bar import TitleBar

_AREAS = {
    ViewArea.RIGHT: Qt.DockWidgetArea.RightDockWidgetArea,
    ViewArea.BOTTOM: Qt.DockWidgetArea.BottomDockWidgetArea,
}

Made = TypeVar("Made", bound=QWidget)


class ViewDocks(Mapping[str, QDockWidget]):
    """
    The docks of a window by the names of their views, in the order they were made; `views` has those in no dock too.

    `services` gives what a view is made with, `entries` what the menu of every view offers, by the view's name.
    `page_of` shows a page that has a view, and `place_middle` puts a view into the middle of its pages.
    """

    def __init__(
        self,
        window: QMainWindow,
        specs: Sequence[ViewSpec],
        services: Callable[[], ViewServices],
        entries: Callable[[str], Sequence[MenuEntry | None]],
    ) -> None:
        self._window = window
        self._services = services
        self._entries = entries
        self.specs = {spec.name: spec for spec in specs}
        self.page_of: Callable[[str], object] = lambda _: None
        self.place_middle: Callable[[str, QWidget], object] = lambda *_: None
        self._docks: dict[str, QDockWidget] = {}
        self.views: dict[str, View] = {}
        self.titles: dict[str, str] = {}

    def __getitem__(self, name: str) -> QDockWidget:
        """The dock of the view called `name`."""
        return self._docks[name]

    def __iter__(self) -> Iterator[str]:
        """The names of the views that have docks."""
        return iter(self._docks)

    def __len__(self) -> int:
        """How many docks there are."""
        return len(self._docks)

    # -- making --------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make every view but the lazy ones; those of the middle are for the window to put there."""
        eager = [spec for spec in self.specs.values() if not spec.lazy]
        first = not self._docks
        for spec in eager:
            view = spec.make(self._services())
            if spec.area is ViewArea.MIDDLE:
                self.name_view(spec.name, spec.title, view)
            else:
                self._lay_out(spec, view)
        if first:
            for name in {spec.tab_with for spec in eager if spec.tab_with is not None}:
                self._docks[name].raise_()

    def _lay_out(self, spec: ViewSpec, view: QWidget) -> None:
        if spec.area is ViewArea.MIDDLE:
            self.name_view(spec.name, spec.title, view)
            self.place_middle(spec.name, view)
            return
        there = spec.name in self._docks
        dock = self.add(spec.name, spec.title, view, spec.area, tab_with=spec.tab_with)
        if spec.below is not None and not there:
            self._window.splitDockWidget(self._docks[spec.below], dock, Qt.Orientation.Vertical)

    def add(
        self, name: str, title: str, view: QWidget, area: ViewArea = ViewArea.BOTTOM, *, tab_with: str | None = None
    ) -> QDockWidget:
        """
        Put `view` into a dock with an English title: at `area`, or as a tab with the dock of view `tab_with`.

        A dock that is there already stays where it is and gets the new view.
        """
        if name in self._docks:
            dock = self._docks[name]
            before = dock.widget()
            dock.setWindowTitle(tr(title))
            dock.setWidget(view)
            if before is not None:
                before.deleteLater()
            self.name_view(name, title, view)
            return dock
        dock = QDockWidget(tr(title), self._window)
        dock.setObjectName(f"dock-{name}")
        dock.setTitleBarWidget(TitleBar(dock, self._services().palette))
        dock.setWidget(view)
        if tab_with is None:
            self._window.addDockWidget(_AREAS[area], dock)
        else:
            layout = self._window.layout()
            if layout is not None:
                # Qt leaves a stray tab bar behind when a second group of tabs is made before the first was laid out.
                layout.activate()
            self._window.tabifyDockWidget(self._docks[tab_with], dock)
        self._docks[name] = dock
        self.name_view(name, title, view)
        return dock

    def name_view(self, name: str, title: str, view: QWidget) -> None:
        """Let `view` be saved, copied and drawn in other colours as `name`, with an English title."""
        view.setObjectName(name)
        self.titles[name] = title
        if isinstance(view, View):
            self.views[name] = view
            view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
            view.customContextMenuRequested.connect(lambda at: self.menu(name).popup(view.mapToGlobal(at)))

    def drop(self, name: str) -> None:
        """Let go of the view called `name`, and of its dock if it has one."""
        self.views.pop(name, None)
        self.titles.pop(name, None)
        dock = self._docks.pop(name, None)
        if dock is not None:
            self._window.removeDockWidget(dock)
            dock.deleteLater()

    def drop_views(self) -> None:
        """Let go of every view, before they are made anew; docks stay for those to come."""
        self.forget()
        self.views.clear()
        self.titles.clear()

    def forget(self) -> None:
        """Let every view stop listening to its session."""
        for view in self.session_views():
            view.forget()

    # -- showing -------------------------------------------------------------------------------------------------

    def bring(self, name: str) -> None:
        """Bring a view that is there to the front, on a page that has it."""
        self.page_of(name)
        dock = self._docks.get(name)
        if dock is not None:
            dock.show()
            dock.raise_()

    def show(self, name: str, then: Callable[[], object] | None = None) -> None:
        """
        Bring a view to the front; the first time the module of a lazy one is imported on a worker.

        `then` is done once the view is there, in place of bringing it to the front. An unknown name does nothing.
        """
        spec = self.specs.get(name)
        if spec is None:
            return

        def show() -> None:
            if name not in self.titles:
                self._lay_out(spec, spec.make(self._services()))
            (then or (lambda: self.bring(name)))()

        def load(_: Progress) -> None:
            from memplan.hardware import chips

            import_module(spec.module)
            chips()  # read from files once, for all of these views

        if name in self.titles or spec.module in sys.modules:
            show()
        else:
            self._services().jobs.start(tr("opening the view"), load, lambda _: show())

    @property
    def made_lazily(self) -> list[str]:
        """Names of the lazy views that are there."""
        return [spec.name for spec in self.specs.values() if spec.lazy and spec.name in self.titles]

    # -- finding -------------------------------------------------------------------------------------------------

    def find(self, kind: type[Made]) -> Made | None:
        """The view of that class, `None` before it is made."""
        return next((view for view in self.widgets().values() if isinstance(view, kind)), None)

    def view(self, kind: type[Made]) -> Made:
        """The view of that class; raises `KeyError` before it is made."""
        found = self.find(kind)
        if found is None:
            raise KeyError(kind.__name__)
        return found

    def widgets(self) -> dict[str, QWidget]:
        """Every view as a widget, by name."""
        return {name: view for name, view in self.views.items() if isinstance(view, QWidget)}

    def session_views(self) -> list[SessionView]:
        """The views that show the session."""
        return [view for view in self.views.values() if isinstance(view, SessionView)]

    def active(self) -> str:
        """Name of the view that has the keyboard, or of the one that is seen in the middle."""
        widget = QApplication.focusWidget()
        while widget is not None and widget is not self._window:
            if widget.objectName() in self.views:
                return widget.objectName()
            widget = widget.parentWidget()
        middle = [name for name in self.views if name in self.specs and self.specs[name].area is ViewArea.MIDDLE]
        return next((name for name in middle if self.widgets()[name].isVisible()), middle[0])

    # -- looks ---------------------------------------------------------------------------------------------------

    def set_palette(self) -> None:
        """Draw every view with the window's colours."""
        for view in self.views.values():
            view.set_palette(self._services().palette)
        for dock in self._docks.values():
            title = dock.titleBarWidget()
            if isinstance(title, TitleBar):
                title.set_palette(self._services().palette)

    def menu(self, name: str) -> QMenu:
        """What a right click on view `name` offers: its own entries, and those of every view."""
        view = self.views[name]
        own = view.menu_entries() if isinstance(view, MenuView) else ()
        menu = QMenu(self._window)
        for entry in (*own, *self._entries(name)):
            if entry is None:
                menu.addSeparator()
                continue
            action = menu.addAction(entry.text)
            action.setEnabled(entry.enabled)
            if entry.checked is not None:
                action.setCheckable(True)
                action.setChecked(entry.checked)
            action.triggered.connect(lambda *_, run=entry.run: run())
        return menu
