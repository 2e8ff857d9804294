"""The figures at the head of a document, each a button to the page that explains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from memplan.gui.i18n import say
from memplan.gui.model.overview.head_figures import HeadFigure
from memplan.gui.model.palette import Palette


class HeadTile(QFrame):
    """One figure: its title, its value large, and a note; a click, Enter or Space does `pressed`."""

    def __init__(
        self, figure: HeadFigure, palette: Palette, pressed: Callable[[], object], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.figure = figure
        self._pressed = pressed
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.title, self.value, self.note = (
            QLabel(say(text), self) for text in (figure.title, figure.value, figure.note)
        )
        self.note.setWordWrap(True)
        self.note.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setToolTip(f"{say(figure.value)}\n{say(figure.note)}".strip())
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 8, 12, 8)
        column.setSpacing(2)
        for label in (self.title, self.value):
            column.addWidget(label)
        column.addWidget(self.note, 1)
        self.set_palette(palette)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        colour = palette.css("warning") if self.figure.warns else palette.css("text")
        faint, line, base, accent = (palette.css(name) for name in ("faint", "line", "base", "accent"))
        self.setStyleSheet(
            f"HeadTile {{ background: {base}; border: 1px solid {line}; border-radius: 6px; }}"
            f"HeadTile:hover, HeadTile:focus {{ border-color: {accent}; }}"
        )
        self.title.setStyleSheet(f"color: {faint}; font-size: 12px;")
        self.value.setStyleSheet(f"color: {colour}; font-size: 22px; font-weight: 600;")
        self.note.setStyleSheet(f"color: {faint}; font-size: 12px;")

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Go where the figure comes from."""
        if event.button() is Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self._pressed()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter and Space do what a click does."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self._pressed()
        else:
            super().keyPressEvent(event)


class HeadStrip(QWidget):
    """`HeadFigure`s in a row; the verdict, which is a sentence, has the room of two."""

    def __init__(self, palette: Palette, asked: Callable[[str], object], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self._asked = asked
        self.tiles: list[HeadTile] = []
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(10)

    def show_figures(self, figures: Sequence[HeadFigure]) -> None:
        """Show other figures."""
        for tile in self.tiles:
            self._row.removeWidget(tile)
            tile.setParent(None)
            tile.deleteLater()
        self.tiles = []
        for figure in figures:
            tile = HeadTile(figure, self.colours, partial(self._asked, figure.page), self)
            self.tiles.append(tile)
            self._row.addWidget(tile, 2 if str(figure.title) == "Verdict" else 1)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        for tile in self.tiles:
            tile.set_palette(palette)
