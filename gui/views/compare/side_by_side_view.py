"""The second document beside the first: its timeline and memory, whose names they are, and how the two are linked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QActionGroup, QFontMetrics, QResizeEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QMenu,
    QSizePolicy,
    QSplitter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from memplan.core.units import format_duration
from memplan.gui.i18n import say, tr
from memplan.gui.model.compare.viewport_link import AlignBy, one_clock
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.slices.slice_text import selected_line
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.views.view import TrackLoader

if TYPE_CHECKING:
    from memplan.gui.model.compare.side_by_side import SideBySide

_STRIP_PX = 24
_ROOMY_PX = 420
NO_MEMORY, CURVE, MAP = "Timeline only", "Memory over time", "Memory map"


class ElidedLabel(QLabel):
    """A label that takes what room there is and cuts its text in the middle; the whole text is its tool tip."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.whole = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def show_text(self, text: str) -> None:
        """Show another text."""
        self.whole = text
        self.setToolTip(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Cut the text anew."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        metrics = QFontMetrics(self.font())
        self.setText(metrics.elidedText(self.whole, Qt.TextElideMode.ElideMiddle, max(self.width() - 2, 0)))


class NameStrip(QWidget):
    """Above a timeline: A or B, the document's name, and what is selected in it."""

    def __init__(self, letter: str, role: str, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(_STRIP_PX)
        self._role = role
        self._session: Session | None = None
        self._listening: tuple[Any, Any] | None = None
        self.letter = QLabel(letter, self)
        self.letter.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.letter.setFixedSize(20, 18)
        self.name = ElidedLabel(self)
        self.selected = ElidedLabel(self)
        self.selected.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 2, 6, 2)
        row.addWidget(self.letter)
        row.addWidget(self.name, 1)
        row.addWidget(self.selected, 1)
        self.set_palette(palette)

    def show_session(self, session: Session) -> None:
        """Name another document."""
        self.forget()
        self._session = session
        self._listening = session.selected_changed, session.selected_changed.connect(self._show_selected)
        document = session.document
        rank = document.rank if document.profile is not None and len(document.profile.ranks) > 1 else None
        self.name.show_text(f"{document.name} · {tr('rank')} {rank.rank}" if rank is not None else document.name)
        self._show_selected()

    def forget(self) -> None:
        """Stop listening to the session."""
        if self._listening is not None:
            self._listening[0].disconnect(self._listening[1])
        self._listening = None

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        colours = f"background: {palette.css(self._role)}; color: {palette.css('ground')}"
        self.letter.setStyleSheet(f"QLabel {{ {colours}; font-weight: bold; border-radius: 3px }}")
        self.selected.setStyleSheet(f"QLabel {{ color: {palette.css('faint')} }}")

    def _show_selected(self) -> None:
        self.selected.show_text(say(selected_line(self._session)) if self._session is not None else "")


class SideBySideBar(QWidget):
    """Above both timelines: how they lie on each other, whether they move together, and the way out."""

    align_asked = Signal(object)
    closed = Signal()
    turned = Signal(bool)
    memory_asked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model: SideBySide | None = None
        self._listening: Any = None
        self.link = self._button("Move together", "Zoom and scroll both, or each for itself")
        self.link.setCheckable(True)
        self.link.clicked.connect(self._turn_link)
        self.align = self._button("Line up", "Which moment of B lies under which moment of A")
        self.align_menu = QMenu(self.align)
        self.alignments: dict[AlignBy, QAction] = {}
        for how in AlignBy:
            action = self.align_menu.addAction(tr(how.value))
            action.triggered.connect(lambda *_, how=how: self.align_asked.emit(how))
            self.alignments[how] = action
        self.align_menu.aboutToShow.connect(self._show_possible)
        self._give_menu(self.align, self.align_menu)
        self.memory = self._button("Memory of B", "What to show of B under its timeline")
        self.memory_menu = QMenu(self.memory)
        group = QActionGroup(self)
        self.memories: dict[str, QAction] = {}
        for what in (NO_MEMORY, CURVE, MAP):
            action = self.memory_menu.addAction(tr(what))
            action.setCheckable(True)
            action.triggered.connect(lambda *_, what=what: self.memory_asked.emit(what))
            group.addAction(action)
            self.memories[what] = action
        self._give_menu(self.memory, self.memory_menu)
        self.stack = self._button("One below the other", "Put B under A, so that one moment is in one column")
        self.stack.setCheckable(True)
        self.stack.toggled.connect(self.turned)
        self.offset = ElidedLabel(self)
        self.close_button = self._button("✕", "End the side by side")
        self.close_button.clicked.connect(self.closed)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 2, 6, 2)
        for button in (self.link, self.align, self.memory, self.stack):
            row.addWidget(button)
        row.addWidget(self.offset, 1)
        row.addWidget(self.close_button)

    def _button(self, text: str, hint: str) -> QToolButton:
        button = QToolButton(self)
        button.setText(tr(text))
        button.setToolTip(tr(hint))
        button.setAutoRaise(True)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        return button

    @staticmethod
    def _give_menu(button: QToolButton, menu: QMenu) -> None:
        # The style's own mark of a menu lies under the end of the words, and at the foot of the button.
        button.setText(f"{button.text()} ▾")
        button.setMenu(menu)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)

    def steer(self, model: SideBySide) -> None:
        """Steer another side by side."""
        self.forget()
        self._model = model
        self._listening = model.link.changed.connect(self._show_link)
        self._show_link()

    def forget(self) -> None:
        """Stop listening to it."""
        if self._model is not None:
            self._model.link.changed.disconnect(self._listening)
        self._model = None

    def _turn_link(self) -> None:
        if self._model is None:
            return
        if self._model.link.on:
            self._model.link.on = False
        else:
            self._model.link.relink()
        self._show_link()

    def _show_link(self) -> None:
        if self._model is None:
            return
        link = self._model.link
        self.link.setChecked(link.on)
        offset = link.offset
        if not link.on:
            text = tr("each moves for itself")
        elif offset:
            text = f"{tr('time in B = time in A')} {'+' if offset > 0 else '−'} {format_duration(abs(offset))}"
        else:
            text = tr("time in B = time in A")
        self.offset.show_text(text)

    def _show_possible(self) -> None:
        """Grey what can't be; looking for steps takes time, so that this is tried when it is chosen."""
        if self._model is None:
            return
        first, second = self._model.first, self._model.second
        self.alignments[AlignBy.CLOCK].setEnabled(one_clock(first, second))
        selected = first.selected_span() is not None and second.selected_span() is not None
        self.alignments[AlignBy.SELECTED].setEnabled(selected)


