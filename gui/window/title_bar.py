"""The title of a dock: as high as letters of any language need, with buttons that float and close it."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QDockWidget, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

from memplan.gui.i18n import tr
from memplan.gui.icons import icon
from memplan.gui.model.palette import Palette

_HEIGHT_PX, _ICON_PX = 26, 14


class TitleBar(QWidget):
    """Follows the title of `dock`, which is dragged by it."""

    def __init__(self, dock: QDockWidget, palette: Palette) -> None:
        super().__init__(dock)
        self.setFixedHeight(_HEIGHT_PX)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.name = QLabel(dock.windowTitle(), self)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.float, self.close_dock = QToolButton(self), QToolButton(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 0, 4, 0)
        row.setSpacing(0)
        row.addWidget(self.name, 1)
        for button in (self.float, self.close_dock):
            button.setAutoRaise(True)
            button.setIconSize(QSize(_ICON_PX, _ICON_PX))
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            row.addWidget(button)
        dock.windowTitleChanged.connect(self._renamed)
        self.float.clicked.connect(lambda: dock.setFloating(not dock.isFloating()))
        self.close_dock.clicked.connect(dock.close)
        self._renamed(dock.windowTitle())
        self.set_palette(palette)

    def sizeHint(self) -> QSize:
        """What a dock goes by: the layout's own height is that of the letters it has now."""
        return QSize(super().sizeHint().width(), _HEIGHT_PX)

    def minimumSizeHint(self) -> QSize:
        """The same height."""
        return QSize(super().minimumSizeHint().width(), _HEIGHT_PX)

    def _renamed(self, title: str) -> None:
        self.name.setText(title)
        self.float.setToolTip(tr("A window of its own, or back"))
        self.close_dock.setToolTip(tr("Close"))

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        line, text, band = (palette.css(name) for name in ("line", "text", "selection_band"))
        self.setStyleSheet(
            f"TitleBar {{ border-bottom: 1px solid {line}; }} QLabel {{ color: {text}; }}"
            "QToolButton { border: none; border-radius: 4px; padding: 2px; }"
            f"QToolButton:hover {{ background: {band}; }}"
        )
        for button, name in ((self.float, "float"), (self.close_dock, "close")):
            button.setIcon(icon(name, palette.css("faint")))
