"""The planned moves as arcs between tiers over time, with what the ops wait for."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPainterPath, QPen
from PySide6.QtWidgets import QWidget

from memplan.core.bisection import crossing
from memplan.core.units import format_bytes, format_duration
from memplan.gui.i18n import say, tr
from memplan.gui.model.amount_names import kind_text
from memplan.gui.model.memory.move_arcs import MoveArcs, arcs_headline, arcs_sheet, move_arcs
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import OpRef, Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.theme import qt_colour
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.time_axis import GUTTER_PX

_BAND_PX = 16
_HEAD_PX = 22
_NEAR_PX = 6.0
_MOST_CURVES = 1500
"""More arcs than that in sight are drawn as what the link does: blocks that touch."""


class MoveArcsView(TimeCanvas):
    """
    A band for every tier that moves touch, fastest at the top, and an arc for every move from where and when it leaves
    to where and when it has arrived; below the top band what ops wait for.
    """

    def __init__(self, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(session, palette, parent)
        self.session_changed()

    def session_changed(self) -> None:
        """Another session: other moves."""
        self.arcs: MoveArcs | None = move_arcs(self.session.document)
        self.headline = say(arcs_headline(self.session.document))
        self._under: int | None = None

    # -- geometry ------------------------------------------------------------------------------------------------

    def band_y(self, tier: int) -> float:
        """The middle row of the band of a tier, by its place in the arcs' tiers."""
        top = self.plot.top() + _HEAD_PX + _BAND_PX
        bottom = self.plot.bottom() - _BAND_PX
        count = len(self.arcs.tiers) if self.arcs is not None else 2
        return top + (bottom - top) * tier / max(count - 1, 1)

    def arc_ends(self, arcs: MoveArcs, arc: int) -> tuple[QPointF, QPointF]:
        """Where one of `arcs` begins and ends in the widget."""
        origin = self.session.origin_ns
        places = []
        for time, tier, other in (
            (arcs.start_ns[arc], arcs.source[arc], arcs.target[arc]),
            (arcs.end_ns[arc], arcs.target[arc], arcs.source[arc]),
        ):
            edge = _BAND_PX / 2 if other > tier else -_BAND_PX / 2
            places.append(QPointF(self.x_of(float(time - origin)), self.band_y(int(tier)) + edge))
        return places[0], places[1]

    def arc_path(self, arcs: MoveArcs, arc: int) -> QPainterPath:
        """The curve of one of `arcs`, which leaves and arrives upright."""
        begin, end = self.arc_ends(arcs, arc)
        path = QPainterPath(begin)
        middle = (begin.y() + end.y()) / 2
        path.cubicTo(QPointF(begin.x(), middle), QPointF(end.x(), middle), end)
        return path

    def _visible(self, arcs: MoveArcs) -> list[int]:
        start, _ = self.whole_start()
        return list(map(int, arcs.between(start, start + int(np.ceil(self.session.viewport.span)) + 1)))

    def arc_at(self, position: QPointF) -> int | None:
        """The arc nearest to a point of the widget, where one is near enough."""
        arcs = self.arcs
        if arcs is None or position.x() < GUTTER_PX or len(visible := self._visible(arcs)) > _MOST_CURVES:
            return None
        best, found = _NEAR_PX, None
        for arc in visible:
            begin, end = self.arc_ends(arcs, arc)
            if not (min(begin.x(), end.x()) - _NEAR_PX <= position.x() <= max(begin.x(), end.x()) + _NEAR_PX):
                continue
            if end.y() == begin.y():
                continue
            share = min(max((position.y() - begin.y()) / (end.y() - begin.y()), 0.0), 1.0)
            at = _parameter(share)
            distance = abs(begin.x() + (end.x() - begin.x()) * (3 - 2 * at) * at * at - position.x())
            if distance < best:
                best, found = distance, arc
        return found

    # -- painting ------------------------------------------------------------------------------------------------

    def paint_over(self, painter: QPainter) -> None:
        """The headline, the bands, the arcs and the waits."""
        painter.setFont(self.text_font)
        arcs = self.arcs
        if arcs is None:
            painter.setPen(self.pen("faint"))
            painter.drawText(self.plot, int(Qt.AlignmentFlag.AlignCenter), self.headline)
            return
        plot = self.plot
        for tier in range(len(arcs.tiers)):
            band = QRectF(plot.left(), self.band_y(tier) - _BAND_PX / 2, plot.width(), _BAND_PX)
            self.block(painter, band, self.colours.role("grid"))
        self._paint_waits(painter, arcs)
        visible = self._visible(arcs)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if len(visible) <= _MOST_CURVES:
            selected = self._selected_transfer()
            for arc in visible:
                marked = arc == self._under or int(arcs.transfer[arc]) == selected
                pen = QPen(qt_colour(self._line_colour(arcs, arc)), 2.5 if marked else 1.2)
                painter.setPen(pen)
                painter.drawPath(self.arc_path(arcs, arc))
        else:
            self._paint_blocks(painter, arcs, visible)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(self.pen("text"))
        painter.drawText(QPointF(plot.left() + 8, plot.top() + 16), self.headline)

    def _selected_transfer(self) -> int | None:
        """The transfer that the selected op waits for."""
        item, plan = self.session.selected, self.session.document.plan
        if not isinstance(item, OpRef) or plan is None:
            return None
        return next((i for i, move in enumerate(plan.transfers) if move.before_step == item.op), None)

    def _line_colour(self, arcs: MoveArcs, arc: int) -> int:
        return self.colours.line(self.colours.kind(arcs.kinds[arcs.kind[arc]]))

    def _paint_blocks(self, painter: QPainter, arcs: MoveArcs, visible: list[int]) -> None:
        """Too many arcs for lines: each pixel column between two bands that a move covers, in the kind's colour."""
        painted: set[tuple[int, int, int, int]] = set()
        for arc in visible:
            begin, end = self.arc_ends(arcs, arc)
            upper, lower = sorted((int(arcs.source[arc]), int(arcs.target[arc])))
            for column in range(int(max(begin.x(), GUTTER_PX)), int(min(end.x(), self.width())) + 1):
                key = column, upper, lower, int(arcs.kind[arc])
                if key in painted:
                    continue
                painted.add(key)
                painter.setPen(QPen(qt_colour(self._line_colour(arcs, arc), 110)))
                painter.drawLine(QPointF(column, begin.y()), QPointF(column, end.y()))

    def _paint_waits(self, painter: QPainter, arcs: MoveArcs) -> None:
        """What ops wait for, in the band at the top."""
        top = self.band_y(0) - _BAND_PX / 2
        origin = self.session.origin_ns
        last = -1.0
        for begin, end in zip(arcs.wait_start_ns.tolist(), arcs.wait_end_ns.tolist(), strict=True):
            left, right = self.x_of(float(begin - origin)), self.x_of(float(end - origin))
            if right < GUTTER_PX or left > self.width() or right - last < 0.5:
                continue
            left, right = max(left, float(GUTTER_PX)), min(right, float(self.width()))
            self.block(painter, QRectF(left, top, max(right - left, 1.0), _BAND_PX), self.colours.role("text"))
            last = right

    def paint_vectors(self, painter: QPainter) -> None:
        """Nothing here is pixels: all lies over the ground."""

    def paint_gutter(self, painter: QPainter) -> None:
        """The tiers, and what the colours mean."""
        painter.setFont(self.text_font)
        painter.setPen(self.pen("text"))
        painter.drawText(QPointF(8, self.ruler_px + 16), tr("Moves between tiers"))
        if self.arcs is None:
            return
        painter.setFont(self.small_font)
        metrics = self.small_metrics
        for place, tier in enumerate(self.arcs.tiers):
            text = tier.value
            x = GUTTER_PX - metrics.horizontalAdvance(text) - 8
            painter.drawText(QPointF(x, self.band_y(place) + metrics.ascent() / 2 - 1), text)
        y = self.ruler_px + 38.0
        legend = [(self.colours.line(self.colours.kind(kind)), say(kind_text(kind))) for kind in self.arcs.kinds]
        for colour, words in [*legend, (self.colours.role("text"), tr("ops wait"))]:
            if y + 4 > self.height():
                break
            self.block(painter, QRectF(10, y - 9, 10, 10), colour)
            painter.setPen(self.pen("text"))
            painter.drawText(QPointF(26, y), words)
            y += metrics.height() + 2

    def paint_top(self, painter: QPainter) -> None:
        """What moves under the mouse."""
        if self._under is not None:
            self.paint_hover(painter, self.lines(self._under))

    def lines(self, arc: int) -> list[str]:
        """An arc in words."""
        plan, arcs = self.session.document.plan, self.arcs
        if plan is None or arcs is None:
            return []
        move = plan.transfers[int(arcs.transfer[arc])]
        name = next((tensor.name for tensor in plan.tensors if tensor.index == move.tensor), "")
        lines = [
            name,
            f"{move.source.value} → {move.target.value} · {format_bytes(move.size)} · "
            f"{format_duration(move.end_ns - move.start_ns)} · {move.link}",
        ]
        if move.before_step is not None:
            lines.append(f"{tr('Needed by')} {plan.ops[move.before_step].name}")
        return lines

    # -- input ---------------------------------------------------------------------------------------------------

    def moved(self, position: QPointF) -> None:
        """Another move under the mouse."""
        self._under = self.arc_at(position)

    def clicked(self, position: QPointF) -> None:
        """Select the op that waits for the move."""
        arc = self.arc_at(position)
        plan = self.session.document.plan
        if arc is None or self.arcs is None or plan is None:
            return
        step = plan.transfers[int(self.arcs.transfer[arc])].before_step
        self.session.select(None if step is None else OpRef(step))

    def sheet(self) -> Sheet:
        """What ops wait for."""
        return arcs_sheet(self.session.document)


def _parameter(share: float) -> float:
    """The parameter of an arc at which it has gone `share` of its way from band to band."""
    return crossing(lambda middle: 1.5 * middle - 1.5 * middle**2 + middle**3 >= share, 0.0, 1.0, within=1e-6)