class SideBySideView(QWidget):
    """
    Document B of a side by side: its name, its timeline, and under that its memory curve or map.

    Tracks of its timeline that aren't read yet are handed to `loader`.
    """

    def __init__(
        self, session: Session, palette: Palette, parent: QWidget | None = None, loader: TrackLoader | None = None
    ) -> None:
        super().__init__(parent)
        self.session = session
        self.colours = palette
        self.strip = NameStrip("B", "measured", palette, self)
        self.strip.show_session(session)
        self.timeline = TimelineView(session, palette, self, loader)
        self.split = QSplitter(Qt.Orientation.Vertical, self)
        self.split.setChildrenCollapsible(False)
        self.split.addWidget(self.timeline)
        self.memory: CurveView | MemoryMapView | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.strip)
        column.addWidget(self.split, 1)

    @property
    def shown(self) -> str:
        """What is under the timeline."""
        if self.memory is None:
            return NO_MEMORY
        return CURVE if isinstance(self.memory, CurveView) else MAP

    def show_memory(self, what: str) -> None:
        """Show the memory curve, the map, or nothing under the timeline."""
        if what == self.shown:
            return
        if self.memory is not None:
            self.memory.forget()
            self.memory.setParent(None)
            self.memory.deleteLater()
            self.memory = None
        if what != NO_MEMORY:
            kind = CurveView if what == CURVE else MemoryMapView
            self.memory = kind(self.session, self.colours, self)
            self.split.addWidget(self.memory)
            height = self.split.height()
            share = height // 3 if height > _ROOMY_PX else height // 2
            self.split.setSizes([height - share, share])

    def forget(self) -> None:
        """Stop listening to the session."""
        self.strip.forget()
        self.timeline.forget()
        if self.memory is not None:
            self.memory.forget()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self.strip.set_palette(palette)
        self.timeline.set_palette(palette)
        if self.memory is not None:
            self.memory.set_palette(palette)

    def sheet(self) -> Sheet:
        """The slices of B in its selected or visible time range."""
        return self.timeline.sheet()
