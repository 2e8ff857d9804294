"""Small icons drawn in the theme's colours: Qt's own are black whatever lies behind them."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QPolygonF
from PySide6.QtWidgets import QAbstractButton, QDockWidget

_PX = 16
_DENSITY = 4  # sharp on any screen


def arrow(colour: str) -> QIcon:
    """A triangle that points at what follows."""
    return _drawn(colour, [[(5, 3), (11, 8), (5, 13)]], filled=True)


def colour_title_buttons(dock: QDockWidget, colour: str) -> None:
    """Give the buttons in the title of `dock` that colour."""
    lines = {
        "qt_dockwidget_closebutton": [[(4, 4), (12, 12)], [(12, 4), (4, 12)]],
        "qt_dockwidget_floatbutton": [
            [(3, 6), (10, 6), (10, 13), (3, 13), (3, 6)], [(6, 6), (6, 3), (13, 3), (13, 10), (10, 10)]
        ],
    }  # fmt: skip
    for name, drawn in lines.items():
        button = dock.findChild(QAbstractButton, name)
        if isinstance(button, QAbstractButton):
            button.setIcon(_drawn(colour, drawn))


def _drawn(colour: str, lines: Sequence[Sequence[tuple[float, float]]], *, filled: bool = False) -> QIcon:
    """`lines` through points on a square of 16 pixels, or the areas in them."""
    picture = QPixmap(_PX * _DENSITY, _PX * _DENSITY)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setWindow(QRectF(0, 0, _PX, _PX).toRect())
    pen = QPen(QColor(colour))
    pen.setWidthF(1.2)
    painter.setPen(Qt.PenStyle.NoPen if filled else pen)
    if filled:
        painter.setBrush(QColor(colour))
    for points in lines:
        shape = QPolygonF([QPointF(x, y) for x, y in points])
        if filled:
            painter.drawPolygon(shape)
        else:
            painter.drawPolyline(shape)
    painter.end()
    return QIcon(picture)


_PAGE_LINES: dict[str, list[list[tuple[float, float]]]] = {
    "overview": [[(2, 13), (14, 13)], [(4, 13), (4, 8)], [(8, 13), (8, 3)], [(12, 13), (12, 6)]],
    "timeline": [[(2, 4), (9, 4)], [(5, 8), (14, 8)], [(3, 12), (7, 12)], [(10, 12), (13, 12)]],
    "memory": [
        [(3, 3), (13, 3), (13, 13), (3, 13), (3, 3)], [(3, 9), (8, 9)], [(8, 3), (8, 13)], [(8, 6), (13, 6)],
    ],
    "plan": [
        [(2, 4), (11, 4), (11, 7), (2, 7), (2, 4)], [(2, 9), (14, 9), (14, 12), (2, 12), (2, 9)], [(11, 9), (11, 12)],
    ],
    "kernels": [
        [(4, 4), (12, 4), (12, 12), (4, 12), (4, 4)], [(6, 2), (6, 4)], [(10, 2), (10, 4)], [(6, 12), (6, 14)],
        [(10, 12), (10, 14)], [(2, 6), (4, 6)], [(2, 10), (4, 10)], [(12, 6), (14, 6)], [(12, 10), (14, 10)],
    ],
    "cluster": [
        [(2, 2), (6, 2), (6, 6), (2, 6), (2, 2)], [(10, 2), (14, 2), (14, 6), (10, 6), (10, 2)],
        [(2, 10), (6, 10), (6, 14), (2, 14), (2, 10)], [(10, 10), (14, 10), (14, 14), (10, 14), (10, 10)],
        [(6, 4), (10, 4)], [(4, 6), (4, 10)], [(12, 6), (12, 10)], [(6, 12), (10, 12)],
    ],
    "planning": [
        [(2, 4), (14, 4)], [(5, 2), (5, 6)], [(2, 8), (14, 8)], [(11, 6), (11, 10)], [(2, 12), (14, 12)],
        [(7, 10), (7, 14)],
    ],
    "kv": [
        [(2, 3), (14, 3), (14, 6), (2, 6), (2, 3)], [(2, 7), (14, 7), (14, 10), (2, 10), (2, 7)],
        [(2, 11), (14, 11), (14, 14), (2, 14), (2, 11)], [(6, 3), (6, 6)], [(10, 7), (10, 10)],
    ],
}  # fmt: skip


def page_icon(name: str, colour: str) -> QIcon:
    """The picture of a page on the rail."""
    return _drawn(colour, _PAGE_LINES[name])


_APP_PARTS = (
    (0.14, 0.62, 0.72, 0.22, "#0072B2"),
    (0.14, 0.40, 0.34, 0.20, "#009E73"),
    (0.50, 0.40, 0.36, 0.20, "#E69F00"),
    (0.30, 0.18, 0.30, 0.20, "#56B4E9"),
)
"""Tensors of a memory map: left, top, width and height as shares of the picture, and their colours."""


def app_icon() -> QIcon:
    """The program's own picture: a memory map on a dark tile, in the sizes that desktops ask for."""
    icon = QIcon()
    for size in (16, 24, 32, 48, 64, 128, 256):
        picture = QPixmap(size, size)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor("#1B1F27"))
        painter.drawRoundedRect(QRectF(0, 0, size, size), size * 0.18, size * 0.18)
        for left, top, width, height, colour in _APP_PARTS:
            painter.setBrush(QColor(colour))
            painter.drawRect(QRectF(left * size, top * size, width * size, height * size))
        painter.end()
        icon.addPixmap(picture)
    return icon
