"""The bar of the commands that are used most."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QToolBar, QToolButton, QWidget

from memplan.gui.commands import Commands
from memplan.gui.i18n import tr

_ICON_PX = 16
TOOLS: Sequence[tuple[str, str] | None] = (
    ("open-file", "Open plan"), ("open-folder", "Open profile"), None, ("back", ""), ("show-all", ""),
    ("find", "Find"), None, ("peak", "Memory peak"), ("costliest", "Costliest difference"), None,
    ("report", "Report"), ("export-plan", "Export plan"), ("save-place", ""), ("commands", ""),
)  # fmt: skip
"""The commands in the tool bar with their short names, of which some need none; `None` is a gap."""


class ToolBar(QToolBar):
    """A bar at the upper edge with the commands of `TOOLS`, made once and filled again in each language."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("tools")
        self.setMovable(False)
        self.setIconSize(QSize(_ICON_PX + 4, _ICON_PX))

    def show_commands(self, commands: Commands) -> None:
        """Fill it with buttons of `commands`."""
        self.setWindowTitle(tr("Tools"))
        self.clear()
        for tool in TOOLS:
            if tool is None:
                self.addSeparator()
                continue
            action = commands.actions[tool[0]]
            if tool[1]:
                action.setIconText(tr(tool[1]))
            self.addAction(action)
            button = self.widgetForAction(action)
            if tool[1] and isinstance(button, QToolButton):
                button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
