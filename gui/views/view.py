"""What a view of the window is: its description, what it is made with, and what the window asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from PySide6.QtWidgets import QWidget

from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack
from memplan.gui.settings import Settings
from memplan.gui.work.jobs import Jobs
from memplan.gui.work.loader import DocumentLoader

if TYPE_CHECKING:
    from memplan.requests.plan_request import PlanRequest

TrackLoader = Callable[[Session, Sequence[TimelineTrack]], None]


@runtime_checkable
class View(Protocol):
    """A widget that can be saved as a table and drawn in other colours."""

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""

    def sheet(self) -> Sheet:
        """What is shown, as a table."""


@runtime_checkable
class SessionView(View, Protocol):
    """A view of a session."""

    def show_session(self, session: Session) -> None:
        """Show another session."""

    def forget(self) -> None:
        """Stop listening to the session."""


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """A line of a view's menu, in the window's language; `checked` is `None` for what is neither on nor off."""

    text: str
    run: Callable[[], object]
    checked: bool | None = None
    enabled: bool = True


@runtime_checkable
class MenuView(Protocol):
    """A view with entries of its own in its menu."""

    def menu_entries(self) -> Sequence[MenuEntry | None]:
        """What a right click offers now; `None` is a line between entries."""


@dataclass(frozen=True, slots=True)
class ViewServices:
    """
    What a view is made with: the session and colours of the moment, and what works and keeps for it.

    `run` does a command of the window by its name, `bring` brings a view to the front, `open_rank` shows another rank
    of the open profile, `ranks_beside` two of them side by side, `compare_with` compares the plan with a rank and a
    step of it, or with the median. `planning_sources` are models and graphs to offer for planning, `open_planned` opens
    a plan that was made, with its request and session, at a page, with the open run beside it if the last argument is
    set.
    """

    session: Session
    palette: Palette
    jobs: Jobs
    loader: DocumentLoader
    settings: Settings
    parent: QWidget
    run: Callable[[str], object]
    bring: Callable[[str], object]
    open_rank: Callable[[int], object]
    ranks_beside: Callable[[int, int], object]
    compare_with: Callable[[int, int | None], object]
    planning_sources: Callable[[], Sequence[Path]]
    open_planned: Callable[[PlanRequest, Session, str, bool], object]

    @property
    def track_loader(self) -> TrackLoader | None:
        """What reads tracks for a timeline; `None` where work is done at once: it reads them itself."""
        return self.loader.tracks if self.jobs.background else None


class ViewClass(Protocol):
    """The class of a view: it knows which of the services it takes."""

    def make(self, services: ViewServices) -> QWidget:
        """A new view."""


@dataclass(frozen=True, slots=True)
class PageSpec:
    """
    A page of the window: the view in its `middle`, and the `docks` around it with the pixels each gets at first.

    `needs` says what it has nothing to show without: `plan`, `run`, `ranks` (several of them), or nothing. One that is
    `alone` needs no document at all and has no docks.
    """

    name: str
    title: str
    middle: str
    docks: Mapping[str, int] = field(default_factory=dict)
    needs: str = ""
    alone: bool = False


class ViewArea(str, Enum):
    """Where a view stands in the window."""

    MIDDLE = "middle"
    RIGHT = "right"
    BOTTOM = "bottom"


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """
    One view: all that the window, its menus, the pictures and the tests know of it beforehand.

    `name` identifies it (arrangements of docks are kept by it) and `title` is English. `factory` is `module:class`,
    imported when the view is made: at once, or when it is first asked for if it is `lazy`. It stands at `area`, as a
    tab with the view `tab_with` or `below` another one. `keys` bring a view to the front. `picture` is what its
    screenshot is called. One that `needs_plan` or `needs_run` has nothing to show without, and is left out then.
    """

    name: str
    title: str
    factory: str
    area: ViewArea
    tab_with: str | None = None
    below: str | None = None
    lazy: bool = False
    needs_plan: bool = False
    needs_run: bool = False
    keys: tuple[str, ...] = ()
    picture: str = ""

    @property
    def module(self) -> str:
        """The module that the view's class is in."""
        return self.factory.partition(":")[0]

    def make(self, services: ViewServices) -> QWidget:
        """A new view; imports its module."""
        kind = cast(ViewClass, getattr(import_module(self.module), self.factory.partition(":")[2]))
        return kind.make(services)
