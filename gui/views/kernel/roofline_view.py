"""The roofline: every op of the plan as a point under the chip's ceilings, the selected one marked."""

from __future__ import annotations

import html

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QPen
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from memplan.gui.i18n import say, tr
from memplan.gui.model.kernel.roofline_points import Roofline, plan_roofline
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import OpRef, Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.theme import qt_colour
from memplan.gui.views.view import ViewServices

_NAME_STEP = 1.1  # decades between the names of ceilings, so that near ones don't lie over each other

_ROOM = 1.5  # decades above the highest ceiling and below the lowest point, so that no name is cut
_LEGEND_PX = 8
_ABOVE_LINES = 10
"""Names lie in the line that they name, over those of other roofs and never under them."""


class RooflineView(QWidget):
    """Predicted points by what bounds them, measured ones as crosses; a click on a point selects its op."""

    def __init__(self, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.colours = palette
        self.plot = pg.PlotWidget(self)
        self.plot.setLogMode(x=True, y=True)
        self.plot.showGrid(x=True, y=True, alpha=0.2)
        self.plot.setMenuEnabled(False)
        for side in ("bottom", "left"):
            axis = self.plot.getAxis(side)
            # Once only: pyqtgraph takes the factor of what is shown at that moment, and keeps it.
            axis.enableAutoSIPrefix(False)
            axis.autoSIPrefixScale = 1.0
        # Not pyqtgraph's: the labels of its legend raise when a window goes with its reference cycles.
        self.legend = QLabel(self)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setWordWrap(True)
        self.legend.setContentsMargins(_LEGEND_PX, 0, _LEGEND_PX, _LEGEND_PX)
        self.hint = QLabel(self)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.hint.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.legend)
        layout.addWidget(self.hint)
        self.model: Roofline = plan_roofline(session.document)
        self.mark = pg.ScatterPlotItem(size=16, symbol="o", brush=None)
        self._listener = session.selected_changed.connect(self.show_selected)
        self.draw()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services.session, services.palette, services.parent)

    def show_session(self, session: Session) -> None:
        """Show the ops of another session."""
        self.forget()
        self.session = session
        self._listener = session.selected_changed.connect(self.show_selected)
        self.model = plan_roofline(session.document)
        self.draw()

    def forget(self) -> None:
        """Stop listening to the session."""
        self.session.selected_changed.disconnect(self._listener)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self.draw()

    def draw(self) -> None:
        """Draw everything anew."""
        self.plot.clear()
        faint = self.colours.css("faint")
        self.plot.setBackground(self.colours.css("ground"))
        self.legend.setStyleSheet(f"background:{self.colours.css('ground')}")
        for side, label in (("bottom", tr("FLOP per byte of GM traffic")), ("left", tr("FLOP per second"))):
            axis = self.plot.getAxis(side)
            axis.setPen(faint)
            axis.setTextPen(faint)
            axis.setLabel(label)
        model = self.model
        self.plot.setVisible(bool(len(model)))
        self.legend.setVisible(bool(len(model)))
        self.hint.setVisible(not len(model))
        if len(model):
            self._ceilings(model)
            self.legend.setText(self._points(model))
        elif self.session.document.plan is None:
            self.hint.setText(tr("No plan is open: the roofline needs one"))
        else:
            self.hint.setText(tr("No op of the plan computes anything"))
        self.plot.addItem(self.mark)
        self.show_selected()

    def _ceilings(self, model: Roofline) -> None:
        low, high = float(model.intensity.min()) / 3, float(model.intensity.max()) * 3
        top = max((ceiling.flops_per_second for ceiling in model.ceilings), default=0.0)
        if model.bytes_per_second is not None and top:
            high = max(high, top / model.bytes_per_second * 3)
            knee = top / model.bytes_per_second
            pen = self._pen("text", 1.5)
            self.plot.plot([low, knee], [low * model.bytes_per_second, top], pen=pen, antialias=True)
            name = pg.TextItem(say(model.memory), color=self.colours.css("text"), anchor=(1, 1))
            name.setPos(*model.clear_place(low, knee))
            self.plot.addItem(name)
        if top:
            lowest = float(np.nanmin([model.predicted, model.measured]))
            self.plot.setYRange(np.log10(lowest) - _ROOM, np.log10(top) + _ROOM, padding=0)
        else:
            self.plot.enableAutoRange()
        for number, ceiling in enumerate(model.ceilings):
            pen = self._pen("faint", style=Qt.PenStyle.DashLine)
            self.plot.plot([low, high], [ceiling.flops_per_second] * 2, pen=pen)
            name = pg.TextItem(
                ceiling.name, color=self.colours.css("faint"), anchor=(0, 0.5), fill=self.colours.css("ground")
            )
            name.setZValue(_ABOVE_LINES)
            name.setPos(np.log10(low) + number * _NAME_STEP, np.log10(ceiling.flops_per_second))
            self.plot.addItem(name)

    def _pen(self, role: str, width: float = 1.0, style: Qt.PenStyle = Qt.PenStyle.SolidLine) -> QPen:
        """`width` in the window's pixels: pyqtgraph's pens count those of the screen, hairlines on a dense one."""
        return QPen(pg.mkPen(self.colours.css(role), width=width * self.devicePixelRatioF(), style=style))

    def _points(self, model: Roofline) -> str:
        """Draw the ops, and say in rich text which marks mean what."""
        names: list[str] = []
        for number, bound in enumerate(sorted(set(model.bound))):
            rows = np.flatnonzero(np.array(model.bound) == bound)
            colour = self.colours.line(self.colours.colours[number % len(self.colours.colours)])
            points = pg.ScatterPlotItem(
                x=np.log10(model.intensity[rows]),
                y=np.log10(model.predicted[rows]),
                data=model.op[rows],
                size=7,
                pen=None,
                brush=pg.mkBrush(qt_colour(colour)),
            )
            names.append(_legend_entry("●", f"#{colour & 0xFFFFFF:06x}", f"{tr('predicted')}, {tr(bound)}"))
            points.sigClicked.connect(self._clicked)
            self.plot.addItem(points)
        seen = np.flatnonzero(np.isfinite(model.measured))
        if len(seen):
            crosses = pg.ScatterPlotItem(
                x=np.log10(model.intensity[seen]),
                y=np.log10(model.measured[seen]),
                data=model.op[seen],
                size=6,
                symbol="x",
                pen=self._pen("measured"),
                brush=None,
            )
            names.append(_legend_entry("×", self.colours.css("measured"), tr("measured")))
            crosses.sigClicked.connect(self._clicked)
            self.plot.addItem(crosses)
        return "&emsp;&emsp; ".join(names)

    def _clicked(self, _: object, points: list[pg.SpotItem], *rest: object) -> None:
        if len(points):
            self.session.select(OpRef(int(points[0].data())))
            self.session.reveal_selected()

    def sheet(self) -> Sheet:
        """One row an op; what was not measured is empty."""
        model = self.model
        measured = [None if np.isnan(value) else float(value) for value in model.measured]
        rows = zip(
            model.op.tolist(), model.bound, model.intensity.tolist(), model.predicted.tolist(), measured, strict=True
        )
        header = ("op", "bound", "flop_per_byte", "predicted_flops_per_second", "measured_flops_per_second")
        return Sheet(header, list(rows))

    def show_selected(self) -> None:
        """Mark the op behind the selected item."""
        op = self.session.planned_op_of(self.session.selected)
        rows = np.flatnonzero(self.model.op == op) if op is not None else np.zeros(0, dtype=np.int64)
        self.mark.setPen(self._pen("text", 2))
        self.mark.setData(x=np.log10(self.model.intensity[rows]), y=np.log10(self.model.predicted[rows]))


def _legend_entry(mark: str, colour: str, name: str) -> str:
    """One mark and what it means, never broken between them."""
    return f'<span style="color:{colour}">{mark}</span>&nbsp;{html.escape(name, quote=False).replace(" ", "&nbsp;")}'
