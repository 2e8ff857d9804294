"""How busy each pipe of a kernel is: predicted over measured, all on one time scale."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.kernel.kernel_facts import PIPES, KernelFacts
from memplan.gui.model.palette import Palette
from memplan.gui.model.ruler import time_ticks
from memplan.gui.views.kernel.kernel_words import difference_text, time_text

_EDGE, _GAP, _BAR = 8.0, 8.0, 6.0
_SEEN_PX = 1.5
"""What takes any time at all is drawn at least so long."""


@dataclass(frozen=True, slots=True)
class PipeLine:
    """One line of the chart: its name, the cores it is a pipe of (empty for the whole kernel), and its times."""

    name: str
    unit: str
    predicted_ns: float | None
    measured_ns: float | None


class PipeBars(QWidget):
    """A line for the whole kernel and one a pipe, with two bars each and their times beside them."""

    def __init__(self, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.lines: list[PipeLine] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(tr("Pipes"))

    def show_facts(self, facts: KernelFacts) -> None:
        """Draw the times of another kernel."""
        self.lines = []
        if facts.predicted_ns is not None or facts.measured_ns is not None:
            self.lines.append(PipeLine(tr("whole kernel"), "", facts.predicted_ns, facts.measured_ns))
        units = {pipe.unit for pipe in facts.pipes}
        for pipe in facts.pipes:
            name = tr(PIPES[pipe.pipe])
            if len(units) > 1:
                name = f"{name} ({tr(pipe.unit)})"
            self.lines.append(PipeLine(name, pipe.unit, pipe.predicted_ns, pipe.measured_ns))
        if not any(line.predicted_ns or line.measured_ns for line in self.lines):
            self.lines = []  # nothing took any time: bars would show nothing but an empty scale
        self.setVisible(bool(self.lines))
        self.setFixedHeight(self.sizeHint().height())
        self.setAccessibleDescription("; ".join(self.line_text(line).replace("\n", ", ") for line in self.lines))
        self.update()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self.update()

    @property
    def _row_height(self) -> float:
        return max(QFontMetricsF(self.font()).height() + 3, 2 * _BAR + 6)

    def sizeHint(self) -> QSize:
        """All lines, with the heads of the columns and the scale."""
        return QSize(420, int((len(self.lines) + 2) * self._row_height) + 4)

    def minimumSizeHint(self) -> QSize:
        """As high as it has to be, however narrow."""
        return QSize(200, self.sizeHint().height())

    def columns(self) -> tuple[float, float, float, float]:
        """Left and right end of the bars, and right ends of the columns of predicted and measured times."""
        metrics = QFontMetricsF(self.font())
        bold = QFont(self.font())
        bold.setBold(True)
        names = max((QFontMetricsF(bold).horizontalAdvance(line.name) for line in self.lines), default=0.0)
        texts = [time_text(time) for line in self.lines for time in (line.predicted_ns, line.measured_ns)]
        heads = [f"■ {tr('predicted')}", f"■ {tr('measured')}"]
        number = max((metrics.horizontalAdvance(text) for text in (*texts, *heads)), default=0.0)
        left = _EDGE + min(names + 2, self.width() * 0.3) + _GAP
        measured = self.width() - _EDGE
        predicted = measured - number - _GAP
        return left, max(predicted - number - _GAP, left + 20), predicted, measured

    @property
    def longest_ns(self) -> float:
        """The end of the time scale."""
        times = [time for line in self.lines for time in (line.predicted_ns, line.measured_ns) if time is not None]
        return max([*times, 1.0])

    def bars(self, place: int) -> tuple[QRectF | None, QRectF | None]:
        """Where the predicted and the measured bar of a line are drawn; `None` for what is not known."""
        left, right, _, _ = self.columns()
        middle = self._row_height * (place + 1.5)
        line = self.lines[place]
        found: list[QRectF | None] = []
        for time, top in ((line.predicted_ns, middle - _BAR - 0.5), (line.measured_ns, middle + 0.5)):
            if time is None:
                found.append(None)
                continue
            length = (right - left) * time / self.longest_ns
            found.append(QRectF(left, top, max(length, _SEEN_PX) if time > 0 else 0.0, _BAR))
        return found[0], found[1]

    def line_at(self, y: float) -> PipeLine | None:
        """The line at a height of the widget."""
        place = int(y // self._row_height) - 1
        return self.lines[place] if 0 <= place < len(self.lines) else None

    def line_text(self, line: PipeLine) -> str:
        """Everything known of one line."""
        cores = tr("{} cores, mean over them").format(tr(line.unit)) if line.unit else ""
        parts = [f"{line.name} ({cores})" if cores else line.name]
        missing = (tr("not predicted: the model does not know this pipe's time"),
                   tr("not measured: the profile has no counter of it"))  # fmt: skip
        if not line.unit:
            missing = tr("not predicted"), tr("not measured")
        for label, time, none in (
            (tr("predicted"), line.predicted_ns, missing[0]),
            (tr("measured"), line.measured_ns, missing[1]),
        ):
            parts.append(none if time is None else f"{label} {time_text(time)}")
        difference = difference_text(line.predicted_ns, line.measured_ns)
        if difference:
            parts.append(tr("measured against predicted: {}").format(difference))
        return "\n".join(parts)

    def event(self, event: QEvent) -> bool:
        """Say more of the line under the mouse."""
        if isinstance(event, QHelpEvent):
            line = self.line_at(event.pos().y())
            if line is not None:
                QToolTip.showText(event.globalPos(), self.line_text(line), self)
                return True
            QToolTip.hideText()
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Heads, scale, and the lines."""
        if not self.lines:
            return
        painter = QPainter(self)
        text, faint = QColor(self.colours.css("text")), QColor(self.colours.css("faint"))
        metrics, height = QFontMetricsF(self.font()), self._row_height
        left, right, predicted, measured = self.columns()
        bold = QFont(self.font())
        bold.setBold(True)
        drop = (height + metrics.ascent() - metrics.descent()) / 2
        painter.setFont(bold)
        painter.setPen(text)
        painter.drawText(QPointF(_EDGE, drop), tr("Pipes"))
        painter.setFont(self.font())
        for end, role in ((predicted, "predicted"), (measured, "measured")):
            head = f"■ {tr(role)}"
            painter.setPen(QColor(self.colours.css("planned" if role == "predicted" else "measured")))
            painter.drawText(QPointF(end - metrics.horizontalAdvance(head), drop), head)
        self._paint_scale(painter, left, right, drop)
        for place, line in enumerate(self.lines):
            base = height * (place + 1) + drop
            painter.setPen(text)
            painter.setFont(bold if not line.unit else self.font())
            name = QFontMetricsF(painter.font()).elidedText(line.name, Qt.TextElideMode.ElideRight, left - _EDGE - 2)
            painter.drawText(QPointF(_EDGE, base), name)
            painter.setFont(self.font())
            for bar, role in zip(self.bars(place), ("planned", "measured"), strict=True):
                if bar is not None:
                    painter.setPen(Qt.PenStyle.NoPen)
                    painter.setBrush(QColor(self.colours.css(role)))
                    painter.drawRect(bar)
            for end, time in ((predicted, line.predicted_ns), (measured, line.measured_ns)):
                painter.setPen(text if time is not None else faint)
                number = time_text(time)
                painter.drawText(QPointF(end - metrics.horizontalAdvance(number), base), number)
        painter.end()

    def _paint_scale(self, painter: QPainter, left: float, right: float, drop: float) -> None:
        metrics = QFontMetricsF(self.font())
        top, bottom = self._row_height, self._row_height * (len(self.lines) + 1)
        room = right - left
        ticks = time_ticks(0.0, self.longest_ns, max(int(room / 90), 1))
        end = -1e9
        for tick in ticks:
            x = left + room * tick.value / self.longest_ns
            painter.setPen(QPen(QColor(self.colours.css("grid")), 1))
            painter.drawLine(QPointF(x, top), QPointF(x, bottom))
            wide = metrics.horizontalAdvance(tick.text)
            start = max(x - wide / 2, _EDGE)
            if start > end + _GAP:
                painter.setPen(QColor(self.colours.css("faint")))
                painter.drawText(QPointF(start, bottom + drop), tick.text)
                end = start + wide
