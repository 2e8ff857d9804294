"""The rail at the left of the window: one button for each page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QToolBar, QToolButton, QWidget

from memplan.gui.i18n import tr
from memplan.gui.icons import icon
from memplan.gui.model.palette import Palette
from memplan.gui.views.view import PageSpec

_ICON_PX, _WIDTH_PX = 22, 90


class PageRail(QToolBar):
    """Buttons of `pages` under each other, with their names; `asked` is told which one was pressed."""

    def __init__(
        self, pages: Sequence[PageSpec], asked: Callable[[str], object], palette: Palette, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._pages = pages
        self.setObjectName("pages")
        self.setMovable(False)
        self.setFloatable(False)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        self.setOrientation(Qt.Orientation.Vertical)
        self.setIconSize(QSize(_ICON_PX, _ICON_PX))
        self.buttons: dict[str, QToolButton] = {}
        self._shown: dict[str, QAction] = {}
        for page in pages:
            button = QToolButton(self)
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            button.setCheckable(True)
            button.setFixedWidth(_WIDTH_PX)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.clicked.connect(lambda *_, name=page.name: asked(name))
            self._shown[page.name] = self.addWidget(button)
            self.buttons[page.name] = button
        self.name_pages()
        self.set_palette(palette)

    def name_pages(self) -> None:
        """Write the names in the window's language."""
        self.setWindowTitle(tr("Pages"))
        for number, page in enumerate(self._pages, 1):
            self.buttons[page.name].setText(tr(page.title))
            self.buttons[page.name].setToolTip(f"{tr(page.title)} (Ctrl+{number})")

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        text, accent, band, line = (palette.css(name) for name in ("text", "accent", "selection_band", "line"))
        self.setStyleSheet(
            f"QToolBar#pages {{ border: none; border-right: 1px solid {line}; spacing: 2px; padding: 4px 0; }}"
            f"QToolBar#pages QToolButton {{ border: none; border-left: 3px solid transparent; padding: 7px 0 5px 0;"
            f" font-size: 12px; color: {text}; }}"
            f"QToolBar#pages QToolButton:checked {{ border-left-color: {accent}; background: {band}; }}"
            f"QToolBar#pages QToolButton:hover {{ background: {band}; }}"
            f"QToolBar#pages QToolButton:focus {{ border-left-color: {accent}; background: {band}; }}"
        )
        self._palette = palette
        self._draw_icons()

    def _draw_icons(self) -> None:
        """The icon of the shown page in the colour that stands for what is chosen."""
        for name, button in self.buttons.items():
            button.setIcon(icon(name, self._palette.css("accent" if button.isChecked() else "faint")))

    def show_page(self, name: str, offered: Callable[[str], bool]) -> None:
        """Mark the page that is shown; those that have nothing to show are left out."""
        for page, button in self.buttons.items():
            button.setChecked(page == name)
            self._shown[page].setVisible(offered(page))
        self._draw_icons()
