"""Views as files and on the clipboard: PNG and SVG pictures, CSV tables."""

from __future__ import annotations

import atexit
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QMimeData, QPoint, QSize
from PySide6.QtGui import QGuiApplication, QImage, QImageWriter, QPainter, QPixmap, QRegion
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QWidget

from memplan.core.errors import InputError
from memplan.core.files import replacing_binary_file
from memplan.core.sentence import Sentence
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.timeline.timeline_view import TimelineView

_OURS = "application/x-memplan-view"

_LEAST_PX, _MOST_PX = 120, 12_000
_SIZE = re.compile(r"\s(?:width|height)=\"[^\"]*\"")

VIEW_FORMATS = {".png": "PNG (*.png)", ".svg": "SVG (*.svg)", ".csv": "CSV (*.csv)"}
"""What a view can be saved as, by the suffix of the file, with the text of the file dialog."""


def png(picture: QPixmap | QImage) -> bytes:
    """`picture` as a PNG file."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image = picture.toImage() if isinstance(picture, QPixmap) else picture
    QImageWriter(buffer, QByteArray(b"PNG")).write(image)
    return bytes(buffer.data().data())


@contextmanager
def _by_itself(widget: QWidget) -> Iterator[None]:
    """A view on the time axis with its ruler, also where the window's is above it."""
    if isinstance(widget, TimeCanvas) and not widget.own_ruler:
        widget.rule(True)
        yield
        widget.share_ruler(widget.window().findChildren(TimeCanvas))
    else:
        yield


def picture(widget: QWidget) -> QPixmap:
    """What `widget` shows, dot by dot."""
    with _by_itself(widget):
        return widget.grab()


def svg(widget: QWidget) -> bytes:
    """What `widget` shows as a vector picture; parts that are drawn as pixels are embedded as such."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setTitle(f"memplan: {widget.windowTitle() or widget.objectName()}".rstrip(": "))
    if isinstance(widget, TimelineView):
        widget = whole_timeline(widget)
    generator.setSize(QSize(widget.width(), widget.height()))
    generator.setViewBox(widget.rect())
    with _by_itself(widget):
        painter = QPainter(generator)
        if isinstance(widget, TimeCanvas):  # scroll bars and fields in it are no part of a picture
            widget.render(painter, QPoint(0, 0), QRegion(), QWidget.RenderFlag.DrawWindowBackground)
        else:
            widget.render(painter, QPoint(0, 0))
        painter.end()
    return bytes(buffer.data().data())


def whole_timeline(view: TimelineView) -> TimelineView:
    """A timeline like `view` that is high enough for all its tracks; those that aren't read are not read for it."""
    whole = TimelineView(view.session, view.colours, None, lambda *_: None)
    whole.forget()
    whole.resize(view.width(), view.height())  # what lies over its foot is as high as the width lets it be
    height = whole.needed_height() if whole.placed else view.height()
    whole.resize(view.width(), min(max(height, _LEAST_PX), _MOST_PX))
    return whole


def inline_svg(widget: QWidget) -> str:
    """The same as a piece of a page, as wide as there is room."""
    text = svg(widget).decode()
    drawn = text[text.index("<svg") :]
    head, rest = drawn.split(">", 1)
    head = _SIZE.sub("", head)
    return f'{head} role="img" style="width:100%;height:auto">{rest}'


def view_picture(widget: QWidget, path: Path) -> bytes | None:
    """
    `widget` in the picture format that the suffix of `path` names, `None` for a table's suffix.

    Raises `InputError` for another suffix.
    """
    suffix = path.suffix.casefold()
    if suffix not in VIEW_FORMATS:
        raise InputError(
            "this can't be saved under that name",
            path=path,
            remedy=Sentence("end it in {}", (", ".join(VIEW_FORMATS),)),
        )
    return png(picture(widget)) if suffix == ".png" else svg(widget) if suffix == ".svg" else None


def write_view(path: Path, data: bytes) -> Path:
    """Put `data` into `path`, where what was there stays until all is written; raises `InputError` if that fails."""
    with replacing_binary_file(path) as file:
        file.write(data)
    return path


def copy_view_data(image: QImage, table: str | None) -> None:
    """Put a picture on the clipboard, and a table beside it for programs that paste text."""
    data = QMimeData()
    data.setImageData(image)
    data.setData(_OURS, b"1")
    if table is not None:
        data.setText(table)
    QGuiApplication.clipboard().setMimeData(data)
    atexit.unregister(_hand_over)
    atexit.register(_hand_over)


def _hand_over() -> None:
    """
    Leave the table, or else the picture, on the clipboard of a process that ends.

    Qt asks data made in Python for what is in it, and destroys it, when there is no Python any more: that crashes.
    """
    if QGuiApplication.instance() is None:
        return
    clipboard = QGuiApplication.clipboard()
    if clipboard.mimeData().hasFormat(_OURS):
        text, image = clipboard.text(), clipboard.image()
        clipboard.setText(text) if text else clipboard.setImage(image)
