"""Qt's own widgets in the colours of a theme."""

from __future__ import annotations

from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory

from memplan.gui.model.palette import Palette

_STYLE = "fusion"


def qt_colour(value: int, alpha: int = 255) -> QColor:
    """A palette's colour for Qt."""
    return QColor(value >> 16 & 255, value >> 8 & 255, value & 255, alpha)


def apply_theme(application: QApplication, palette: Palette) -> None:
    """Give every widget of the application the theme's colours; where it has them nothing is drawn anew."""
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
    sheet, shown = _flat(palette), application.palette()
    if application.styleSheet() == sheet and all(shown.color(role) == colours.color(role) for role in roles):
        return
    if not application.styleSheet():  # to set a style polishes every widget anew, as each of the two below does
        application.setStyle(QStyleFactory.create(_STYLE))
    application.setPalette(colours)
    application.setStyleSheet(sheet)


def _flat(palette: Palette) -> str:
    """Bars, heads of tables and tabs without the relief that Qt's own style gives them."""
    line, faint, text, window, base, band, accent = (
        palette.css(name) for name in ("line", "faint", "text", "window", "base", "selection_band", "accent")
    )
    red, green, blue = (palette.role("faint") >> shift & 255 for shift in (16, 8, 0))
    handle = f"rgba({red}, {green}, {blue}, 90)"
    return f"""
        QToolBar#tools {{ background: {window}; border: none; border-bottom: 1px solid {line}; padding: 3px 6px;
            spacing: 1px; }}
        QToolBar#tools QToolButton {{ border: none; border-radius: 5px; padding: 4px 7px; color: {text}; }}
        QToolBar#tools QToolButton:hover, QToolBar#tools QToolButton:focus {{ background: {band}; }}
        QToolBar#tools QToolButton:disabled {{ color: {faint}; }}
        QToolButton::menu-indicator {{ image: none; }}
        QToolBar#tools::separator {{ background: {line}; width: 1px; margin: 5px 4px; }}
        QMenuBar {{ background: {window}; }}
        QMainWindow::separator {{ background: {line}; width: 1px; height: 1px; margin: 0; }}
        QMainWindow::separator:hover {{ background: {accent}; }}
        QStatusBar {{ background: {window}; border-top: 1px solid {line}; }}
        QStatusBar::item {{ border: none; }}
        QHeaderView {{ background: {window}; }}
        QHeaderView::section {{ background: {window}; color: {faint}; border: none; border-bottom: 1px solid {line};
            padding: 4px 8px; }}
        QHeaderView::up-arrow, QHeaderView::down-arrow {{ width: 0; height: 0; image: none; }}
        QTableView {{ border: 1px solid {line}; border-radius: 4px; }}
        QTableView::item {{ padding: 0 5px; border: none; }}
        QScrollBar:vertical {{ background: transparent; width: 12px; margin: 0; }}
        QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 0; }}
        QScrollBar::handle {{ background: {handle}; border-radius: 4px; margin: 2px; }}
        QScrollBar::handle:vertical {{ min-height: 28px; }}
        QScrollBar::handle:horizontal {{ min-width: 28px; }}
        QScrollBar::handle:hover {{ background: {faint}; }}
        QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; border: none; }}
        QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
        QTabBar {{ background: {window}; qproperty-drawBase: 0; }}
        QTabBar::tab {{ background: {window}; color: {faint}; border: none; padding: 5px 12px; }}
        QTabBar::tab:top {{ border-bottom: 2px solid transparent; }}
        QTabBar::tab:bottom {{ border-top: 2px solid transparent; }}
        QTabBar::tab:selected {{ color: {text}; }}
        QTabBar::tab:top:selected {{ border-bottom-color: {accent}; }}
        QTabBar::tab:bottom:selected {{ border-top-color: {accent}; }}
        QTabBar::tab:hover {{ background: {band}; }}
        QDialog QListView::item {{ padding: 3px 2px; }}
        QPushButton {{ background: {base}; border: 1px solid {line}; border-radius: 5px; padding: 4px 12px; }}
        QPushButton:hover, QPushButton:focus {{ border-color: {accent}; }}
        QPushButton:pressed, QPushButton:checked {{ background: {band}; }}
        QPushButton:disabled {{ color: {faint}; background: {window}; }}
        QLineEdit {{ background: {base}; border: 1px solid {line}; border-radius: 5px; padding: 3px 6px; }}
        QLineEdit:focus {{ border-color: {accent}; }}
        QToolTip {{ background: {window}; color: {text}; border: 1px solid {line}; padding: 3px; }}
    """
