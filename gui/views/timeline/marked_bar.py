"""A vertical scroll bar with marks where something is to be seen, and out of sight while everything fits."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QScrollBar, QWidget

_MARK_PX = 3


class MarkedBar(QScrollBar):
    """
    Lies over the edge of what it scrolls; `marks` are heights of the whole, from 0 at its top to 1 at its foot.

    It is painted with every frame of what it lies on, so that its handle, at rest, is kept as a picture.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(Qt.Orientation.Vertical, parent)
        self.marks: tuple[float, ...] = ()
        self._colour = QColor()
        self._rest: tuple[tuple[object, ...], QImage] | None = None
        self.rangeChanged.connect(lambda _, highest: self.setVisible(highest > 0))
        self.hide()

    def show_marks(self, marks: Sequence[float], colour: QColor) -> None:
        """Show other marks."""
        self.marks, self._colour = tuple(marks), colour
        self.update()

    def changeEvent(self, event: QEvent) -> None:
        """Draw the handle anew in another style."""
        self._rest = None
        super().changeEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """The handle, and the marks over it."""
        # As a picture it would blur where it is moved by a part of a pixel.
        at_rest = not self.underMouse() and not self.isSliderDown() and self.devicePixelRatioF().is_integer()
        if not at_rest:
            super().paintEvent(event)
        painter = QPainter(self)
        if at_rest:
            painter.drawImage(0, 0, self._at_rest())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._colour)
        for mark in self.marks:
            painter.drawRect(QRectF(2, mark * (self.height() - _MARK_PX), self.width() - 4, _MARK_PX))
        painter.end()

    def _at_rest(self) -> QImage:
        """The bar as it is without the mouse, drawn anew where its handle is elsewhere."""
        from PySide6.QtWidgets import QStyle, QStyleOptionSlider  # a style has hundreds of names to be read

        option = QStyleOptionSlider()
        self.initStyleOption(option)
        option.subControls = QStyle.SubControl.SC_All
        option.activeSubControls = QStyle.SubControl.SC_None
        scale = self.devicePixelRatioF()
        reach = self.minimum(), self.maximum(), self.pageStep(), self.sliderPosition()
        drawn = (*reach, self.size().toTuple(), scale, option.state)
        if self._rest is None or self._rest[0] != drawn:
            image = QImage(self.size() * scale, QImage.Format.Format_ARGB32_Premultiplied)
            image.setDevicePixelRatio(scale)
            image.fill(Qt.GlobalColor.transparent)
            painter = QPainter(image)
            self.style().drawComplexControl(QStyle.ComplexControl.CC_ScrollBar, option, painter, self)
            painter.end()
            self._rest = drawn, image
        return self._rest[1]
