"""The page that a document opens on: figures at its head, a bar for each step, and what costs time or memory."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, Qt
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from memplan.gui.i18n import say, tr
from memplan.gui.model.compare.deviations import deviation_rows
from memplan.gui.model.overview.finding_rows import FINDING_SHAPE, finding_rows
from memplan.gui.model.overview.first_change import FirstChange, change_of_a_finding
from memplan.gui.model.overview.head_figures import head_figures
from memplan.gui.model.overview.planned_types import PLANNED_TYPES_SHAPE, planned_type_rows
from memplan.gui.model.overview.step_bars import StepBar, step_bars
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import FindingRef, Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.tables.table import TableRow
from memplan.gui.views.diagnosed_page import DiagnosedPage
from memplan.gui.views.overview.head_strip import HeadStrip
from memplan.gui.views.overview.step_bars_view import StepBarsView
from memplan.gui.views.table_view import TableView
from memplan.gui.views.view import ViewServices

if TYPE_CHECKING:
    from memplan.findings import Diagnosis

_MOST_BARS_PX = 190
_DIFFERENCE, _FINDING = "difference:", "finding:"


class FindingsTable(TableView):
    """The findings; `went` is told of the row whose place is to be shown."""

    shape = FINDING_SHAPE

    def __init__(self, session: Session, went: Callable[[TableRow], object], parent: QWidget | None = None) -> None:
        super().__init__(session, parent)
        self._went = went
        self.table.verticalHeader().setDefaultSectionSize(26)
        # A sentence without its middle says something else: it is cut at its end.
        self.table.setTextElideMode(Qt.TextElideMode.ElideRight)

    def show_session(self, session: Session) -> None:
        """List the findings of another session."""
        self.session = session
        self.show_rows(finding_rows(session), "")
        self.table.selectionModel().currentRowChanged.connect(self._moved_to)

    def _moved_to(self, index: QModelIndex, _before: QModelIndex) -> None:
        """The keyboard came to another row: its details are shown, the page stays."""
        if index.isValid():
            self.session.select(self.row_at(index).item)

    def jump(self, index: QModelIndex) -> None:
        """Show the finding's place."""
        super().jump(index)
        self._went(self.row_at(index))


class PlannedTypesTable(TableView):
    """The types of a plan's ops by their time; `went` is told once the longest op of one is picked by a click."""

    shape = PLANNED_TYPES_SHAPE

    def __init__(self, session: Session, went: Callable[[], object], parent: QWidget | None = None) -> None:
        super().__init__(session, parent)
        self._went = went
        self.table.verticalHeader().setDefaultSectionSize(26)

    def show_session(self, session: Session) -> None:
        """List the types of another session."""
        self.session = session
        self.show_rows(planned_type_rows(session), "")

    def jump(self, index: QModelIndex) -> None:
        """Show the longest op of the type."""
        super().jump(index)
        self._went()


