"""The HBM stack of a KV budget: the card to scale, from what the driver keeps down to free blocks."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QFont, QFontMetricsF, QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QToolTip, QWidget

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes
from memplan.gui.i18n import say, say_word, tr
from memplan.gui.model.kv.kv_budget import Segment
from memplan.gui.model.kv.kv_colours import mixed, stack_colours
from memplan.gui.model.kv.kv_labels import spread
from memplan.gui.model.palette import Palette
from memplan.gui.theme import qt_colour

_LEFT, _BAR, _ELBOW, _TEXT = 8.0, 66.0, 12.0, 34.0
_SEEN_PX = 1.0
"""What is there is drawn at least so high."""


def segment_name(part: Segment) -> str:
    """Name and detail of a part in the window's language."""
    return say(Sentence("{}: {}", (part.name, part.detail)) if part.detail else part.name)


class HbmStack(QWidget):
    """HBM from the card's size down as one bar to scale; a line leads from every part to its size, name and source."""

    def __init__(self, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.segments: list[Segment] = []
        self.card = 0
        self.title = ""
        self.setMinimumWidth(300)
        self.setAccessibleName(tr("Memory of one die"))

    def show_segments(self, segments: Sequence[Segment], card: int = 0, title: str = "") -> None:
        """Draw other parts, top to bottom, of a card of `card` bytes."""
        self.segments = list(segments)
        self.card = card or sum(part.nbytes for part in segments)
        self.title = title
        self.setMinimumHeight(self.sizeHint().height())
        described = [f"{segment_name(part)}: {say(part.text)}" for part in segments]
        self.setAccessibleDescription("; ".join([title, *described]))
        self.update()

    @property
    def _line_height(self) -> float:
        return QFontMetricsF(self.font()).height() + 1

    @property
    def over_bytes(self) -> int:
        """By how much the parts are more than the card."""
        return max(0, sum(part.nbytes for part in self.segments) - self.card)

    def sizeHint(self) -> QSize:
        """As high as all labels under each other."""
        labels = len(self.segments) + 1 + bool(self.over_bytes)
        return QSize(420, int((labels + 1) * self._line_height + 12) if self.segments else 60)

    def bar(self) -> QRectF:
        """Where the card is drawn."""
        top = self._line_height + 6
        return QRectF(_LEFT, top, _BAR, max(self.height() - top - 6, 20.0))

    def rectangles(self) -> list[QRectF]:
        """Where each part is drawn, to scale; parts not known have no height."""
        bar = self.bar()
        total = max(sum(part.nbytes for part in self.segments), self.card, 1)
        found, y = [], bar.top()
        for part in self.segments:
            height = bar.height() * part.nbytes / total
            found.append(QRectF(bar.left(), y, bar.width(), height))
            y += height
        return found

    def label_rows(self) -> list[float]:
        """Middle of the label of every part, none over another."""
        bar = self.bar()
        middles = [item.center().y() for item in self.rectangles()]
        return spread(middles, self._line_height, bar.top() - 3, bar.bottom() + 3)

    def event(self, event: QEvent) -> bool:
        """Say where the figure under the mouse is from."""
        if isinstance(event, QHelpEvent):
            part = self.part_at(event.pos().x(), event.pos().y())
            if part is not None:
                text = f"{segment_name(part)}\n{say(part.text)} ({part.nbytes:,} B)\n{say_word(part.source)}"
                QToolTip.showText(event.globalPos(), text, self)
                return True
            QToolTip.hideText()
        return super().event(event)

    def part_at(self, x: float, y: float) -> Segment | None:
        """The part whose rectangle or label is at a place of the widget."""
        if not self.segments:
            return None
        if x <= _LEFT + _BAR:
            hit = (part for part, box in zip(self.segments, self.rectangles(), strict=True) if box.contains(x, y))
            return next(hit, None)
        rows = self.label_rows()
        nearest = min(range(len(rows)), key=lambda place: abs(rows[place] - y))
        return self.segments[nearest] if abs(rows[nearest] - y) <= self._line_height / 2 else None

    def paintEvent(self, event: QPaintEvent) -> None:
        """The bar, the lines, the labels."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.segments:
            self._paint_bar(painter)
            self._paint_labels(painter)
        painter.end()

    def _paint_bar(self, painter: QPainter) -> None:
        colours = stack_colours(self.colours)
        ground, weights = self.colours.role("ground"), 0
        for part, box in zip(self.segments, self.rectangles(), strict=True):
            if not part.nbytes:
                continue
            colour = colours.get(part.role, colours["other"])
            if part.role == "weight":
                colour = mixed(colour, ground, min(weights * 0.17, 0.6))
                weights += 1
            drawn = QRectF(box.left(), box.top(), box.width(), max(box.height(), _SEEN_PX))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(qt_colour(colour))
            painter.drawRect(drawn)
            if part.role == "reserved":
                painter.setBrush(self._hatch("faint", Qt.BrushStyle.BDiagPattern))
                painter.drawRect(drawn)
        bar = self.bar()
        end = bar.top() + bar.height() * self.card / max(self.card + self.over_bytes, 1)
        painter.setPen(QPen(QColor(self.colours.css("text")), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(QRectF(bar.left(), bar.top(), bar.width(), end - bar.top()))
        if self.over_bytes:
            painter.setPen(QPen(QColor(self.colours.css("warning")), 2))
            painter.setBrush(self._hatch("warning", Qt.BrushStyle.DiagCrossPattern))
            painter.drawRect(QRectF(bar.left(), end, bar.width(), bar.bottom() - end))

    def _hatch(self, role: str, style: Qt.BrushStyle) -> QBrush:
        return QBrush(QColor(self.colours.css(role)), style)

    def _paint_labels(self, painter: QPainter) -> None:
        text, faint = QColor(self.colours.css("text")), QColor(self.colours.css("faint"))
        warning = QColor(self.colours.css("warning"))
        bold = QFont(self.font())
        bold.setBold(True)
        metrics, wide = QFontMetricsF(self.font()), QFontMetricsF(bold)
        painter.setFont(bold)
        painter.setPen(warning if self.over_bytes else text)
        title = self.title
        if self.over_bytes:
            title += " · " + tr("{} more than the card has").format(format_bytes(self.over_bytes))
        room = self.width() - _LEFT - 4
        painter.drawText(QPointF(_LEFT, wide.ascent() + 2), wide.elidedText(title, Qt.TextElideMode.ElideRight, room))
        edge, start = _LEFT + _BAR, _LEFT + _BAR + _TEXT
        sizes = [say(part.text) for part in self.segments]
        column = start + max(wide.horizontalAdvance(size) for size in sizes) + 8
        tops = self.label_rows()
        below = [*tops[1:], self.bar().bottom() + self._line_height]
        for part, size, box, row, following in zip(self.segments, sizes, self.rectangles(), tops, below, strict=True):
            middle = box.center().y()
            painter.setPen(QPen(faint, 1, Qt.PenStyle.SolidLine if part.known else Qt.PenStyle.DotLine))
            painter.drawPolyline(
                [
                    QPointF(edge, middle),
                    QPointF(edge + _ELBOW, middle),
                    QPointF(start - _ELBOW, row),
                    QPointF(start - 4, row),
                ]
            )
            base = row + metrics.ascent() / 2 - metrics.descent() / 4
            painter.setFont(bold)
            painter.setPen(text if part.known else faint)
            painter.drawText(QPointF(column - 8 - wide.horizontalAdvance(size), base), size)
            painter.setFont(self.font())
            painter.setPen(text)
            name = metrics.elidedText(segment_name(part), Qt.TextElideMode.ElideRight, self.width() - column - 4)
            painter.drawText(QPointF(column, base), name)
            after = column + metrics.horizontalAdvance(name) + 10
            painter.setPen(faint)
            source = say_word(part.source)
            if metrics.horizontalAdvance(source) <= self.width() - after - 4:
                painter.drawText(QPointF(after, base), source)
                continue
            # What is too long has lines of its own where the next label leaves some; elsewhere the tool tip says it.
            room = max(following - row - self._line_height, 0.0)  # in Chinese a line is higher than the font's own
            free = QRectF(column, base + metrics.descent(), self.width() - column - 4, room)
            wrapped = int(Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
            needed = metrics.boundingRect(QRectF(0, 0, free.width(), 10_000), wrapped, source)
            if needed.height() <= free.height() + 1 and needed.width() <= free.width() + 1:
                painter.drawText(free, wrapped, source)
