"""A grid of coloured cells with their figures, for ranks and for links."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QKeyEvent, QMouseEvent, QMoveEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QToolTip, QWidget

from memplan.gui.i18n import say
from memplan.gui.model.cluster.heat_grid import HeatGrid
from memplan.gui.model.palette import Palette

_ROW_PX, _HEAD_PX, _LEAST_PX, _MOST_PX, _ROOMY_PX, _GROUP_PX = 26, 26, 26, 130, 150, 20


class HeatMap(QWidget):
    """
    The cells of `grid`; `chosen` holds the rows that are picked, the latest last.

    A click picks a row, Ctrl and a click a further one; a double click or Enter gives the row to `opened`.
    """

    def __init__(self, palette: Palette, opened: Callable[[int], object], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.grid = HeatGrid((), (), {}, {})
        self.chosen: list[int] = []
        self.picked: Callable[[], object] = lambda: None
        self._opened = opened
        self._cell_px, self._label_px, self._note_px = float(_LEAST_PX), 0.0, 0.0
        self._tops: list[float] = []
        self._least_px, self._room, self._height = float(_LEAST_PX), 0, 0
        self._font = QFont(self.font())
        self._font.setPixelSize(12)
        self._metrics = QFontMetricsF(self._font)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def show_grid(self, grid: HeatGrid) -> None:
        """Show another grid."""
        self.grid = grid
        self.chosen = [row for row in self.chosen if row < len(grid.rows)]
        texts = (*grid.texts.values(), *map(say, grid.columns))
        self._cell_px = min(max(self._width(texts) + 12, _LEAST_PX), _MOST_PX)
        self._label_px = self._width(map(say, grid.rows)) + 20
        self._note_px = self._width(map(say, grid.notes)) + (14 if any(map(str, grid.notes)) else 0)
        self._tops.clear()
        top = float(_HEAD_PX)
        for row in range(len(grid.rows)):
            top += _GROUP_PX if row in grid.groups else 0
            self._tops.append(top)
            top += _ROW_PX
        self._least_px = self._cell_px
        self._height = round(top + 4)
        self._lay_out()

    @property
    def least_width(self) -> int:
        """How wide it is with cells that their figures just fit into."""
        return round(self._label_px + self._note_px + self._least_px * len(self.grid.columns) + 4)

    def use_room(self, width: int) -> None:
        """Let the cells be as wide as there is room for in `width` pixels, but no wider than they look well."""
        self._room = width
        self._lay_out()

    def _lay_out(self) -> None:
        count = max(len(self.grid.columns), 1)
        roomy = (self._room - self._label_px - self._note_px - 4) / count
        self._cell_px = max(self._least_px, min(roomy, _ROOMY_PX))
        wide = self._label_px + self._note_px + self._cell_px * len(self.grid.columns) + 4
        self.setFixedSize(QSize(round(wide), self._height))
        self.update()

    def _width(self, texts: Iterable[str]) -> float:
        return max((self._metrics.horizontalAdvance(text) for text in texts), default=0.0)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self.update()

    # -- geometry ------------------------------------------------------------------------------------------------

    def box(self, row: int, column: int) -> QRectF:
        """Where a cell is painted."""
        left = self._label_px + self._note_px + column * self._cell_px
        return QRectF(left, self._tops[row], self._cell_px - 1, _ROW_PX - 1)

    def row_at(self, y: float) -> int | None:
        """The row at height `y`, if it is shown."""
        row = next((row for row, top in enumerate(self._tops) if top <= y < top + _ROW_PX), None)
        return None if row is None or self.cut(row) else row

    def cut(self, row: int) -> bool:
        """Whether the foot of what is scrolled cuts a row, which is left out until it is scrolled to."""
        around = self.parentWidget()
        if around is None:
            return False
        foot, top = around.height() - self.y(), self._tops[row]
        return row > 0 and top < foot < top + _ROW_PX

    def moveEvent(self, event: QMoveEvent) -> None:
        """Paint all when it is scrolled: what is moved on the screen was painted without the row that was cut."""
        super().moveEvent(event)
        self.update()

    # -- painting ------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        """Heads of the columns, then row by row."""
        painter = QPainter(self)
        painter.setFont(self._font)
        grid = self.grid
        faint, text, warning = (QColor(self.colours.css(name)) for name in ("faint", "text", "warning"))
        painter.setPen(faint)
        for column, name in enumerate(grid.columns):
            left = self._label_px + self._note_px + column * self._cell_px
            painter.drawText(QRectF(left, 0, self._cell_px - 1, _HEAD_PX), int(Qt.AlignmentFlag.AlignCenter), say(name))
        for row, name in enumerate(grid.rows):
            top = self._tops[row]
            if not event.rect().intersects(QRectF(0, top - _GROUP_PX, self.width(), _ROW_PX + _GROUP_PX).toRect()):
                continue
            if self.cut(row):
                continue
            base = top + _ROW_PX / 2 + self._metrics.ascent() / 2 - 2
            if row in grid.groups:
                painter.setPen(faint)
                painter.drawText(QPointF(4, top - 5), say(grid.groups[row]))
            painter.setPen(text)
            painter.drawText(QPointF(8, base), say(name))
            note = say(grid.notes[row]) if row < len(grid.notes) else ""
            if note:
                warns = any((row, column) in grid.warned for column in range(len(grid.columns)))
                painter.setPen(warning if warns else faint)
                left = self._label_px + self._note_px - 10 - self._metrics.horizontalAdvance(note)
                painter.drawText(QPointF(left, base), note)
            for column in range(len(grid.columns)):
                self._paint_cell(painter, row, column)
            if row in self.chosen:
                painter.setPen(QPen(QColor(self.colours.css("accent")), 2))
                painter.drawRect(QRectF(1, top, self.width() - 3, _ROW_PX - 1))
        painter.end()

    def _paint_cell(self, painter: QPainter, row: int, column: int) -> None:
        cell = row, column
        if cell not in self.grid.values:
            return
        box = self.box(row, column)
        share = self.grid.share(cell)
        painter.fillRect(box, self.colour(share))
        painter.setPen(self.text_colour(share))
        painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), self.grid.texts[cell])
        if cell in self.grid.warned:
            painter.setPen(QPen(QColor(self.colours.css("excess")), 1.5))
            painter.drawRect(box.adjusted(1, 1, -1, -1))

    def colour(self, share: float) -> QColor:
        """The colour of a figure that stands out by `share`: from the ground towards that of transfers."""
        low, high = QColor(self.colours.css("base")), QColor(self.colours.css("part_transfer"))
        part = 0.06 + 0.84 * share
        return QColor(
            round(low.red() + (high.red() - low.red()) * part),
            round(low.green() + (high.green() - low.green()) * part),
            round(low.blue() + (high.blue() - low.blue()) * part),
        )

    def text_colour(self, share: float) -> QColor:
        """What can be read on that colour."""
        return QColor.fromRgba(self.colours.label_on(self.colour(share).rgba()))

    # -- input ---------------------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Pick a row, with Ctrl a further one."""
        row = self.row_at(event.position().y())
        if row is None or event.button() is not Qt.MouseButton.LeftButton:
            return
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.chosen = [other for other in self.chosen if other != row] + ([] if row in self.chosen else [row])
        else:
            self.chosen = [row]
        self.update()
        self.picked()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Open a row."""
        row = self.row_at(event.position().y())
        if row is not None:
            self._opened(row)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say whose figure lies under the mouse."""
        row = self.row_at(event.position().y())
        column = int((event.position().x() - self._label_px - self._note_px) // self._cell_px)
        if row is not None and (row, column) in self.grid.texts:
            told = f"{say(self.grid.rows[row])} · {say(self.grid.columns[column])}: {self.grid.texts[row, column]}"
            QToolTip.showText(event.globalPosition().toPoint(), told, self)
        else:
            QToolTip.hideText()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and Down go from row to row, Enter opens one."""
        now = self.chosen[-1] if self.chosen else -1
        if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down) and self.grid.rows:
            step = 1 if event.key() is Qt.Key.Key_Down else -1
            self.chosen = [min(max(now + step, 0), len(self.grid.rows) - 1)]
            self.update()
            self.picked()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.chosen:
            self._opened(now)
        else:
            super().keyPressEvent(event)
