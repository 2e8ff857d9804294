"""The documents that one window has open, and which of them it shows."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.gui.model.document import Document
from memplan.gui.model.events import Event
from memplan.gui.model.opening import Request
from memplan.gui.model.session import Session


@dataclass(frozen=True)
class Opened:
    """What was asked for, and what came of it."""

    request: Request
    session: Session


class Documents:
    """Open documents in the order of their tabs; there is always one, which may be empty."""

    def __init__(self, session: Session | None = None, request: Request | None = None) -> None:
        self.changed = Event()
        self.opened: list[Opened] = [Opened(request or Request(), session or Session(Document()))]
        self.index = 0

    @property
    def current(self) -> Opened:
        """The document that is shown."""
        return self.opened[self.index]

    @property
    def others(self) -> list[Opened]:
        """The documents that are open but not shown."""
        return [item for place, item in enumerate(self.opened) if place != self.index]

    def show(self, request: Request, session: Session, *, beside: bool) -> None:
        """Show a document: as another one when `beside` is set and the current one isn't empty, else in its place."""
        item = Opened(request, session)
        if beside and not self.current.session.document.empty:
            self.opened.append(item)
            self.index = len(self.opened) - 1
        else:
            self.opened[self.index] = item
        self.changed.emit()

    def add(self, request: Request, session: Session) -> Opened:
        """Open a document as the last one, and go on showing the current one."""
        item = Opened(request, session)
        self.opened.append(item)
        self.changed.emit()
        return item

    def select(self, index: int) -> None:
        """Show document `index`."""
        if index != self.index and 0 <= index < len(self.opened):
            self.index = index
            self.changed.emit()

    def close(self, index: int) -> None:
        """Close document `index`; closing the last one leaves an empty one."""
        del self.opened[index]
        if not self.opened:
            self.opened.append(Opened(Request(), Session(Document())))
        if index < self.index or self.index == len(self.opened):
            self.index -= 1
        self.index = max(self.index, 0)
        self.changed.emit()
