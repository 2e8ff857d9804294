"""What the colours of the timeline mean, at its foot."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QFont, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.palette import Palette
from memplan.gui.theme import qt_colour

_LINE_PX, _FURTHER_PX, _LINES = 24, 18, 3
_SWATCH_PX, _GAP_PX, _EDGE_PX = 10, 16, 8


class FamilyLegend(QWidget):
    """A swatch and a name for each family of slices, and with `compared` for what a run took beyond its plan."""

    def __init__(self, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.compared = False
        self._font = QFont(self.font())
        self._font.setPixelSize(11)
        self._metrics = QFontMetricsF(self._font)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # stays as it is where what is under it changes

    def show_palette(self, palette: Palette, *, compared: bool) -> None:
        """Draw with other colours, of a document that is compared with a plan or of one that is not."""
        self.colours, self.compared = palette, compared
        self.update()

    def entries(self) -> list[tuple[str, tuple[QBrush, ...]]]:
        """The names in the window's language, each with its swatches; as many as a few lines hold."""
        return [entry for line in self.lines(self.width()) for entry in line]

    def height_for(self, width: int) -> int:
        """Pixels that `width` pixels of legend take: one line, or more where that does not hold all names."""
        return _LINE_PX + _FURTHER_PX * (len(self.lines(width)) - 1)

    def lines(self, width: int) -> list[list[tuple[str, tuple[QBrush, ...]]]]:
        """The same line by line, where the legend is `width` pixels wide; at least one line, which may be empty."""
        lines: list[list[tuple[str, tuple[QBrush, ...]]]] = [[]]
        left = float(_EDGE_PX)
        for name, brushes in self._families():
            wide = self._wide(name, brushes)
            if left + wide > width and lines[-1]:
                lines.append([])
                left = float(_EDGE_PX)
            if left + wide > width or len(lines) > _LINES:
                break
            lines[-1].append((name, brushes))
            left += wide + _GAP_PX
        return [line for line in lines[:_LINES] if line] or [[]]

    def _families(self) -> list[tuple[str, tuple[QBrush, ...]]]:
        """Every name with its swatches."""
        palette, solid = self.colours, Qt.BrushStyle.SolidPattern
        families = [
            (tr("matrix products"), (palette.colours[0],)),
            (tr("other computing"), palette.others),
            (tr("communication"), (palette.role("part_transfer"),)),
            (tr("copies"), (palette.role("part_copy"),)),
            (tr("waiting"), (palette.role("part_wait"),)),
        ]
        found = [(name, tuple(QBrush(qt_colour(one), solid) for one in colours)) for name, colours in families]
        if self.compared:  # first: what is compared matters most where there is no room for all
            hatch = QBrush(qt_colour(palette.role("excess")), Qt.BrushStyle.BDiagPattern)
            found[:0] = [
                (tr("longer than planned"), (hatch,)),
                (tr("saved"), (QBrush(Qt.BrushStyle.NoBrush),)),
            ]
        return found

    def _wide(self, name: str, brushes: tuple[QBrush, ...]) -> float:
        return _SWATCH_PX * len(brushes) + 5 + self._metrics.horizontalAdvance(name)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Swatches and names from the left."""
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(qt_colour(self.colours.role("window")))
        painter.drawRect(self.rect())
        painter.setPen(qt_colour(self.colours.role("line")))
        painter.drawLine(0, 0, self.width(), 0)
        painter.setFont(self._font)
        for place, line in enumerate(self.lines(self.width())):
            self._paint_line(painter, line, float(place * _FURTHER_PX))
        painter.end()

    def _paint_line(self, painter: QPainter, line: list[tuple[str, tuple[QBrush, ...]]], above: float) -> None:
        left, top = float(_EDGE_PX), above + (_LINE_PX - _SWATCH_PX) / 2 + 0.5
        for name, brushes in line:
            for place, brush in enumerate(brushes):
                outlined = brush.style() is not Qt.BrushStyle.SolidPattern
                outline = QPen(
                    qt_colour(self.colours.role("planned" if brush.style() is Qt.BrushStyle.NoBrush else "excess"))
                )
                painter.setPen(outline if outlined else Qt.PenStyle.NoPen)
                painter.setBrush(brush)
                painter.drawRect(QRectF(left + place * _SWATCH_PX, top, _SWATCH_PX, _SWATCH_PX))
            painter.setPen(qt_colour(self.colours.role("faint")))
            at = left + _SWATCH_PX * len(brushes) + 5
            baseline = above + (_LINE_PX + self._metrics.ascent() - self._metrics.descent()) / 2
            painter.drawText(QPointF(at, baseline), name)
            left += self._wide(name, brushes) + _GAP_PX
