"""The table of tensors alive at the cursor; at the memory peak while the cursor is elsewhere."""

from __future__ import annotations

from PySide6.QtCore import QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QWidget

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes
from memplan.gui.i18n import say, tr
from memplan.gui.model.event import Event, Listener
from memplan.gui.model.session.session import Session
from memplan.gui.model.tables.live_tensors import LIVE_SHAPE, live_rows
from memplan.gui.views.table_view import TableView

_DELAY_MS = 80


class LiveTensorsView(TableView):
    """Follows the cursor with a short delay, so that moving the mouse stays smooth."""

    shape = LIVE_SHAPE

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(session, parent)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.fill)
        self._listening: list[tuple[Event, Listener]] = []
        self.show_session(session)

    def show_session(self, session: Session) -> None:
        """Show the tensors of another session."""
        self.forget()
        self.session = session
        for event in (session.viewport.cursor_changed, session.tier_changed):
            self._listening.append((event, event.connect(self._later)))
        self.fill()

    def forget(self) -> None:
        """Stop listening to the session."""
        for event, listener in self._listening:
            event.disconnect(listener)
        self._listening = []

    def _later(self) -> None:
        if self.isVisible():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:
        """Catch up with where the cursor is."""
        self.fill()
        super().showEvent(event)

    def fill(self) -> None:
        """List what is alive now."""
        cursor, peak = self.session.viewport.cursor, self.session.peak
        if cursor is None and peak is not None:
            time, where = float(peak.time_ns - self.session.origin_ns), tr("at the memory peak")
        else:
            time, where = cursor or 0.0, tr("at the cursor")
        rows, total = live_rows(self.session, time)
        if self.session.map is None:
            self.show_rows((), tr("No plan is open: the memory map needs one"))
            return
        count = say(Sentence("{} [tensor|tensors]", (f"{len(rows):,}",)))
        self.show_rows(rows, f"{count} · {format_bytes(total)} · {where}, {say(self.session.moment_text(time))}")