class OverviewView(DiagnosedPage):
    """
    Head strip, steps and findings of the shown rank; the profile is diagnosed when the view is first seen.

    A click leads to the page where the thing is seen: figures to theirs, steps and findings to their places.
    """

    def __init__(self, services: ViewServices) -> None:
        super().__init__(services)
        self.colours = services.palette
        self.head = HeadStrip(services.palette, self._go, self)
        self.leads = QLabel(self)
        self.leads.setWordWrap(True)
        self.leads.setTextFormat(Qt.TextFormat.RichText)
        self.leads.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.leads.linkActivated.connect(self._follow)
        self.bars = StepBarsView(services.palette, self._show_step, self)
        self.bars_area = QScrollArea(self)
        self.bars_area.setWidget(self.bars)
        self.bars_area.setWidgetResizable(True)
        self.bars_area.setFrameShape(QFrame.Shape.NoFrame)
        self.bars_area.setMaximumHeight(_MOST_BARS_PX)
        self.steps_title, self.findings_title = QLabel(self), QLabel(self)
        self.findings = FindingsTable(services.session, self._show_finding, self)
        self.types_title = QLabel(self)
        self.types = PlannedTypesTable(services.session, lambda: services.run("page-kernels"), self)
        self.said = QLabel(self)
        self.said.setWordWrap(True)
        self.add = QPushButton(tr("Open profile directory …"), self)
        self.add.clicked.connect(lambda: services.run("open-folder"))
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 14, 16, 10)
        column.setSpacing(8)
        column.addWidget(self.head)
        column.addWidget(self.leads)
        column.addWidget(self.steps_title)
        column.addWidget(self.bars_area)
        column.addWidget(self.types_title)
        column.addWidget(self.types, 1)
        column.addWidget(self.findings_title)
        column.addWidget(self.said)
        column.addWidget(self.add, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self.findings, 1)
        column.addStretch(0)
        self.set_palette(services.palette)
        self.show_diagnosis()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.head.set_palette(palette)
        self.bars.set_palette(palette)
        for title in (self.steps_title, self.types_title, self.findings_title):
            title.setStyleSheet("font-size: 15px; font-weight: 600; padding-top: 4px;")
            title.setIndent(0)
        self.said.setStyleSheet(f"color: {palette.css('faint')};")
        self.colours = palette
        self._show_leads()

    # -- findings ------------------------------------------------------------------------------------------------

    def show_diagnosis(self) -> None:
        """Show what is known by now."""
        session = self.session
        document, found = session.document, session.diagnosis
        self.head.show_figures(head_figures(session))
        self._show_leads()
        bars = step_bars(session)
        self.bars.show_bars(bars)
        self.bars_area.setFixedHeight(min(self.bars.height() + 2, _MOST_BARS_PX))
        self.steps_title.setText(tr("Where the time of a step goes"))
        for part in (self.steps_title, self.bars_area):
            part.setVisible(bool(bars))
        self.types.show_session(session)
        self.types_title.setText(tr("Ops by their time"))
        for shown in (self.types_title, self.types):
            shown.setVisible(bool(self.types.model.rowCount()))
        self.findings.show_session(session)
        count = self.findings.model.rowCount()
        self.findings_title.setText(f"{tr('Findings')} ({count})" if count else tr("Findings"))
        self.findings.setVisible(bool(count))
        self.findings_title.setVisible(not document.empty)
        self.said.setText(self._said(found))
        self.said.setVisible(bool(self.said.text()))
        self.add.setVisible(document.profile is None and document.plan is not None)

    def _show_leads(self) -> None:
        """Where the run leaves the plan and what to change first, each a link to its place."""
        lines, change = self._leaving() or ([], change_of_a_finding(self.session))
        if change is not None:
            link = self._link(say(change.said), change.finding, change.difference)
            lines.append(f"<b>{html.escape(tr('Change first:'), quote=False)}</b> {link}")
        self.leads.setText("<br>".join(lines))
        self.leads.setVisible(bool(lines))

    def _leaving(self) -> tuple[list[str], FirstChange | None] | None:
        """The line that says where the run leaves the plan, and what to change then; `None` without both."""
        if self.session.document.comparison is None:
            return None
        # With the alignment, which is there where something was compared: a window starts without.
        from memplan.gui.model.overview.where_it_leaves import first_change, leaving

        left, change = leaving(self.session), first_change(self.session)
        if left is None:
            return [], change
        apart = tr("{}; {}").format("", "")
        causes = apart.join(self._link(say(words), difference=number) for words, number in left.causes)
        return [f"<b>{html.escape(say(left.said), quote=False)}</b> {causes}"], change

    def _link(self, text: str, finding: FindingRef | None = None, difference: int | None = None) -> str:
        said = html.escape(text, quote=False)
        target = "" if difference is None else f"{_DIFFERENCE}{difference}"
        target = target if finding is None else f"{_FINDING}{finding.number}"
        return f'<a href="{target}" style="color:{self.colours.css("accent")}">{said}</a>' if target else said

    def _said(self, found: Diagnosis | None) -> str:
        """What stands in place of findings."""
        document = self.session.document
        if document.empty:
            return ""
        if document.profile is None:
            return tr("Findings come from a run: open the profile of one beside the plan.")
        if self.session.not_diagnosed is not None:
            return self.session.not_diagnosed
        if found is None:
            return tr("reading …")
        if document.bare:
            return tr("The files of this rank hold neither slices nor kernels nor memory: was the profile finished?")
        if not found.findings:
            return tr("Nothing costs enough to be reported.")
        return ""

    # -- going ---------------------------------------------------------------------------------------------------

    def _go(self, page: str) -> None:
        # The figure of the peak leads to the moment of it, with who holds the bytes.
        self._services.run("peak" if page == "memory" else f"page-{page}")

    def _follow(self, link: str) -> None:
        """Show the difference or the finding that a lead is of."""
        if link.startswith(_DIFFERENCE):
            row = deviation_rows(self.session.document)[int(link.removeprefix(_DIFFERENCE))]
            self.session.select(row.item)
            if row.span_ns is not None:
                start, end = (float(time - self.session.origin_ns) for time in row.span_ns)
                self.session.viewport.reveal(start, end)
            self._services.run("page-plan")
            return
        wanted = FindingRef(int(link.removeprefix(_FINDING)))
        for place in range(self.findings.sorted.rowCount()):
            index = self.findings.sorted.index(place, 0)
            if self.findings.row_at(index).item == wanted:
                self.findings.jump(index)
                return

    def _show_step(self, bar: StepBar) -> None:
        """Select the step's time and show it in the timeline."""
        if bar.span_ns is None:
            return
        viewport, origin = self.session.viewport, self.session.origin_ns
        start, end = (float(time - origin) for time in bar.span_ns)
        viewport.selected_range = start, end
        viewport.reveal(start, end, margin=0.02)
        self._services.run("page-timeline")

    def _show_finding(self, row: TableRow) -> None:
        """
        Show where the finding is: in memory, in the timeline, or in another rank, which is opened.

        Of one that is nowhere in particular, all that is known is shown beside the findings.
        """
        one = self.session.finding(row.item)
        document = self.session.document
        if one is None or document.profile is None:
            return
        if row.span_ns is not None:
            of_memory = one.kind.startswith(("memory.", "oom."))
            self._services.run("page-memory" if of_memory else "page-timeline")
        elif (
            one.rank is not None and document.rank is not None and one.rank != document.rank.rank
            and one.rank in document.profile.ranks and any(place.span_ns for place in one.places)
        ):  # fmt: skip
            self._services.open_rank(one.rank)
        else:
            self._services.bring("details")

    def sheet(self) -> Sheet:
        """The findings in the order they are sorted by, costs in nanoseconds and bytes."""
        rows = []
        for index in range(self.findings.sorted.rowCount()):
            item = self.findings.row_at(self.findings.sorted.index(index, 0)).item
            one = self.session.finding(item) if isinstance(item, FindingRef) else None
            if one is not None:
                rows.append((one.kind, say(one.title), one.rank, one.cost_ns, one.cost_bytes, one.confidence.value))
        return Sheet(("kind", "finding", "rank", "cost_ns", "cost_bytes", "how_known"), rows)
