"""The planned memory map: time x address, every placement a rectangle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPen, QWheelEvent
from PySide6.QtWidgets import QWidget

from memplan.core.units import format_bytes, format_duration
from memplan.gui.i18n import tr
from memplan.gui.model.memory.memory_map import MemoryMap, occupant
from memplan.gui.model.palette import Palette
from memplan.gui.model.ruler import byte_ticks
from memplan.gui.model.session.session import Session, TensorRef
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.slices.counterparts import op_rectangles
from memplan.gui.model.tables.time_sheets import map_sheet
from memplan.gui.views.canvas import GUTTER_PX, TimeCanvas
from memplan.gui.views.fitted_text import FittedText
from memplan.gui.views.view import MenuEntry, ViewServices
from memplan.schema import Tier

_NAME_PX = (60.0, 14.0)  # a name is written where this much of a rectangle shows
_MAX_NAMES = 300


ShowTier = Callable[[Session, Tier], object]


def tier_entries(session: Session, show_tier: ShowTier) -> list[MenuEntry | None]:
    """The tiers of the session as entries of a menu, the one that is shown with a mark."""
    entries: list[MenuEntry | None] = [
        MenuEntry(tier.value, partial(show_tier, session, tier), checked=tier is session.tier) for tier in session.tiers
    ]
    return [*entries, None]


class MemoryMapView(TimeCanvas):
    """
    The session's map. A click selects a tensor; Alt and the wheel zoom the addresses at the mouse.

    `low` and `high` are the visible addresses.
    """

    def __init__(
        self,
        session: Session,
        palette: Palette,
        parent: QWidget | None = None,
        show_tier: ShowTier = Session.show_tier,
    ) -> None:
        super().__init__(session, palette, parent)
        self._show_tier = show_tier
        self.low, self.high = 0.0, 1.0
        self._colours: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)
        self._hover: int | None = None
        self._tinted: list[int] = []
        self._fitted = FittedText(QFontMetricsF(self.small_font))
        self.session_changed()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services.session, services.palette, services.parent, services.loader.show_tier)

    def menu_entries(self) -> Sequence[MenuEntry | None]:
        """The tiers to choose from."""
        return tier_entries(self.session, self._show_tier)

    def session_changed(self) -> None:
        """Another session: all its addresses."""
        self._listening.append((self.session.tier_changed, self.session.tier_changed.connect(self._tier_changed)))
        self._listening.append((self.session.selected_changed, self.session.selected_changed.connect(self._tint)))
        self._tier_changed()

    def _tier_changed(self) -> None:
        self._hover = None
        self._tint()
        mapped = self.session.map
        self._colours = mapped.colours(self.colours) if mapped is not None else np.zeros(0, dtype=np.uint32)
        self.show_addresses(0.0, self.full_height)

    def _tint(self) -> None:
        self._tinted = op_rectangles(self.session, self.session.selected)
        self.update()

    @property
    def full_height(self) -> float:
        """Bytes that the whole view shows: the highest address used, with a little room above."""
        return max(self.session.map.top * 1.12, 1.0) if self.session.map is not None else 1.0

    def show_addresses(self, low: float, high: float) -> None:
        """Show the addresses `[low, high)` as far as there are any."""
        span = min(max(high - low, 64.0), self.full_height)
        self.low = min(max(low, 0.0), self.full_height - span)
        self.high = self.low + span
        self.refresh()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        if self.session.map is not None:
            self._colours = self.session.map.colours(palette)
        super().set_palette(palette)

    @property
    def bytes_per_px(self) -> float:
        """Bytes per logical pixel."""
        return (self.high - self.low) / self.plot.height()

    def address_at(self, y: float) -> float:
        """Address at widget row `y`."""
        return self.high - (y - self.plot.top()) * self.bytes_per_px

    def y_of(self, address: float) -> float:
        """Widget row of an address."""
        return self.plot.top() + (self.high - address) / self.bytes_per_px

    # -- painting ------------------------------------------------------------------------------------------------

    def paint_pixels(self, pixels: NDArray[np.uint32], ns_per_px: float, scale: float) -> None:
        """All rectangles."""
        mapped = self.session.map
        if mapped is None or not len(mapped):
            return
        from memplan.gui.model.raster import paint_rectangles  # compiled: slow to import, so not for an empty window

        whole, fraction = self.whole_start()
        paint_rectangles(
            pixels, mapped.start_ns, mapped.end_ns, mapped.low, mapped.high, self._colours, whole, fraction, ns_per_px,
            self.low, (self.high - self.low) / pixels.shape[0],
        )  # fmt: skip

    def paint_over(self, painter: QPainter) -> None:
        """Names of tensors with room for them, the peak, the capacity, and the selected tensor's frame."""
        mapped = self.session.map
        if mapped is None or not len(mapped):
            painter.setFont(self.text_font)
            painter.setPen(self.pen("faint"))
            text = (
                tr("No plan is open: the memory map needs one")
                if self.session.document.plan is None
                else tr("The plan gives no addresses in this tier")
            )
            painter.drawText(self.plot, int(Qt.AlignmentFlag.AlignCenter), text)
            return
        self._paint_names(painter, mapped)
        use = mapped.plan.tier(mapped.tier)
        right = self.width() - 8.0
        top = f"{tr('highest address')} {format_bytes(mapped.top)}"
        self._paint_level(painter, mapped.top, top, "text", right)
        if use is not None and use.capacity is not None:
            if abs(use.capacity - mapped.top) < self.small_metrics.height() * self.bytes_per_px:
                right -= self.small_metrics.horizontalAdvance(top) + 16
            self._paint_level(painter, use.capacity, f"{tr('capacity')} {format_bytes(use.capacity)}", "warning", right)
        if self.session.peak is not None:
            x = self.x_of(self.session.peak.time_ns - self.session.origin_ns)
            pen = QPen(self.pen("text"))  # one of its own: the kept one is for every solid line
            pen.setStyle(Qt.PenStyle.DashLine)
            painter.setPen(pen)
            painter.drawLine(QPointF(x, self.plot.top()), QPointF(x, self.plot.bottom()))
            self.paint_tag(painter, x + 4, self.plot.top() + 13, tr("peak"), self.pen("text"))
        selected = self.session.selected
        if self._tinted:
            painter.setPen(self.pen("text", 1.5))
            painter.setBrush(self.colour(self.colours.role("accent"), 90))
            for index in self._tinted:
                painter.drawRect(self.rectangle(mapped, index))
            painter.setBrush(Qt.BrushStyle.NoBrush)
        if isinstance(selected, TensorRef) and selected.rectangle < len(mapped):
            painter.setPen(self.pen("text", 2))
            painter.drawRect(self.rectangle(mapped, selected.rectangle))

    def rectangle(self, mapped: MemoryMap, index: int) -> QRectF:
        """Where rectangle `index` of `mapped` is painted."""
        left = max(self.x_of(float(mapped.start_ns[index] - self.session.origin_ns)), -10.0)
        right = min(self.x_of(float(mapped.end_ns[index] - self.session.origin_ns)), self.width() + 10.0)
        top, bottom = self.y_of(float(mapped.high[index])), self.y_of(float(mapped.low[index]))
        top, bottom = max(top, -10.0), min(bottom, self.height() + 10.0)
        return QRectF(left, top, max(right - left, 2.0), max(bottom - top, 2.0))

    def _paint_level(self, painter: QPainter, address: float, text: str, role: str, right: float) -> None:
        """A line at `address` with its text on it, which ends at column `right`."""
        y = self.y_of(address)
        if not self.plot.top() <= y <= self.plot.bottom():
            return
        painter.setPen(self.pen(role))
        painter.drawLine(QPointF(GUTTER_PX, y), QPointF(self.width(), y))
        metrics = self.small_metrics
        x = right - metrics.horizontalAdvance(text)
        below = y - metrics.height() < self.plot.top()
        self.paint_tag(painter, x, y + metrics.ascent() + 1 if below else y - 4, text, self.pen(role))

    def _paint_names(self, painter: QPainter, mapped: MemoryMap) -> None:
        from memplan.gui.model.raster import roomy_rectangles

        found, box = np.empty(len(mapped), dtype=np.int64), np.empty((len(mapped), 4))
        whole, fraction = self.whole_start()
        px, shape = (self.ns_per_px, self.bytes_per_px), (self.plot.width(), self.plot.height())
        count = roomy_rectangles(
            mapped.start_ns, mapped.end_ns, mapped.low, mapped.high, whole, fraction, self.low, px, shape, _NAME_PX,
            found, box,
        )  # fmt: skip
        found, box = found[:count], box[:count]
        if count > _MAX_NAMES:
            area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
            largest = np.argpartition(-area, _MAX_NAMES)[:_MAX_NAMES]
            found, box = found[largest], box[largest]
        painter.setFont(self.small_font)
        metrics = self.small_metrics
        bottom = self.plot.top() + shape[1]
        placements, tensors = mapped.plan.placements, mapped.tensors
        rows, grounds = mapped.placement[found].tolist(), self._colours[found].tolist()
        known = {ground: self.colour(self.colours.label_on(ground)) for ground in set(grounds)}
        for row, ground, (left, right, low, high) in zip(rows, grounds, box.tolist(), strict=True):
            painter.setPen(known[ground])
            name = tensors[placements[row].tensor].name
            text = self._fitted.text(name, right - left - 8, tail=True)
            y = bottom - (low + high) / 2 + metrics.ascent() / 2 - 1
            painter.drawText(QPointF(GUTTER_PX + left + 4, y), text)

    def paint_gutter(self, painter: QPainter) -> None:
        """Title, legend of kinds, and addresses."""
        painter.setFont(self.text_font)
        painter.setPen(self.pen("text"))
        painter.drawText(QPointF(8, self.ruler_px + 16), f"{tr('Memory map')} · {self.session.tier.value}")
        mapped = self.session.map
        if mapped is None or not len(mapped):
            return
        metrics = self.small_metrics
        painter.setFont(self.small_font)
        y = self.ruler_px + 36
        for kind in mapped.kinds:
            if y + 4 > self.height():
                break
            self._block(painter, QRectF(10, y - 9, 10, 10), self.colours.kind(kind))
            painter.setPen(self.pen("faint"))
            painter.drawText(QPointF(26, y), tr(kind.replace("_", " ")))
            y += metrics.height() + 3
        for tick in byte_ticks(self.low, self.high, max(self.plot.height() // 36, 2)):
            row = self.y_of(tick.value)
            painter.setPen(self.pen("faint"))
            width = metrics.horizontalAdvance(tick.text)
            if self.plot.top() + 8 < row < self.height() - 2:
                painter.drawText(QPointF(GUTTER_PX - width - 8, row + 4), tick.text)
            painter.drawLine(QPointF(GUTTER_PX - 5, row), QPointF(GUTTER_PX - 1, row))

    def paint_top(self, painter: QPainter) -> None:
        """What lies under the mouse."""
        mapped = self.session.map
        if self._hover is not None and mapped is not None:
            self.paint_hover(painter, self.lines(mapped, self._hover))

    def lines(self, mapped: MemoryMap, index: int) -> list[str]:
        """Rectangle `index` of `mapped` in a few lines: tensor, bytes and addresses, life, ops and source line."""
        item = occupant(mapped, index)
        shape = "×".join(str(dim) for dim in item.tensor.shape) or tr("scalar")
        lines = [
            item.tensor.name,
            f"{tr(item.tensor.kind.replace('_', ' '))} · {shape} {item.tensor.dtype} {item.tensor.layout} · "
            f"{format_bytes(item.size)}",
            f"{item.tier.value} {item.offset:#x} – {item.offset + item.size:#x} · "
            f"{format_duration(item.end_ns - item.start_ns)}",
        ]
        if item.producer is not None:
            lines.append(f"{tr('made by')} {item.producer.name} ({item.producer.type})")
        if item.last_use is not None:
            lines.append(f"{tr('last used by')} {item.last_use.name} ({item.last_use.type})")
        source = next((op.source for op in (item.producer, item.last_use) if op is not None and op.source), None)
        if source is not None:
            lines.append(f"{tr('source line')} {source}")
        return lines

    def sheet(self) -> Sheet:
        """The rectangles of the selected or visible time range."""
        return map_sheet(self.session)

    # -- input ---------------------------------------------------------------------------------------------------

    def rectangle_at(self, position: QPointF) -> int | None:
        """The rectangle under `position`."""
        mapped = self.session.map
        if mapped is None or position.x() < GUTTER_PX or position.y() < self.plot.top():
            return None
        time = self.session.origin_ns + int(np.floor(self.time_at(position.x())))
        return mapped.at(time, int(self.address_at(position.y())))

    def moved(self, position: QPointF) -> None:
        """Remember what lies under the mouse."""
        self._hover = self.rectangle_at(position)

    def leaveEvent(self, event: QEvent) -> None:
        """Nothing is under the mouse."""
        self._hover = None
        super().leaveEvent(event)

    def clicked(self, position: QPointF) -> None:
        """Select the tensor."""
        found = self.rectangle_at(position)
        self.session.select(TensorRef(found) if found is not None else None)

    def scroll_by(self, pixels: float) -> bool:
        """Move the addresses; false when all of them are visible."""
        if self.high - self.low >= self.full_height:
            return False
        distance = -pixels * self.bytes_per_px
        self.show_addresses(self.low + distance, self.high + distance)
        return True

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Alt: zoom the addresses at the mouse."""
        delta = event.angleDelta().x() or event.angleDelta().y()
        if event.modifiers() & Qt.KeyboardModifier.AltModifier:
            factor = 1.25 ** (-delta / 120)
            at = self.address_at(event.position().y())
            self.show_addresses(at - (at - self.low) * factor, at + (self.high - at) * factor)
            event.accept()
            return
        super().wheelEvent(event)
