"""Steps as stacked bars, one under the other to one scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QToolTip, QWidget

from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.gui.i18n import say, tr
from memplan.gui.model.overview.step_bars import StepBar, part_roles
from memplan.gui.model.palette import Palette

_ROW_PX, _LEGEND_PX, _LABEL_PX, _TOTAL_PX = 24, 24, 96, 110


class StepBarsView(QWidget):
    """
    Bars with a legend above them; `current` is the one that the keyboard is on.

    A click on a bar, or Enter, gives it to `picked`. The mouse over a part says what it is.
    """

    def __init__(self, palette: Palette, picked: Callable[[StepBar], object], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self._picked = picked
        self.bars: Sequence[StepBar] = ()
        self.current = 0
        self._font = QFont(self.font())
        self._font.setPixelSize(12)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumWidth(_LABEL_PX + _TOTAL_PX + 120)

    def show_bars(self, bars: Sequence[StepBar]) -> None:
        """Show other bars."""
        self.bars = bars
        self.current = 0
        self.setFixedHeight(self.sizeHint().height())
        self.update()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self.update()

    def sizeHint(self) -> QSize:
        """Room for every bar."""
        return QSize(600, _LEGEND_PX + _ROW_PX * len(self.bars) + 4)

    # -- geometry ------------------------------------------------------------------------------------------------

    def boxes(self, row: int) -> list[tuple[str, QRectF]]:
        """The parts of bar `row` by name, with where they are painted; those without any width are left out."""
        longest = max((bar.length_ns for bar in self.bars), default=0) or 1
        room = self.width() - _LABEL_PX - _TOTAL_PX
        left, top = float(_LABEL_PX), _LEGEND_PX + row * _ROW_PX + 3
        found = []
        for name in part_roles() if self.bars else ():
            width = self.bars[row].parts.get(name, 0) / longest * room
            if width > 0:
                found.append((name, QRectF(left, top, width, _ROW_PX - 6)))
                left += width
        return found

    def row_at(self, y: float) -> int | None:
        """The bar at height `y`."""
        row = int((y - _LEGEND_PX) // _ROW_PX)
        return row if y >= _LEGEND_PX and row < len(self.bars) else None

    # -- painting ------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        """The legend of the parts that there are, and the bars."""
        painter = QPainter(self)
        painter.setFont(self._font)
        metrics = QFontMetricsF(self._font)
        text, faint = QColor(self.colours.css("text")), QColor(self.colours.css("faint"))
        left = float(_LABEL_PX)
        for name, role in part_roles().items() if self.bars else ():
            if not any(bar.parts.get(name, 0) for bar in self.bars):
                continue
            painter.fillRect(QRectF(left, 6, 12, 12), QColor(self.colours.css(role)))
            painter.setPen(faint)
            painter.drawText(QPointF(left + 17, 16), tr(name))
            left += 17 + metrics.horizontalAdvance(tr(name)) + 18
        for row, bar in enumerate(self.bars):
            y = _LEGEND_PX + row * _ROW_PX
            if not event.rect().intersects(QRectF(0, y, self.width(), _ROW_PX).toRect()):
                continue
            base = y + _ROW_PX / 2 + metrics.ascent() / 2 - 1
            painter.setPen(text)
            label = say(bar.label)
            painter.drawText(QPointF(_LABEL_PX - 10 - metrics.horizontalAdvance(label), base), label)
            boxes = self.boxes(row)
            for name, box in boxes:
                painter.fillRect(box, QColor(self.colours.css(part_roles()[name])))
            if self.hasFocus() and row == self.current and boxes:
                painter.setPen(text)
                painter.drawRect(boxes[0][1].united(boxes[-1][1]).adjusted(-1, -1, 1, 1))
            end = boxes[-1][1].right() if boxes else float(_LABEL_PX)
            painter.setPen(faint)
            painter.drawText(QPointF(end + 8, base), format_duration(bar.length_ns))
        painter.end()

    # -- input ---------------------------------------------------------------------------------------------------

    def part_text(self, row: int, name: str) -> str:
        """What one part of a bar is, how long, and its share."""
        bar = self.bars[row]
        length = bar.parts[name]
        values = (Sentence(name), format_duration(length), format_share(length / max(bar.length_ns, 1)))
        return say(Sentence("{}: {} ({})", values))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say what lies under the mouse."""
        row = self.row_at(event.position().y())
        boxes = self.boxes(row) if row is not None else []
        name = next((name for name, box in boxes if box.contains(event.position())), None)
        self.setCursor(Qt.CursorShape.PointingHandCursor if row is not None else Qt.CursorShape.ArrowCursor)
        if row is not None and name is not None:
            QToolTip.showText(event.globalPosition().toPoint(), self.part_text(row, name), self)
        else:
            QToolTip.hideText()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Pick the bar."""
        row = self.row_at(event.position().y())
        if row is not None and event.button() is Qt.MouseButton.LeftButton:
            self.current = row
            self._picked(self.bars[row])

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and Down go from bar to bar, Enter picks one."""
        if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down) and self.bars:
            step = 1 if event.key() is Qt.Key.Key_Down else -1
            self.current = min(max(self.current + step, 0), len(self.bars) - 1)
            self.update()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.bars:
            self._picked(self.bars[self.current])
        else:
            super().keyPressEvent(event)
