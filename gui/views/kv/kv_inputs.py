"""Widgets to set a number with: sliders with stops, fields that double; the wheel is left to scrolling."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

from PySide6.QtCore import QEvent, QObject, QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QWidget,
)

from memplan.gui.i18n import tr
from memplan.gui.model.kv.kv_offer import doubled

RANKS = (
    ("tp", "TP", "Ranks of tensor parallelism"),
    ("pp", "PP", "Ranks of pipeline parallelism"),
    ("dp", "DP", "Ranks of data parallelism"),
    ("ep", "EP", "Ranks that share the experts; 1 splits each expert by TP"),
    ("cp", "CP", "Ranks of context parallelism"),
)
BALANCED_EXPERTS = (
    "Balanced experts",
    "Somebody balances the experts, so that no rank is waited for: times go by it, memory doesn't",
)
"""What the box of `even_routing` is called and what it is, wherever a served step is asked for."""


class WheelGuard(QObject):
    """Keeps the wheel from changing what is only scrolled past: it works where the keyboard's focus is."""

    def guard(self, *widgets: QWidget) -> None:
        """Watch over `widgets`."""
        for widget in widgets:
            widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Leave the wheel to the parent where `watched` has no focus."""
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)


class DoublingSpin(QSpinBox):
    """
    A whole number that goes up and down by powers of two; any number can be typed.

    Where 0 stands for "left alone" the least number that stepping gives otherwise is `first`.
    """

    def __init__(self, low: int, high: int, parent: QWidget | None = None, first: int = 1) -> None:
        super().__init__(parent)
        self._first = first
        self.setRange(low, high)
        self.setAccelerated(True)

    def stepBy(self, steps: int) -> None:
        """Double or halve `steps` times."""
        low, value = self.minimum(), self.value()
        if low == 0 and (value == 0 or (value <= self._first and steps < 0)):
            self.setValue(self._first if steps > 0 else 0)
        else:
            self.setValue(doubled(value, steps, low=low, high=self.maximum()))


class RankGrid(QWidget):
    """A number of ranks for each dimension of a layout, its name above it; `changed` follows each change."""

    changed = Signal()

    def __init__(self, values: Mapping[str, int], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.boxes = {name: DoublingSpin(1, 1024, self) for name, _, _ in RANKS}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(3)
        grid.setVerticalSpacing(0)
        for column, (name, label, what) in enumerate(RANKS):
            text = QLabel(label, self)
            text.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            box = self.boxes[name]
            box.setToolTip(tr(what))
            box.setAccessibleName(tr(label))
            box.setMinimumWidth(30)
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            box.setValue(values.get(name, 1))
            box.valueChanged.connect(self.changed)
            grid.setColumnStretch(column, 1)
            grid.addWidget(text, 0, column)
            grid.addWidget(box, 1, column)

    def values(self) -> dict[str, int]:
        """Ranks by dimension."""
        return {name: box.value() for name, box in self.boxes.items()}


class StepSlider(QWidget):
    """A slider over given stops, and a field beside it for every number between them."""

    changed = Signal()

    def __init__(self, name: str, stops: Sequence[int], value: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.field = QSpinBox(self)
        self.field.setGroupSeparatorShown(True)
        self.field.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.field.setAlignment(Qt.AlignmentFlag.AlignRight)
        for part in (self.slider, self.field):
            part.setAccessibleName(name)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.field)
        self.setFocusProxy(self.slider)
        self._stops: list[int] = []
        self.set_stops(stops)
        self.field.setValue(value)
        self._follow_field()
        self.slider.valueChanged.connect(self._slid)
        self.field.valueChanged.connect(self._typed)

    def value(self) -> int:
        """The number that is set."""
        return self.field.value()

    def set_stops(self, stops: Sequence[int]) -> None:
        """Let the slider stop elsewhere; the number stays as far as it is within the new limits."""
        if list(stops) == self._stops:
            return
        self._stops = list(stops)
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, len(self._stops) - 1)
            self.slider.setPageStep(max(len(self._stops) // 12, 1))
        self.field.setRange(1, self._stops[-1])
        self._follow_field()

    def _follow_field(self) -> None:
        place = bisect.bisect_left(self._stops, self.field.value())
        with QSignalBlocker(self.slider):
            self.slider.setValue(place)

    def _slid(self, place: int) -> None:
        with QSignalBlocker(self.field):
            self.field.setValue(self._stops[place])
        self.changed.emit()

    def _typed(self) -> None:
        self._follow_field()
        self.changed.emit()


def fill(box: QComboBox, rows: Sequence[tuple[str, str]], chosen: str) -> None:
    """Offer `rows` of a value and its text in `box`, with `chosen` chosen, or the first where it is not offered."""
    with QSignalBlocker(box):
        if [(box.itemData(place), box.itemText(place)) for place in range(box.count())] != list(rows):
            box.clear()
            for value, text in rows:
                box.addItem(text, value)
        box.setCurrentIndex(max(box.findData(chosen), 0))
