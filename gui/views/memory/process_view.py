"""From the process to its tensors: areas over time of what lies where on the device, and one sentence."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainter

from memplan.gui.i18n import say, tr
from memplan.gui.model.memory.memory_curves import TierCurves
from memplan.gui.model.memory.process_stack import ProcessStack
from memplan.gui.model.memory.step_curve import StepCurve
from memplan.gui.model.palette import tinted
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.tables.time_sheets import curves_sheet
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.traces.process_memory import ProcessPart

_STRONG = 0.75


class ProcessView(CurveView):
    """The session's process memory as areas on each other, the framework's tensors at the bottom."""

    @property
    def stack(self) -> ProcessStack | None:
        """What is drawn."""
        return self.session.curves.process

    @property
    def curves(self) -> TierCurves:
        """The areas as layers, the whole as a line."""
        stack = self.stack
        if stack is None:
            return TierCurves()
        return TierCurves(layers={curve.name: curve for curve in stack.layers}, measured=(stack.process,))

    def session_changed(self) -> None:
        """Another session: nothing of it is hidden."""
        super().session_changed()
        self.hidden = set()

    def layer_colour(self, name: str) -> int:
        """Tensors strong, their allocator's rest pale, modules a colour each, what nothing names grey."""
        stack, ground = self.stack, self.colours.role("ground")
        if stack is None:
            return ground
        place = next(place for place, curve in enumerate(stack.layers) if curve.name == name)
        part = stack.parts[place]
        if part is ProcessPart.ALLOCATED:
            return tinted(self.colours.role("measured"), ground, _STRONG)
        if part is ProcessPart.CACHED:
            return tinted(self.colours.role("measured"), ground)
        if part is ProcessPart.REST:
            return self.colours.role("line")
        return tinted(self.colours.colours[place % len(self.colours.colours)], ground, _STRONG)

    def legend(self) -> list[tuple[StepCurve, int]]:
        """The whole, then the areas as they lie on each other."""
        stack = self.stack
        layers = [(curve, self.layer_colour(curve.name)) for curve in reversed(stack.layers)] if stack else []
        return [*self.all_lines(), *layers]

    def all_lines(self) -> list[tuple[StepCurve, int]]:
        """The whole."""
        stack = self.stack
        return [(stack.process, self.colours.role("text"))] if stack is not None else []

    def toggle(self, name: str) -> None:
        """Areas stand on each other: only the line may go."""
        if self.stack is not None and name == self.stack.process.name:
            super().toggle(name)

    def paint_over(self, painter: QPainter) -> None:
        """The sentence, or what is missing."""
        painter.setFont(self.text_font)
        stack = self.stack
        if stack is None:
            painter.setPen(self.pen("faint"))
            flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
            text = tr("The profile doesn't tell what the whole process holds: msprof samples it with sys_hardware_mem")
            painter.drawText(self.plot, flags, text)
            return
        room = QRectF(GUTTER_PX + 8, self.plot.top() + 4, max(self.plot.width() - 16, 1), self.plot.height())
        flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap
        text = say(stack.told)
        area = painter.boundingRect(room, int(flags), text)
        self.block(painter, area.adjusted(-4, -2, 4, 2), self.colours.role("ground"), 225)
        painter.setPen(self.pen("text"))
        painter.drawText(room, int(flags), text)

    def lines(self, time: float) -> list[str]:
        """The legend has the values."""
        return []

    def sheet(self) -> Sheet:
        """Every point of every area and of the whole."""
        stack = self.stack
        return curves_sheet([*stack.layers, stack.process] if stack is not None else [])
