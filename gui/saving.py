"""Views as files and on the clipboard: PNG and SVG pictures, CSV tables."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QBuffer, QIODevice, QMimeData, QPoint, QSize
from PySide6.QtGui import QGuiApplication, QPainter
from PySide6.QtWidgets import QWidget

from memplan.errors import InputError
from memplan.files import replacing_binary_file
from memplan.gui.model.sheet import Sheet

FORMATS = {".png": "PNG (*.png)", ".svg": "SVG (*.svg)", ".csv": "CSV (*.csv)"}
"""What a view can be saved as, by the suffix of the file, with the text of the file dialog."""


def png(widget: QWidget) -> bytes:
    """What `widget` shows, at the resolution of its screen."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    widget.grab().save(buffer, "PNG")
    return bytes(buffer.data().data())


def svg(widget: QWidget) -> bytes:
    """What `widget` shows as a vector picture; parts that are drawn as pixels are embedded as such."""
    from PySide6.QtSvg import QSvgGenerator  # not needed before something is saved

    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(QSize(widget.width(), widget.height()))
    generator.setViewBox(widget.rect())
    generator.setTitle(f"memplan: {widget.windowTitle() or widget.objectName()}".rstrip(": "))
    painter = QPainter(generator)
    widget.render(painter, QPoint(0, 0))
    painter.end()
    return bytes(buffer.data().data())


def save(widget: QWidget, sheet: Sheet | None, path: Path) -> None:
    """
    Write `widget` to `path` in the format that its suffix names; what was there stays until all is written.

    Raises `InputError` for another suffix, for CSV without a `sheet`, and for a path that can't be written.
    """
    suffix = path.suffix.casefold()
    if suffix == ".png":
        data = png(widget)
    elif suffix == ".svg":
        data = svg(widget)
    elif suffix == ".csv" and sheet is not None:
        data = sheet.text().encode()
    else:
        known = [name for name in FORMATS if name != ".csv" or sheet is not None]
        raise InputError("this can't be saved under that name", path=path, remedy=f"end it in {', '.join(known)}")
    with replacing_binary_file(path) as file:
        file.write(data)


def copy(widget: QWidget, sheet: Sheet | None) -> None:
    """Put the picture on the clipboard, and the table beside it for programs that paste text."""
    data = QMimeData()
    data.setImageData(widget.grab().toImage())
    if sheet is not None:
        data.setText(sheet.text("\t"))
    QGuiApplication.clipboard().setMimeData(data)
