"""The memory map: time x address, every planned tensor or every measured block a rectangle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QFontMetricsF, QPainter, QPen, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QWidget

from memplan.gui.i18n import say, tr
from memplan.gui.model.memory.block_map import BlockMap
from memplan.gui.model.memory.rectangles import MapRectangles
from memplan.gui.model.palette import Palette
from memplan.gui.model.ruler import byte_ticks
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.slices.counterparts import op_rectangles
from memplan.gui.model.tables.time_sheets import blocks_sheet, map_sheet
from memplan.gui.theme import qt_colour
from memplan.gui.views.fitted_text import FittedText
from memplan.gui.views.memory.layer_switch import SWITCH_PX, LayerSwitch
from memplan.gui.views.memory.map_canvas import MapCanvas
from memplan.gui.views.memory.map_layers import MeasuredLayer, PlannedLayer
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.view import MenuEntry, ViewServices
from memplan.schema import Tier

_NAME_PX = (60.0, 14.0)  # a name is written where this much of a rectangle shows
_MAX_NAMES = 300
_PLANNED_PX = (2.0, 2.0)  # what was planned is outlined where so much of a block shows
_MAX_PLANNED = 2000


def _read_at_once(session: Session) -> None:
    """Read the blocks of a session without workers."""
    session.keep_blocks(session.find_blocks())


ShowTier = Callable[[Session, Tier], object]


def tier_entries(session: Session, show_tier: ShowTier) -> list[MenuEntry | None]:
    """The tiers of the session as entries of a menu, the one that is shown with a mark."""
    entries: list[MenuEntry | None] = [
        MenuEntry(tier.value, partial(show_tier, session, tier), checked=tier is session.tier) for tier in session.tiers
    ]
    return [*entries, None]


class MemoryMapView(MapCanvas):
    """
    The session's map: of the plan, or of the run's blocks with what was planned outlined and what was held longer
    hatched. A click selects a tensor or block; `read_blocks` has the run's blocks read.
    """

    by_loops = True

    def __init__(
        self,
        session: Session,
        palette: Palette,
        parent: QWidget | None = None,
        show_tier: ShowTier = Session.show_tier,
        read_blocks: Callable[[Session], object] | None = None,
    ) -> None:
        super().__init__(PlannedLayer(session), session, palette, parent)
        self._show_tier = show_tier
        self._read_blocks = read_blocks or _read_at_once
        self.switch = LayerSwitch(self.show_layer, palette, self)
        self._hover: int | None = None
        self._tinted: list[int] = []
        self._fitted = FittedText(QFontMetricsF(self.small_font))
        self.session_changed()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        loader = services.loader
        return cls(services.session, services.palette, services.parent, loader.show_tier, loader.blocks)

    def menu_entries(self) -> Sequence[MenuEntry | None]:
        """Plan or run, and the tiers to choose from."""
        layers: list[MenuEntry | None] = [
            MenuEntry(
                button.text(), partial(self.show_layer, name), checked=button.isChecked(), enabled=self._has(name)
            )
            for name, button in self.switch.buttons.items()
        ]
        return [*layers, None, *tier_entries(self.session, self._show_tier)]

    def _has(self, name: str) -> bool:
        """Whether there is a plan, or a run."""
        document = self.session.document
        return (document.plan if name == "plan" else document.rank) is not None

    def show_layer(self, name: str) -> None:
        """Show the plan's rectangles (`plan`) or the run's blocks (`run`)."""
        self.layer = PlannedLayer(self.session) if name == "plan" else MeasuredLayer(self.session)
        self.switch.check(name)
        if name == "run":
            self._ask_blocks()
        self._tier_changed()

    def _ask_blocks(self) -> None:
        if self.isVisible() and isinstance(self.layer, MeasuredLayer) and not self.session.blocks_read:
            self._read_blocks(self.session)

    def showEvent(self, event: QShowEvent) -> None:
        """Read the blocks that are to be shown."""
        super().showEvent(event)
        self._ask_blocks()

    def session_changed(self) -> None:
        """Another session: all its addresses."""
        self._listening.append((self.session.tier_changed, self.session.tier_changed.connect(self._tier_changed)))
        self._listening.append((self.session.selected_changed, self.session.selected_changed.connect(self._tint)))
        self._listening.append((self.session.blocks_changed, self.session.blocks_changed.connect(self._tier_changed)))
        both = self._has("plan") and self._has("run")
        self.switch.show(both)
        self.show_layer("run" if self._has("run") and not self._has("plan") else "plan")

    def _tier_changed(self) -> None:
        self._hover = None
        self._tint()
        self.show_all()

    def _tint(self) -> None:
        planned = isinstance(self.layer, PlannedLayer)
        self._tinted = op_rectangles(self.session, self.session.selected) if planned else []
        self.update()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.switch.set_palette(palette)
        super().set_palette(palette)

    # -- painting ------------------------------------------------------------------------------------------------

    def paint_over(self, painter: QPainter) -> None:
        """What was planned of blocks, names with room for them, the peak, lines, and the selected one's frame."""
        mapped = self.layer.rectangles
        if mapped is None or not len(mapped):
            painter.setFont(self.text_font)
            painter.setPen(self.pen("faint"))
            flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
            painter.drawText(self.plot, flags, self.layer.empty())
            return
        if isinstance(mapped, BlockMap):
            self._paint_planned(painter, mapped)
        self._paint_names(painter, mapped)
        self._paint_levels(painter)
        x = self._peak_x()
        if x is not None:
            pen = QPen(self.pen("text"))  # one of its own: the kept one is for every solid line
            pen.setStyle(Qt.PenStyle.DashLine)
            painter.setPen(pen)
            painter.drawLine(QPointF(x, self.plot.top()), QPointF(x, self.plot.bottom()))
            self.add_tag(x + 4, self.plot.top() + 13, tr("peak"), self.pen("text"))
        if self._tinted:
            painter.setPen(self.pen("text", 1.5))
            painter.setBrush(qt_colour(self.colours.role("accent"), 90))
            for index in self._tinted:
                painter.drawRect(self.rectangle(mapped, index))
            painter.setBrush(Qt.BrushStyle.NoBrush)
        chosen = self.layer.chosen(self.session.selected)
        if chosen is not None and chosen < len(mapped):
            painter.setPen(self.pen("text", 2))
            painter.drawRect(self.rectangle(mapped, chosen))

    def _peak_x(self) -> float | None:
        """Widget column of the peak's line, over which no name must lie; `None` without a peak."""
        peak = self.layer.peak_ns
        return self.x_of(peak - self.session.origin_ns) if peak is not None else None

    def _paint_planned(self, painter: QPainter, blocks: BlockMap) -> None:
        """Around each block the life that its tensor has in the plan, and over what it was held longer a hatching."""
        found, _ = self.roomy(blocks, _PLANNED_PX)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        hatch = QBrush(qt_colour(self.colours.role("excess")), Qt.BrushStyle.BDiagPattern)
        for index in found[:_MAX_PLANNED].tolist():
            end = int(blocks.planned_end_ns[index])
            if end < 0:
                continue
            area = self.rectangle(blocks, index)
            left, right = (
                min(max(self.x_of(float(time - self.session.origin_ns)), -10.0), self.width() + 10.0)
                for time in (int(blocks.planned_start_ns[index]), end)
            )
            if area.right() - right >= 1:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(hatch)
                first = max(right, area.left())
                painter.drawRect(QRectF(first, area.top(), area.right() - first, area.height()))
                painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(self.pen("planned"))
            painter.drawRect(QRectF(left, area.top(), max(right - left, 1.0), area.height() - 1))

    def _paint_levels(self, painter: QPainter) -> None:
        """Lines with their texts at the right, beside each other where they would lie over each other."""
        right, above = self.width() - 8.0, None
        for level in self.layer.levels():
            y = self.y_of(level.address)
            width = self.small_metrics.horizontalAdvance(level.text)
            beside = above is not None and abs(y - above) < self.small_metrics.height()
            if self.plot.top() <= y <= self.plot.bottom():
                painter.setPen(self.pen(level.role))
                painter.drawLine(QPointF(GUTTER_PX, y), QPointF(self.width(), y))
                below = y - self.small_metrics.height() < self.plot.top()
                baseline = y + self.small_metrics.ascent() + 1 if below else y - 4
                self.add_tag(right - width, baseline, level.text, self.pen(level.role))
            if not beside:
                right, above = self.width() - 8.0, y
            right -= width + 16

    def _paint_names(self, painter: QPainter, mapped: MapRectangles) -> None:
        found, box = self.roomy(mapped, _NAME_PX)
        if len(found) > _MAX_NAMES:
            area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
            largest = np.argpartition(-area, _MAX_NAMES)[:_MAX_NAMES]
            found, box = found[largest], box[largest]
        painter.setFont(self.small_font)
        metrics = self.small_metrics
        bottom = self.plot.top() + self.plot.height()
        grounds = self.painted[found].tolist()
        known = {ground: qt_colour(self.colours.label_on(ground)) for ground in set(grounds)}
        line = self._peak_x()
        peak = line - GUTTER_PX if line is not None else None
        for index, ground, (left, right, low, high) in zip(found.tolist(), grounds, box.tolist(), strict=True):
            painter.setPen(known[ground])
            name = self.layer.name(index)
            text = self._fitted.text(name, right - left - 8, tail=True)
            if peak is not None and left < peak < left + 8 + metrics.horizontalAdvance(text):
                left, right = (left, peak) if peak - left > right - peak else (peak, right)
                text = self._fitted.text(name, right - left - 8, tail=True)
            y = bottom - (low + high) / 2 + metrics.ascent() / 2 - 1
            painter.drawText(QPointF(GUTTER_PX + left + 4, y), text)

    def paint_gutter(self, painter: QPainter) -> None:
        """Title, legend of kinds, and addresses."""
        painter.setFont(self.text_font)
        painter.setPen(self.pen("text"))
        title = f"{tr('Memory map')} · {self.layer.subtitle()}"
        painter.drawText(QPointF(8, self.ruler_px + 16), title)
        mapped = self.layer.rectangles
        if mapped is None or not len(mapped):
            return
        metrics = self.small_metrics
        painter.setFont(self.small_font)
        y = self.ruler_px + 36 + (SWITCH_PX if self.switch.shown else 0)
        room = GUTTER_PX - 96
        if isinstance(mapped, BlockMap):
            painter.setPen(self.pen("faint"))
            stacked = (tr("addresses not recorded:"), tr("stacked by time"))
            for line in (tr("by address, unused"), tr("ranges left out")) if mapped.addressed else stacked:
                painter.drawText(QPointF(8, y), line)
                y += metrics.height()
            y += 4
        for number, colour in enumerate(mapped.kind_colours(self.colours)):
            if y + 4 > self.height():
                break
            self.block(painter, QRectF(10, y - 9, 10, 10), colour)
            painter.setPen(self.pen("faint"))
            label = metrics.elidedText(say(self.layer.kind_title(number)), Qt.TextElideMode.ElideLeft, room)
            painter.drawText(QPointF(26, y), label)
            y += metrics.height() + 3
        for tick in byte_ticks(self.low, self.high, max(self.plot.height() // 36, 2)):
            row = self.y_of(tick.value)
            painter.setPen(self.pen("faint"))
            width = metrics.horizontalAdvance(tick.text)
            beside = self.switch.shown and abs(row - self.ruler_px - 34) < SWITCH_PX - 4
            if self.plot.top() + 8 < row < self.height() - 2 and not beside:
                painter.drawText(QPointF(GUTTER_PX - width - 8, row + 4), tick.text)
                painter.drawLine(QPointF(GUTTER_PX - 5, row), QPointF(GUTTER_PX - 1, row))

    def rule(self, ruled: bool) -> None:
        """Keep the switch under the title, wherever that is."""
        super().rule(ruled)
        self.switch.place(self.ruler_px)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the switch under the title."""
        super().resizeEvent(event)
        self.switch.place(self.ruler_px)

    def paint_top(self, painter: QPainter) -> None:
        """What lies under the mouse."""
        if self._hover is not None and self.layer.rectangles is not None:
            self.paint_hover(painter, self.lines(self._hover))

    def lines(self, index: int) -> list[str]:
        """Rectangle `index` in a few lines."""
        return self.layer.lines(index)

    def sheet(self) -> Sheet:
        """The rectangles of the selected or visible time range."""
        return blocks_sheet(self.session) if isinstance(self.layer, MeasuredLayer) else map_sheet(self.session)

    # -- input ---------------------------------------------------------------------------------------------------

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
        self.session.select(self.layer.item(found) if found is not None else None)
