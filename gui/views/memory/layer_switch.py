"""The buttons at the left of the memory map that choose between plan and run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton, QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.palette import Palette
from memplan.gui.views.time_axis import GUTTER_PX

SWITCH_PX = 26
"""Height of the row of buttons."""
_LEFT_PX, _BELOW_RULER_PX = 8, 22


class LayerSwitch:
    """Two buttons on `view`, `plan` and `run`, of which one is checked; a click asks to `choose` that layer."""

    def __init__(self, choose: Callable[[str], object], palette: Palette, view: QWidget) -> None:
        self.buttons = {"plan": QPushButton(tr("Planned"), view), "run": QPushButton(tr("Measured"), view)}
        for name, button in self.buttons.items():
            button.setCheckable(True)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.clicked.connect(partial(choose, name))
        self.set_palette(palette)

    @property
    def shown(self) -> bool:
        """Whether there is something to choose between."""
        return not self.buttons["plan"].isHidden()

    def show(self, shown: bool) -> None:
        """Show the buttons, or hide them."""
        for button in self.buttons.values():
            button.setVisible(shown)

    def check(self, name: str) -> None:
        """Mark the layer that is shown."""
        for other, button in self.buttons.items():
            button.setChecked(other == name)

    def set_palette(self, palette: Palette) -> None:
        """What is shown stands out in every theme."""
        line, accent, text, ground = (palette.css(role) for role in ("line", "accent", "accent_text", "window"))
        style = (
            f"QPushButton {{ border: 1px solid {line}; background: {ground}; padding: 0 6px; }}"
            f"QPushButton:checked {{ background: {accent}; color: {text}; border-color: {accent}; }}"
            f"QPushButton:focus {{ border-color: {accent}; }}"
        )
        for button in self.buttons.values():
            button.setStyleSheet(style)

    def place(self, ruler_px: int) -> None:
        """Put the buttons beside each other under the title, which is below a ruler of that height."""
        x = _LEFT_PX
        for button in self.buttons.values():
            width = min(button.sizeHint().width() + 8, (GUTTER_PX - 2 * _LEFT_PX) // 2)
            button.setGeometry(x, ruler_px + _BELOW_RULER_PX, width, SWITCH_PX - 4)
            x += width
