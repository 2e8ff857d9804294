"""A picture of time x address: the rectangles of a layer, and the way about in their addresses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QWheelEvent
from PySide6.QtWidgets import QWidget

from memplan.core.arrays import Int64s
from memplan.gui.model.memory.rectangles import MapRectangles
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.memory.map_layers import MapLayer
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.vector_shapes import draw_boxes


class MapCanvas(TimeCanvas):
    """
    Columns are moments, rows are addresses, of which Alt and the wheel zoom those at the mouse.

    `low` and `high` are the visible addresses, `layer` is what is shown, `painted` the colours of its rectangles.
    """

    def __init__(self, layer: MapLayer, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(session, palette, parent)
        self.layer = layer
        self.low, self.high = 0.0, 1.0
        self.painted: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)

    # -- addresses -----------------------------------------------------------------------------------------------

    @property
    def full_height(self) -> float:
        """Bytes that the whole view shows: the highest address used, with a little room above."""
        mapped = self.layer.rectangles
        return max(mapped.top * 1.12, 1.0) if mapped is not None else 1.0

    def show_addresses(self, low: float, high: float) -> None:
        """Show the addresses `[low, high)` as far as there are any."""
        span = min(max(high - low, 64.0), self.full_height)
        self.low = min(max(low, 0.0), self.full_height - span)
        self.high = self.low + span
        self.refresh()

    def show_all(self) -> None:
        """Show all addresses of the layer, as it is now."""
        mapped = self.layer.rectangles
        self.painted = mapped.colours(self.colours) if mapped is not None else np.zeros(0, dtype=np.uint32)
        self.show_addresses(0.0, self.full_height)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        if self.layer.rectangles is not None:
            self.painted = self.layer.rectangles.colours(palette)
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

    def rectangle(self, mapped: MapRectangles, index: int) -> QRectF:
        """Where rectangle `index` of `mapped` is painted."""
        left = max(self.x_of(float(mapped.start_ns[index] - self.session.origin_ns)), -10.0)
        right = min(self.x_of(float(mapped.end_ns[index] - self.session.origin_ns)), self.width() + 10.0)
        top, bottom = self.y_of(float(mapped.high[index])), self.y_of(float(mapped.low[index]))
        top, bottom = max(top, -10.0), min(bottom, self.height() + 10.0)
        return QRectF(left, top, max(right - left, 2.0), max(bottom - top, 2.0))

    def rectangle_at(self, position: QPointF) -> int | None:
        """The rectangle under `position`."""
        mapped = self.layer.rectangles
        if mapped is None or position.x() < GUTTER_PX or position.y() < self.plot.top():
            return None
        time = self.session.origin_ns + int(np.floor(self.time_at(position.x())))
        return mapped.at(time, int(self.address_at(position.y())))

    def roomy(self, mapped: MapRectangles, least: tuple[float, float]) -> tuple[Int64s, NDArray[np.float64]]:
        """Rectangles of which at least so many pixels (wide, tall) are visible, and the visible part of each."""
        from memplan.gui.model.raster import roomy_rectangles

        found, box = np.empty(len(mapped), dtype=np.int64), np.empty((len(mapped), 4))
        whole, fraction = self.whole_start()
        px, shape = (self.ns_per_px, self.bytes_per_px), (self.plot.width(), self.plot.height())
        count = roomy_rectangles(
            mapped.start_ns, mapped.end_ns, mapped.low, mapped.high, whole, fraction, self.low, px, shape, least,
            found, box,
        )  # fmt: skip
        return found[:count], box[:count]

    # -- painting ------------------------------------------------------------------------------------------------

    def paint_pixels(self, pixels: NDArray[np.uint32], ns_per_px: float, scale: float) -> None:
        """All rectangles."""
        mapped = self.layer.rectangles
        if mapped is None or not len(mapped):
            return
        from memplan.gui.model.raster import paint_rectangles  # compiled: slow to import, so not for an empty window

        whole, fraction = self.whole_start()
        paint_rectangles(
            pixels, mapped.start_ns, mapped.end_ns, mapped.low, mapped.high, self.painted, whole, fraction,
            ns_per_px, self.low, (self.high - self.low) / pixels.shape[0],
        )  # fmt: skip

    def paint_vectors(self, painter: QPainter) -> None:
        """Every visible rectangle as one."""
        mapped = self.layer.rectangles
        if mapped is None or not len(mapped):
            return
        found, box = self.roomy(mapped, (0.0, 0.0))
        bottom = self.plot.bottom() + 1
        left, right = GUTTER_PX + box[:, 0], GUTTER_PX + box[:, 1]
        draw_boxes(painter, left, right, bottom - box[:, 3], bottom - box[:, 2], self.painted[found])

    # -- input ---------------------------------------------------------------------------------------------------

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
