"""What an empty window shows: the ways to begin, and what was open before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QCommandLinkButton, QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from memplan.gui.i18n import tr
from memplan.gui.icons import icon
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.open_request import Request

_MOST = 6
_LEAST_PX = 340  # the docks around the middle of a small window leave it no more than it asks for
_USUAL_PX = 300
"""Width of a button for which its height is right."""
_MARGINS_PX = 24
_WIDEST_PX = 920
_INDENT_PX = 10  # where the icons of the buttons begin


WayToBegin = tuple[str, str, str, Callable[[], object]]
"""A title, a line under it, the name of its icon, and what it does."""


class WelcomeView(QScrollArea):
    """Buttons for `ways`; recent documents beside them."""

    def __init__(
        self,
        ways: Sequence[WayToBegin],
        reopen: Callable[[Request], object],
        palette: Palette,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.colours = palette
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setMinimumHeight(_LEAST_PX)
        page = QWidget(self)
        self._reopen = reopen
        self.buttons: list[QCommandLinkButton] = []
        left = QVBoxLayout()
        self._icons = [name for _, _, name, _ in ways]
        for title, line, _, run in ways:
            button = QCommandLinkButton(tr(title), tr(line), self)
            button.clicked.connect(lambda *_, run=run: run())
            button.setMinimumHeight(button.heightForWidth(_USUAL_PX))  # else Qt cuts the line under the title
            self.buttons.append(button)
            left.addWidget(button)
        left.addStretch(1)
        self.recent_title = QLabel(tr("Recent"), self)
        self.recent = QVBoxLayout()
        self.recent_buttons: list[QCommandLinkButton] = []
        right = QVBoxLayout()
        right.addWidget(self.recent_title)
        right.addLayout(self.recent)
        right.addStretch(1)
        self.line_between = QFrame(self)
        self.line_between.setFixedWidth(1)
        columns = QHBoxLayout()
        columns.setSpacing(_MARGINS_PX)
        columns.addLayout(left, 1)
        columns.addWidget(self.line_between)
        columns.addLayout(right, 1)
        self.heading = QLabel("memplan", self)
        self.below = QLabel(tr("Memory of Ascend NPUs: what was planned beside what was measured."), self)
        self.hint = QLabel(tr("Or drop plans, graphs and profile directories anywhere in the window."), self)
        for label in (self.heading, self.below, self.hint, self.recent_title):
            label.setWordWrap(True)
            label.setIndent(_INDENT_PX)
        rows = QVBoxLayout()
        rows.addStretch(1)
        rows.addWidget(self.heading)
        rows.addWidget(self.below)
        rows.addSpacing(16)
        rows.addLayout(columns)
        rows.addSpacing(12)
        rows.addWidget(self.hint)
        rows.addStretch(2)
        middle = QHBoxLayout(page)
        middle.addStretch(1)
        self.inner = QWidget(page)
        self.inner.setLayout(rows)
        self.inner.setMaximumWidth(_WIDEST_PX)
        middle.addWidget(self.inner, 100)
        middle.addStretch(1)
        self.setWidget(page)
        self.set_palette(palette)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        faint, text = palette.css("faint"), palette.css("text")
        self.heading.setStyleSheet(f"font-size: 24px; font-weight: 600; color: {text};")
        for label in (self.below, self.hint, self.recent_title):
            label.setStyleSheet(f"color: {faint};")
        self.line_between.setStyleSheet(f"background: {palette.css('line')};")
        for button, name in zip((*self.buttons, *self.recent_buttons), (*self._icons, *["next"] * _MOST), strict=False):
            button.setIcon(icon(name, palette.css("accent")))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep every button as tall as its lines need at this width: Qt cuts them otherwise."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        width = min(self.viewport().width(), _WIDEST_PX) // 2 - 2 * _MARGINS_PX
        for button in (*self.buttons, *self.recent_buttons):
            button.setMinimumHeight(button.heightForWidth(max(width, 120)))

    def show_recent(self, recent: Sequence[Request]) -> None:
        """List what was opened last."""
        for button in self.recent_buttons:
            self.recent.removeWidget(button)
            button.deleteLater()
        self.recent_buttons = []
        for request in recent[:_MOST]:
            paths = [path for path in (request.plan, request.profile) if path is not None]
            button = QCommandLinkButton(" + ".join(path.name for path in paths), str(paths[0].parent), self)
            button.setToolTip("\n".join(str(path) for path in paths))
            button.clicked.connect(lambda *_, request=request: self._reopen(request))
            self.recent_buttons.append(button)
            self.recent.addWidget(button)
        self.set_palette(self.colours)
        self._fit()
        self.recent_title.setText(tr("Recent") if recent else tr("Nothing was opened yet."))
