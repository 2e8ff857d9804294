"""Icons of a kept set in the theme's colours, and the program's own picture."""

from __future__ import annotations

from functools import cache

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from memplan.core.resources import table

_SIZES_PX = (16, 22, 32, 44)
"""Small and large icons, on usual and on dense screens."""
_FRAME = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="{colour}" stroke-width="1.75" '
    'stroke-linecap="round" stroke-linejoin="round">{shape}</svg>'
)


def icon_names() -> tuple[str, ...]:
    """What there are icons for: commands, pages, and parts of the window."""
    return tuple(table("memplan.gui", "data/icons.json")["uses"])


@cache
def icon(name: str, colour: str) -> QIcon:
    """The icon for `name`, one of `icon_names`, in a colour such as `#1B1F24`; drawn once."""
    data = table("memplan.gui", "data/icons.json")
    shape = _FRAME.format(colour=colour, shape=data["shapes"][data["uses"][name]])
    renderer = QSvgRenderer(QByteArray(shape.encode()))
    made = QIcon()
    for size in _SIZES_PX:
        picture = QPixmap(size, size)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        renderer.render(painter, QRectF(0, 0, size, size))
        painter.end()
        made.addPixmap(picture)
    return made


_APP_PARTS = (
    (0.14, 0.62, 0.72, 0.22, "#0072B2"),
    (0.14, 0.40, 0.34, 0.20, "#009E73"),
    (0.50, 0.40, 0.36, 0.20, "#E69F00"),
    (0.30, 0.18, 0.30, 0.20, "#56B4E9"),
)
"""Tensors of a memory map: left, top, width and height as shares of the picture, and their colours."""


def app_icon() -> QIcon:
    """The program's own picture: a memory map on a dark tile, in the sizes that desktops ask for."""
    made = QIcon()
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
        made.addPixmap(picture)
    return made
