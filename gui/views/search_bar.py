"""The search bar: a text, the count of slices it names, and the way to the next and the one before."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QToolButton, QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.session.session import Session
from memplan.gui.model.slices.slice_search import Hits, no_hits, search_slices
from memplan.gui.work.jobs import Jobs

_AT_ONCE = 200_000
"""So many slices are searched within 20 ms, by the types of their kernels as well; more are left to a worker."""


class SearchBar(QWidget):
    """Enter goes to the next hit, Shift+Enter to the one before. Large profiles are searched on a worker."""

    jumped = Signal(str)
    opened = Signal()

    def __init__(self, session: Session, jobs: Jobs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._jobs = jobs
        self._step_wanted: bool | None = None
        self.hits = no_hits()
        self.position = -1
        self.edit = QLineEdit(self)
        self.edit.setPlaceholderText(tr("Find slices and ops by name, type, stream or step"))
        self.edit.setToolTip(
            tr("A part of a name or kernel type, a regular expression, or a whole stream or step: Stream 2, step 3")
        )
        self.edit.setClearButtonEnabled(True)
        self.count = QLabel(self)
        self.count.setMinimumWidth(110)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.addWidget(self.edit)
        layout.addWidget(self.count)
        for text, tip, forward in (("▲", "Previous hit", False), ("▼", "Next hit", True)):
            button = QToolButton(self)
            button.setText(text)
            button.setToolTip(tr(tip))
            button.clicked.connect(lambda *_, forward=forward: self.step(forward))
            layout.addWidget(button)
        self.edit.textChanged.connect(self.search_for)

    def show_session(self, session: Session) -> None:
        """Search another session."""
        self.session = session
        self.search_for(self.edit.text())

    def search_for(self, text: str) -> None:
        """Find `text` and count its hits; the view stays where it is until the user steps."""
        self._jobs.drop(self)
        tracks, document = self.session.tracks, self.session.document
        if not text.strip() or sum(track.count for track in tracks.all) <= _AT_ONCE:
            self._show(search_slices(tracks, text, document=document))
            return
        self.count.setText(tr("searching …"))
        self._jobs.latest(
            self,
            tr("searching …"),
            lambda progress: search_slices(tracks, text, progress, document=document),
            self._show,
        )

    def _show(self, hits: Hits) -> None:
        self.hits = hits
        self.position = -1
        self._show_count()
        wanted, self._step_wanted = self._step_wanted, None
        if wanted is not None:
            self.step(wanted)

    def step(self, forward: bool = True) -> None:
        """Select and show the next hit (after what is visible, the first time), or the one before."""
        if self._jobs.waiting(self):
            self._step_wanted = forward
            return
        if not len(self.hits):
            return
        if self.position < 0:
            start = self.session.origin_ns + int(self.session.viewport.start)
            self.position = self.hits.at_or_after(start) - (0 if forward else 1)
        else:
            self.position += 1 if forward else -1
        self.position %= len(self.hits)
        item = self.hits.item(self.position)
        self.session.select(item)
        span = self.session.selected_span()
        if span is not None:
            viewport = self.session.viewport
            if span[1] - span[0] < viewport.span / 500 or span[1] - span[0] > viewport.span:
                viewport.reveal(*span, margin=20.0 if span[1] > span[0] else 0.5)
            else:
                viewport.centre(span[0])
        self.jumped.emit(item.track)
        self._show_count()

    def _show_count(self) -> None:
        if not self.hits.text.strip():
            self.count.setText("")
            return
        total = f"{self.hits.total:,}"
        self.count.setText(f"{self.position + 1:,} / {total}" if self.position >= 0 else f"{total} {tr('found')}")

    def open(self) -> None:
        """Show the bar and start typing."""
        self.show()
        self.opened.emit()
        self.edit.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.edit.selectAll()
        self.search_for(self.edit.text())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Step."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.step(not event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        else:
            super().keyPressEvent(event)
