"""The slider of how much HBM a plan may use: from a part of what it needs up to no limit."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QLineEdit, QSlider, QWidget

from memplan.core.errors import InputError
from memplan.core.units import format_bytes, format_share, parse_bytes
from memplan.gui.i18n import tr
from memplan.gui.model.planning.plan_answer import hbm_stops


class HbmSlider(QWidget):
    """
    A slider with stops that follow from what is needed, and a field for any other size; `changed` follows each change.

    `value` is bytes, or `None` for no limit but the chip's.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._need: int | None = None
        self._stops: Sequence[int | None] = (None,)
        self._typed: int | None = None
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.field = QLineEdit(self)
        self.field.setPlaceholderText(tr("no limit"))
        self.field.setMaximumWidth(90)
        self.share = QLabel(self)
        for part in (self.slider, self.field):
            part.setAccessibleName(tr("HBM to plan with"))
        rows = QGridLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setVerticalSpacing(0)
        rows.addWidget(self.slider, 0, 0)
        rows.addWidget(self.field, 0, 1)
        rows.addWidget(self.share, 1, 0, 1, 2)
        rows.setColumnStretch(0, 1)
        self.setFocusProxy(self.slider)
        self.slider.setRange(0, 0)
        self.slider.setEnabled(False)
        self.slider.valueChanged.connect(self._slid)
        self.field.editingFinished.connect(self._entered)
        self._show()

    @property
    def value(self) -> int | None:
        """Bytes of HBM to plan with."""
        return self._typed if self._typed is not None else self._stops[self.slider.value()]

    def set_need(self, need: int | None) -> None:
        """Stops for a plan that needs so many bytes without a limit; without it there is nothing to slide over."""
        if need == self._need:
            return
        self._need, self._typed = need, None
        self._stops = hbm_stops(need) if need else (None,)
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, len(self._stops) - 1)
            self.slider.setValue(len(self._stops) - 1)
        self.slider.setEnabled(bool(need))
        self._show()

    def show_value(self, size: int | None) -> None:
        """Show `size` without telling of a change."""
        limits = [stop for stop in self._stops if stop is not None]
        self._typed = size if size not in self._stops else None
        with QSignalBlocker(self.slider):
            self.slider.setValue(len(limits) if size is None else min(bisect.bisect_left(limits, size), len(limits)))
        self._show()

    def _slid(self) -> None:
        self._typed = None
        self._show()
        self.changed.emit()

    def _entered(self) -> None:
        """Take the size in the field; one that is none is taken back."""
        text = self.field.text().strip()
        try:
            size = parse_bytes(text) if text else None
        except InputError:
            self._show()
            return
        if size == self.value or size == 0:
            self._show()
            return
        self.show_value(size)
        self.changed.emit()

    def _show(self) -> None:
        size = self.value
        self.field.setText(format_bytes(size) if size is not None else "")
        self.share.setText(
            tr("{} of the need").format(format_share(size / self._need, 0)) if size is not None and self._need else ""
        )
