"""The ranks of a profile: a heat map of ranks by steps, who is slow among equals, and the links between them."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from memplan.gui.i18n import say, tr
from memplan.gui.model.cluster.heat_grid import HeatGrid
from memplan.gui.model.cluster.rank_grid import MeasuredRanks, RankMeasure, link_grid, rank_grid, rank_links
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.cluster.heat_map import HeatMap
from memplan.gui.views.diagnosed_page import DiagnosedPage
from memplan.gui.views.view import ViewServices
from memplan.traces.link_totals import LinkTotal

_EDGES_PX = 50
"""The margins of the page and a scroll bar."""
_UNLIMITED = (1 << 24) - 1
"""The greatest height that Qt knows."""
_SHARE = 100
"""Of the room, for each of ranks and links beside what stays empty under both."""
_BETWEEN_PX = 40
"""Between ranks and links that stand beside each other."""


class ClusterView(DiagnosedPage):
    """Ranks and links; a double click opens a rank, two that are picked are set side by side."""

    def __init__(self, services: ViewServices) -> None:
        super().__init__(services)
        self.found: MeasuredRanks | None = None
        self._links: tuple[Session, list[LinkTotal]] | None = None
        self.verdict = QLabel(self)
        self.verdict.setWordWrap(True)
        self.measure = QComboBox(self)
        for measure in RankMeasure:
            self.measure.addItem(tr(measure.value), measure)
        self.measure.currentIndexChanged.connect(self.show_diagnosis)
        self.open, self.beside = QPushButton(tr("Open rank"), self), QPushButton(tr("Side by side"), self)
        self.ranks_map = HeatMap(services.palette, self._open, self)
        self.links_map = HeatMap(services.palette, lambda _: None, self)
        self.ranks_map.picked = self._offer
        self.open.clicked.connect(lambda: self._open(self.ranks_map.chosen[-1]))
        self.beside.clicked.connect(self._set_beside)
        self.links_title = QLabel(tr("Links: rate from the rank of the row to that of the column"), self)
        self.hint = QLabel(tr("A double click opens a rank; with Ctrl two can be picked and set side by side."), self)
        head = QHBoxLayout()
        head.addWidget(self.measure)
        head.addWidget(self.open)
        head.addWidget(self.beside)
        head.addWidget(self.hint, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 14, 16, 10)
        column.setSpacing(8)
        column.addWidget(self.verdict)
        column.addLayout(head)
        self.links_area = _scrolled(self.links_map)
        links = QVBoxLayout()
        links.setSpacing(8)
        links.addWidget(self.links_title)
        links.addWidget(self.links_area, 1)
        self.parts = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        self.parts.setSpacing(8)
        self.ranks_area = _scrolled(self.ranks_map)
        self.parts.addWidget(self.ranks_area)
        self.parts.addLayout(links)
        self.parts.addStretch()
        column.addLayout(self.parts, 1)
        self.set_palette(services.palette)
        self.show_diagnosis()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Use the width for the cells."""
        super().resizeEvent(event)
        self._share_room()

    def _share_room(self) -> None:
        """Ranks and links beside each other where both have room, else one below the other."""
        room = self.width() - _EDGES_PX
        widths = _beside(self.ranks_map.least_width, self.links_map.least_width, room - _BETWEEN_PX)
        if not self.links_map.grid.rows:
            widths = None
        across, down = QBoxLayout.Direction.LeftToRight, QBoxLayout.Direction.TopToBottom
        self.parts.setDirection(down if widths is None else across)
        self.parts.setSpacing(8 if widths is None else _BETWEEN_PX)
        for place, share in enumerate((3 * _SHARE, 2 * _SHARE, 1) if widths is None else (*widths, 0)):
            self.parts.setStretch(place, share)
        areas = (self.ranks_map, self.ranks_area), (self.links_map, self.links_area)
        for (part, area), width in zip(areas, widths or (room, room), strict=True):
            part.use_room(width)
            # One below the other, neither takes more than it has rows: the other may need that.
            area.setMaximumHeight(part.height() if widths is None else _UNLIMITED)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.ranks_map.set_palette(palette)
        self.links_map.set_palette(palette)
        self.verdict.setStyleSheet("font-size: 16px; font-weight: 600;")
        self.links_title.setStyleSheet("font-size: 15px; font-weight: 600;")
        self.hint.setStyleSheet(f"color: {palette.css('faint')};")

    def ask(self) -> None:
        """Ask for the links as well."""
        super().ask()
        self._ask_links()

    # -- ranks ---------------------------------------------------------------------------------------------------

    def show_diagnosis(self) -> None:
        """Show the measure that is chosen, of what is known by now."""
        measure = RankMeasure(self.measure.currentData())
        self.found = rank_grid(self.session, measure)
        waiting = self.session.not_diagnosed or tr("reading …")
        self.verdict.setText(say(self.found.verdict) if self.found is not None else waiting)
        self.ranks_map.show_grid(self.found.grid if self.found is not None else HeatGrid((), (), {}, {}))
        self._show_links()
        self._offer()

    def _offer(self) -> None:
        picked = len(self.ranks_map.chosen)
        self.open.setEnabled(picked == 1)
        self.beside.setEnabled(picked == 2)

    def _open(self, row: int) -> None:
        if self.found is not None:
            self._services.open_rank(self.found.ranks[row])

    def _set_beside(self) -> None:
        if self.found is not None and len(self.ranks_map.chosen) == 2:
            first, second = sorted(self.ranks_map.chosen)
            self._services.ranks_beside(self.found.ranks[first], self.found.ranks[second])

    # -- links ---------------------------------------------------------------------------------------------------

    def _ask_links(self) -> None:
        """Read the links of the session's profile on a worker, once."""
        session = self.session
        if session.document.profile is None or (self._links is not None and self._links[0] is session):
            return

        def done(links: list[LinkTotal]) -> None:
            self._links = session, links
            self._show_links()

        title = tr("links between ranks")
        self._services.jobs.latest(self, title, lambda progress: rank_links(session, progress), done)

    def _show_links(self) -> None:
        known = self._links is not None and self._links[0] is self.session
        grid = link_grid(self._links[1]) if known and self._links is not None else None
        if grid is not None:
            self.links_map.show_grid(grid)
        self._share_room()
        for part in (self.links_title, self.links_area):
            part.setVisible(grid is not None)

    def sheet(self) -> Sheet:
        """The figures that are shown, one row a rank and step."""
        found = self.found
        rows = []
        if found is not None:
            for (row, column), value in sorted(found.grid.values.items()):
                rows.append((found.ranks[row], str(found.grid.columns[column]), value))
        return Sheet(("rank", "step", str(self.measure.currentData().value)), rows)


def _scrolled(part: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidget(part)
    area.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    return area


def _beside(first: int, second: int, room: int) -> tuple[int, int] | None:
    """Widths that share `room`, of which each needs its least: halves where these do, `None` where it is too little."""
    if first + second > room:
        return None
    left = min(max(room // 2, first), room - second)
    return left, room - left
