"""The buffers of a kernel on chip: for each memory a map of addresses over the slots of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QFont, QFontMetricsF, QHelpEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from memplan.core.units import format_bytes
from memplan.gui.i18n import tr
from memplan.gui.model.kernel.kernel_facts import BufferLane, KernelFacts
from memplan.gui.model.kernel.kernel_layout import BufferCell, Heights, cells, heights, operand_of, operands
from memplan.gui.model.palette import Palette
from memplan.gui.views.kernel.kernel_words import buffer_name, copy_colour, ink_on

_EDGE, _GAP = 8.0, 14.0
_NARROWEST, _LOWEST, _TALL, _LINE_ROOM = 200.0, 110.0, 200.0, 3.0
_GAUGE = 7.0
_HOW = (
    "addresses upwards, pipeline slots to the right; #1 is data of iteration 1; the fainter colour is the second copy"
)


class BufferMaps(QWidget):
    """
    One map for each memory that the kernel uses, addresses upwards, slots to the right.

    A block is what a copy of a buffer holds of one iteration. A gauge beside the map shows to scale how full the memory
    is; the map itself draws free room hatched, smaller than it is where little is used.
    """

    def __init__(self, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.lanes: list[BufferLane] = []
        self.unused: list[BufferLane] = []
        self.slots = 0
        self._cells: list[tuple[BufferCell, ...]] = []
        self._heights: list[Heights] = []
        self._operands: tuple[str, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(tr("Buffers on chip"))

    def show_facts(self, facts: KernelFacts) -> None:
        """Draw the buffers of another kernel."""
        self.lanes = [lane for lane in facts.lanes if lane.buffers]
        self.unused = [lane for lane in facts.lanes if not lane.buffers]
        self.slots = facts.slots
        self._cells = [cells(lane, facts.slots) for lane in self.lanes]
        self._heights = [heights(lane) for lane in self.lanes]
        self._operands = operands(self.lanes)
        self.setVisible(bool(self.lanes))
        self.setAccessibleDescription("; ".join(self.title(lane) for lane in self.lanes))
        self._fit()
        self.update()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self.update()

    def title(self, lane: BufferLane) -> str:
        """How full a memory is."""
        used = format_bytes(lane.peak)
        if lane.capacity is None:
            return f"{lane.tier.value}  {used}"
        return f"{lane.tier.value}  " + tr("{} of {}").format(used, format_bytes(lane.capacity))

    # -- geometry ------------------------------------------------------------------------------------------------

    @property
    def _line(self) -> float:
        return QFontMetricsF(self.font()).height() + _LINE_ROOM

    def _columns(self) -> int:
        most = max(int((self.width() - 2 * _EDGE + _GAP) // (_NARROWEST + _GAP)), 1)
        rows = ceil(len(self.lanes) / most)
        return ceil(len(self.lanes) / max(rows, 1)) or 1

    def _map_height(self, place: int) -> float:
        """High enough for the names of all buffers of a memory, if they are not of too different sizes."""
        buffers = {cell.buffer.offset: cell.buffer.size for cell in self._cells[place]}
        scale, line = self._heights[place], self._line - 1
        even, smallest = len(buffers) * line, line * scale.used / max(min(buffers.values(), default=1), 1)
        return max(_LOWEST, max(even, min(smallest, _TALL)) / max(scale.used_height, 0.1))

    def _row_heights(self) -> list[float]:
        """Height of each row of maps, with title and slots."""
        across = self._columns()
        return [
            max(self._map_height(place) for place in range(first, min(first + across, len(self.lanes))))
            + 2 * self._line + 6
            for first in range(0, len(self.lanes), across)
        ]  # fmt: skip

    def _foot(self) -> str:
        """What is said below the maps."""
        names = ", ".join(
            f"{lane.tier.value} ({format_bytes(lane.capacity)})" if lane.capacity is not None else lane.tier.value
            for lane in self.unused
        )
        return tr("Nothing laid out in {}").format(names) if names else ""

    def how_to_read(self) -> QRectF:
        """Where it is said how to read the maps: beside the head, or below it where that is too narrow."""
        start = _EDGE + QFontMetricsF(self._bold).horizontalAdvance(tr("Buffers on chip")) + 10
        room = self.width() - start - _EDGE
        if QFontMetricsF(self.font()).horizontalAdvance(tr(_HOW)) <= room:
            return QRectF(start, 0, room, self._line)
        return QRectF(_EDGE, self._line, self.width() - 2 * _EDGE, self._text_height(tr(_HOW)))

    def _maps_top(self) -> float:
        """Where the title of the first map begins, clear of what is said above it."""
        return self.how_to_read().bottom() + _LINE_ROOM

    def _text_height(self, text: str) -> float:
        """Height of `text`, wrapped to the width."""
        room = QRectF(0, 0, self.width() - 2 * _EDGE, 1000)
        return QFontMetricsF(self.font()).boundingRect(room, Qt.TextFlag.TextWordWrap, text).height() if text else 0.0

    @property
    def _bold(self) -> QFont:
        bold = QFont(self.font())
        bold.setBold(True)
        return bold

    def _fit(self) -> None:
        self.setFixedHeight(int(self._maps_top() + sum(self._row_heights()) + self._text_height(self._foot()) + 8))

    def sizeHint(self) -> QSize:
        """As high as the maps at this width."""
        return QSize(600, self.height())

    def minimumSizeHint(self) -> QSize:
        """One map wide."""
        return QSize(int(_NARROWEST + 2 * _EDGE), self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """As many maps beside each other as fit."""
        super().resizeEvent(event)
        self._fit()

    def frame(self, place: int) -> QRectF:
        """Where the map of a memory is drawn, without its title."""
        across, rows = self._columns(), self._row_heights()
        row, column = divmod(place, across)
        width = (self.width() - 2 * _EDGE - _GAP * (across - 1)) / across
        top = self._maps_top() + sum(rows[:row]) + self._line + 2
        left = _EDGE + column * (width + _GAP) + _GAUGE + 4
        return QRectF(left, top, width - _GAUGE - 4, rows[row] - 2 * self._line - 6)

    def box(self, place: int, cell: BufferCell) -> QRectF:
        """Where a block of the map of a memory is drawn."""
        frame, scale = self.frame(place), self._heights[place]
        wide = frame.width() / max(self.slots, 1)
        low = frame.bottom() - frame.height() * scale.share(cell.buffer.offset)
        high = frame.bottom() - frame.height() * scale.share(cell.buffer.offset + cell.buffer.size)
        return QRectF(frame.left() + cell.start * wide, high, (cell.end - cell.start) * wide, max(low - high, 1.0))

    def cell_at(self, x: float, y: float) -> tuple[int, BufferCell] | None:
        """Memory and block at a place of the widget."""
        for place, row in enumerate(self._cells):
            for cell in row:
                if self.box(place, cell).contains(x, y):
                    return place, cell
        return None

    # -- what is said --------------------------------------------------------------------------------------------

    def cell_text(self, lane: BufferLane, cell: BufferCell) -> str:
        """Everything known of one block."""
        buffer = cell.buffer
        first, last = buffer.offset, buffer.offset + buffer.size
        name = buffer_name(buffer)
        if cell.copies > 1:
            name += ", " + tr("copy {} of {}").format(cell.copy + 1, cell.copies)
        place = f"{format_bytes(buffer.size)} · {lane.tier.value} {first:,} – {last:,} B"
        slots = tr("slots {} – {}").format(cell.start + 1, cell.end)
        what = (
            tr("stays over all iterations") if cell.iteration is None
            else tr("iteration {}").format(cell.iteration + 1)
        )  # fmt: skip
        pipes = tr("filled by {}, read by {}").format(tr(buffer.filled_by), tr(buffer.read_by))
        return "\n".join((name, place, f"{what}, {slots}", pipes))

    def free_text(self, place: int) -> str:
        """How much of a memory is free."""
        lane, scale = self.lanes[place], self._heights[place]
        if scale.free is None:
            return tr("{}: its size is not known").format(lane.tier.value)
        text = self.title(lane) + "\n" + tr("{} free").format(format_bytes(scale.free))
        return text if scale.to_scale else text + " " + tr("(drawn smaller than it is)")

    def event(self, event: QEvent) -> bool:
        """Say more of the block under the mouse."""
        if isinstance(event, QHelpEvent):
            text = self._text_at(event.pos().x(), event.pos().y())
            if text:
                QToolTip.showText(event.globalPos(), text, self)
                return True
            QToolTip.hideText()
        return super().event(event)

    def _text_at(self, x: float, y: float) -> str:
        found = self.cell_at(x, y)
        if found is not None:
            return self.cell_text(self.lanes[found[0]], found[1])
        whole = (
            self.frame(place).adjusted(-_GAUGE - 4, -self._line, 0, self._line) for place in range(len(self.lanes))
        )
        return next((self.free_text(place) for place, area in enumerate(whole) if area.contains(x, y)), "")

    # -- painting ------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        """Title, maps, foot."""
        if not self.lanes:
            return
        painter = QPainter(self)
        faint, wrapped = QColor(self.colours.css("faint")), Qt.TextFlag.TextWordWrap
        painter.setFont(self._bold)
        painter.setPen(QColor(self.colours.css("text")))
        painter.drawText(QPointF(_EDGE, QFontMetricsF(self._bold).ascent()), tr("Buffers on chip"))
        painter.setFont(self.font())
        painter.setPen(faint)
        painter.drawText(self.how_to_read(), wrapped, tr(_HOW))
        for place in range(len(self.lanes)):
            self._paint_map(painter, place)
        painter.setPen(faint)
        below = self._maps_top() + sum(self._row_heights()) + 2
        foot = self._foot()
        painter.drawText(QRectF(_EDGE, below, self.width() - 2 * _EDGE, self._text_height(foot)), wrapped, foot)
        painter.end()

    def _paint_map(self, painter: QPainter, place: int) -> None:
        lane, scale, frame = self.lanes[place], self._heights[place], self.frame(place)
        over = lane.capacity is not None and lane.peak > lane.capacity
        painter.setFont(self._bold)
        painter.setPen(QColor(self.colours.css("warning" if over else "text")))
        metrics = QFontMetricsF(self._bold)
        title = metrics.elidedText(self.title(lane), Qt.TextElideMode.ElideRight, frame.width() + _GAUGE)
        painter.drawText(QPointF(frame.left() - _GAUGE - 4, frame.top() - metrics.descent() - 3), title)
        painter.setFont(self.font())
        self._paint_gauge(painter, lane, frame)
        self._paint_free(painter, scale, frame)
        boxes = [self.box(place, cell) for cell in self._cells[place]]
        for cell, box in zip(self._cells[place], boxes, strict=True):
            self._paint_cell(painter, cell, box)
        self._paint_names(painter, self._cells[place], boxes, frame)
        painter.setPen(QPen(QColor(self.colours.css("line")), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(frame)
        if over and lane.capacity is not None:
            y = frame.bottom() - frame.height() * scale.share(lane.capacity)
            painter.setPen(QPen(QColor(self.colours.css("warning")), 2))
            painter.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
        self._paint_slots(painter, frame)

    def _paint_gauge(self, painter: QPainter, lane: BufferLane, frame: QRectF) -> None:
        if lane.capacity is None:
            return
        share = min(lane.peak / max(lane.capacity, 1), 1.0)
        gauge = QRectF(frame.left() - _GAUGE - 4, frame.top(), _GAUGE, frame.height())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.colours.css("warning" if lane.peak > lane.capacity else "faint")))
        high = max(gauge.height() * share, 1.0)
        painter.drawRect(QRectF(gauge.left(), gauge.bottom() - high, gauge.width(), high))
        painter.setPen(QPen(QColor(self.colours.css("line")), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(gauge)

    def _paint_free(self, painter: QPainter, scale: Heights, frame: QRectF) -> None:
        if not scale.free:
            return
        high = frame.height() * (1 - scale.used_height)
        area = QRectF(frame.left(), frame.top(), frame.width(), high)
        painter.setPen(Qt.PenStyle.NoPen)
        hatch = QColor(self.colours.css("faint"))
        hatch.setAlpha(90)
        painter.setBrush(QBrush(hatch, Qt.BrushStyle.BDiagPattern))
        painter.drawRect(area)
        metrics = QFontMetricsF(self.font())
        text = tr("{} free").format(format_bytes(scale.free))
        wide = metrics.horizontalAdvance(text)
        if high < metrics.height() + 2 or wide > frame.width() - 8:
            return
        label = QRectF(frame.center().x() - wide / 2 - 4, area.center().y() - metrics.height() / 2, wide + 8,
                       metrics.height())  # fmt: skip
        painter.setBrush(QColor(self.colours.css("window")))
        painter.drawRect(label)
        painter.setPen(QColor(self.colours.css("faint")))
        painter.drawText(label, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_cell(self, painter: QPainter, cell: BufferCell, box: QRectF) -> None:
        operand = self._operands.index(operand_of(cell.buffer))
        colour = copy_colour(self.colours, operand, cell.copy)
        painter.setPen(QPen(QColor(self.colours.css("ground")), 1))
        painter.setBrush(colour)
        painter.drawRect(box)
        metrics = QFontMetricsF(self.font())
        if box.height() < metrics.height() - 2:
            return
        name = buffer_name(cell.buffer)
        turn = "" if cell.iteration is None else f"#{cell.iteration + 1}"
        texts = (f"{name} {turn}", name if not turn else "", turn)
        text = next((text for text in texts if text and metrics.horizontalAdvance(text) <= box.width() - 4), "")
        painter.setPen(ink_on(colour))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_names(
        self, painter: QPainter, row: Sequence[BufferCell], boxes: Sequence[QRectF], frame: QRectF
    ) -> None:
        """Beside the blocks of a buffer its name, where no block has room for it and nothing else is in the way."""
        metrics = QFontMetricsF(self.font())
        painter.setPen(QColor(self.colours.css("text")))
        taken = list(boxes)
        for buffer in dict.fromkeys(cell.buffer for cell in row):
            own = [(cell, box) for cell, box in zip(row, boxes, strict=True) if cell.buffer == buffer]
            name = buffer_name(buffer)
            wide, high = metrics.horizontalAdvance(name) + 8, metrics.height() - 2
            if any(metrics.horizontalAdvance(f"{name} #{(cell.iteration or 0) + 1}") <= box.width() - 4
                   for cell, box in own if box.height() >= high):  # fmt: skip
                continue
            first, last = own[0][1], own[-1][1]
            top = first.center().y() - high / 2
            for left in (last.right(), first.left() - wide):
                label = QRectF(left, top, wide, high)
                if frame.contains(label) and not any(label.intersects(box) for box in taken):
                    painter.drawText(label, Qt.AlignmentFlag.AlignCenter, name)
                    taken.append(label)
                    break

    def _paint_slots(self, painter: QPainter, frame: QRectF) -> None:
        metrics = QFontMetricsF(self.font())
        wide = frame.width() / max(self.slots, 1)
        painter.setPen(QColor(self.colours.css("faint")))
        base = frame.bottom() + metrics.ascent() + 2
        every = ceil((metrics.horizontalAdvance(str(self.slots)) + 4) / max(wide, 1.0))
        for slot in range(0, self.slots, every):
            text = str(slot + 1)
            painter.drawText(
                QPointF(frame.left() + (slot + 0.5) * wide - metrics.horizontalAdvance(text) / 2, base), text
            )
