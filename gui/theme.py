"""Qt's own widgets in the colours of a theme."""

from __future__ import annotations

from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory

from memplan.gui.model.palette import Palette

_STYLE = "fusion"


def apply_theme(application: QApplication, palette: Palette) -> None:
    """Give every widget of the application the theme's colours."""
    if application.style().objectName() != _STYLE:  # to set a style polishes every widget anew
        application.setStyle(QStyleFactory.create(_STYLE))
    colours = QPalette()
    roles = {
        QPalette.ColorRole.Window: "window",
        QPalette.ColorRole.WindowText: "text",
        QPalette.ColorRole.Base: "base",
        QPalette.ColorRole.AlternateBase: "band",
        QPalette.ColorRole.Text: "text",
        QPalette.ColorRole.Button: "window",
        QPalette.ColorRole.ButtonText: "text",
        QPalette.ColorRole.ToolTipBase: "window",
        QPalette.ColorRole.ToolTipText: "text",
        QPalette.ColorRole.Highlight: "accent",
        QPalette.ColorRole.HighlightedText: "accent_text",
        QPalette.ColorRole.Link: "accent",
        QPalette.ColorRole.PlaceholderText: "faint",
        QPalette.ColorRole.Mid: "line",
        QPalette.ColorRole.Light: "base",
        QPalette.ColorRole.Dark: "line",
    }
    for role, name in roles.items():
        colours.setColor(role, QColor(palette.css(name)))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText, QPalette.ColorRole.WindowText):
        colours.setColor(QPalette.ColorGroup.Disabled, role, QColor(palette.css("faint")))
    application.setPalette(colours)
