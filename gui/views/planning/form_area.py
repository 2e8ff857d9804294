"""A form that takes the height it needs, and scrolls where there is less."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QSize
from PySide6.QtWidgets import QScrollArea, QSizePolicy, QWidget

_LEAST_PX = 120


class FormArea(QScrollArea):
    """As high as the form in it, whose rows come and go."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def sizeHint(self) -> QSize:
        """The form's."""
        form = self.widget()
        return form.sizeHint() + QSize(0, 2) if form is not None else super().sizeHint()

    def minimumSizeHint(self) -> QSize:
        """A few rows."""
        return QSize(0, min(self.sizeHint().height(), _LEAST_PX))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take another height when the form has other rows."""
        if watched is self.widget() and event.type() is QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)
