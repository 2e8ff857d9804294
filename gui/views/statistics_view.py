"""A table of what ran: in the selected stretch of time, in the visible one where nothing is selected."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QTimer
from PySide6.QtGui import QPaintEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.gui.i18n import say, tr
from memplan.gui.model.event import Event, Listener
from memplan.gui.model.session.session import Session
from memplan.gui.model.tables.slice_statistics import STATISTICS_SHAPE, GroupBy, SliceStatistics, slice_statistics
from memplan.gui.views.table_view import TableView
from memplan.gui.views.view import ViewServices

_PAUSE_MS = 150
"""How long the stretch has to stand still before it is counted."""


class StatisticsView(TableView):
    """Slices grouped as chosen, those whose names match what is typed; a click marks all of a group in every view."""

    shape = STATISTICS_SHAPE

    def __init__(self, services: ViewServices) -> None:
        super().__init__(services.session, services.parent)
        self._services = services
        self.group, self.wanted = QComboBox(self), QLineEdit(self)
        for group in GroupBy:
            self.group.addItem(tr(group.value), group)
        self.wanted.setPlaceholderText(tr("Names that match: a part of them, or a regular expression"))
        self.wanted.setClearButtonEnabled(True)
        self.group.currentIndexChanged.connect(self.count_anew)
        self.wanted.textChanged.connect(self._soon)
        row = QHBoxLayout()
        row.setContentsMargins(4, 2, 4, 2)
        row.addWidget(self.group)
        row.addWidget(self.wanted, 1)
        layout = self.layout()
        if isinstance(layout, QVBoxLayout):
            layout.insertLayout(0, row)
        self._stale = True
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self.count_anew)
        self._listen()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services)

    def _events(self) -> tuple[tuple[Event, Listener], ...]:
        session = self.session
        return (
            (session.viewport.changed, self._soon),
            (session.viewport.selection_changed, self._soon),
            (session.tracks.kept, self._soon),
        )

    def _listen(self) -> None:
        for event, listener in self._events():
            event.connect(listener)

    def show_session(self, session: Session) -> None:
        """Count what another session shows."""
        self.forget()
        self.session = session
        self._listen()
        self.show_rows((), "")
        self._soon()

    def forget(self) -> None:
        """Stop listening to the session."""
        for event, listener in self._events():
            event.disconnect(listener)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Count what changed while the view was not seen: behind another tab it is not hidden."""
        super().paintEvent(event)
        if self._stale and not self._pause.isActive():
            QTimer.singleShot(0, self, self.count_anew)

    def _soon(self) -> None:
        self._stale = True
        if not self.visibleRegion().isEmpty():
            self._pause.start()

    def stretch(self) -> tuple[int, int]:
        """What is counted, ns of the profile's clock: the selected stretch, else the visible one."""
        viewport = self.session.viewport
        start, end = viewport.selected_range or (viewport.start, viewport.end)
        return self.session.origin_ns + int(np.floor(start)), self.session.origin_ns + int(np.ceil(end))

    def count_anew(self) -> None:
        """Count the slices on a worker; the rows stay as they are until it is done."""
        if self.visibleRegion().isEmpty() or self.session.document.empty:
            return
        self._stale = False
        if self.session.document.rank is None:
            self.show_rows((), tr("Nothing was measured: the overview has the ops of a plan by their time"))
            return
        self._services.loader.every_track(self.session)  # what was never on the screen counts too
        self._pause.stop()
        session, group, wanted = self.session, GroupBy(self.group.currentData()), self.wanted.text()
        stretch, selected = self.stretch(), self.session.viewport.selected_range is not None

        def work(progress: Progress) -> SliceStatistics:
            return slice_statistics(session, group, stretch, wanted, progress)

        def done(found: SliceStatistics) -> None:
            length = session.length_text
            values = (f"{found.count:,}", length(found.total_ns), length(stretch[1] - stretch[0]))
            text = "{} [slice|slices], {} together, in the {} that are selected" if selected else ""
            headline = say(Sentence(text or "{} [slice|slices], {} together, in the {} in view", values))
            if found.left_out:
                headline += say(Sentence("; {} further [row is|rows are] left out", (f"{found.left_out:,}",)))
            self.show_rows(found.rows, headline)

        self._services.jobs.latest(self, tr("counting slices"), work, done)
