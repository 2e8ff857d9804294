"""Planning: choose a model or graph, a chip and how much memory there is, and see peak, moves and step time follow."""

from __future__ import annotations

import shlex
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSplitter,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from memplan.core.options import words
from memplan.core.units import parse_bytes
from memplan.gui.i18n import say, tr
from memplan.gui.model.document import Document
from memplan.gui.model.palette import Palette
from memplan.gui.model.planning.plan_answer import (
    TRIED_HEADER,
    PlanAnswer,
    is_final,
    plan_figures,
    size_words,
    tried_plan,
    tried_rows,
    without_limit,
)
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.overview.head_strip import HeadStrip
from memplan.gui.views.planning.form_area import FormArea
from memplan.gui.views.planning.hbm_slider import HbmSlider
from memplan.gui.views.planning.plan_form import PlanForm
from memplan.gui.views.view import ViewServices
from memplan.gui.views.whole_rows import WholeRowsTable
from memplan.requests.plan_request import PlanRequest

_REST_MS = 350
"""So long after the last change planning begins."""
_KEPT = 40
"""Plans that are kept to go back to, the last ones that were looked at."""
_FORM_PX = 350


class PlanningView(QWidget):
    """
    The form and the slider at the left; figures, map and curve of the plan at the right, and all that was tried.

    A change asks for a new plan once nothing has changed for a moment; the one before is cancelled. Where tensors have
    to move, the first plan that fits is shown, and replaced when the best one is found. What was planned once is shown
    again at once.
    """

    def __init__(self, services: ViewServices) -> None:
        super().__init__(services.parent)
        self._services = services
        self.session = services.session
        self.colours = services.palette
        self.found: PlanAnswer | None = None
        self._answers: OrderedDict[PlanRequest, PlanAnswer] = OrderedDict()
        self._failed: dict[PlanRequest, str] = {}
        self._asked: PlanRequest | None = None
        self._said = ("", "text")
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS if services.jobs.background else 0)
        self._rest.timeout.connect(self.evaluate)
        document = services.session.document
        self.form = PlanForm(services.planning_sources(), graphs=True, parent=self)
        self.hbm = HbmSlider(self)
        self.form.form.addRow(tr("HBM"), self.hbm)
        self.form.changed.connect(self._other_question)
        self.hbm.changed.connect(self._rest.start)
        self.said = QLabel(self)
        self.said.setWordWrap(True)
        self.head = HeadStrip(services.palette, self.open_plan, self)
        empty = Session(Document())
        self.map = MemoryMapView(empty, services.palette, self)
        self.curve = CurveView(empty, services.palette, self)
        self.tried = WholeRowsTable(0, len(TRIED_HEADER), self)
        self.buttons = {
            name: QPushButton(tr(text), self)
            for name, text in (
                ("cancel", "Cancel"),
                ("open", "Open this plan"),
                ("compare", "Compare with the open run"),
                ("copy", "Copy as command line"),
            )
        }
        for name, done in (
            ("cancel", self.cancel),
            ("open", lambda: self.open_plan()),
            ("compare", lambda: self.open_plan("plan", beside=True)),
            ("copy", self.copy_command),
        ):
            self.buttons[name].clicked.connect(lambda *_, done=done: done())
        self._lay_out()
        self.show_session(services.session)
        if document.profile is None:
            self.form.like.setChecked(False)

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view."""
        return cls(services)

    def _lay_out(self) -> None:
        self.tried.setHorizontalHeaderLabels([tr(title) for title in TRIED_HEADER])
        self.tried.verticalHeader().hide()
        self.tried.verticalHeader().setDefaultSectionSize(22)
        self.tried.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.tried.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tried.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.tried.setShowGrid(False)
        self.tried.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.tried.horizontalHeader().setSectionResizeMode(len(TRIED_HEADER) - 1, QHeaderView.ResizeMode.Stretch)
        self.tried.horizontalHeader().setHighlightSections(False)
        self.tried.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.tried.setMinimumHeight(90)
        self.tried.cellClicked.connect(lambda row, _: self._again(row))
        self.tried.cellActivated.connect(lambda row, _: self._again(row))
        left = QVBoxLayout()
        area = FormArea(self)
        area.setWidget(self.form)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        left.addWidget(area, 0)
        tried = QLabel(tr("Tried so far"), self)
        tried.setBuddy(self.tried)
        left.addWidget(tried)
        left.addWidget(self.tried, 1)
        beside = QWidget(self)
        beside.setLayout(left)
        beside.setFixedWidth(_FORM_PX)
        left.setContentsMargins(8, 8, 0, 8)
        top = QHBoxLayout()
        top.addWidget(self.said, 1)
        for button in self.buttons.values():
            top.addWidget(button)
        pictures = QSplitter(Qt.Orientation.Vertical, self)
        pictures.addWidget(self.map)
        pictures.addWidget(self.curve)
        pictures.setSizes([500, 220])
        right = QVBoxLayout()
        right.setContentsMargins(8, 8, 8, 8)
        right.addLayout(top)
        right.addWidget(self.head)
        right.addWidget(pictures, 1)
        columns = QHBoxLayout(self)
        columns.setContentsMargins(0, 0, 0, 0)
        columns.addWidget(beside)
        columns.addLayout(right, 1)

    def minimumSizeHint(self) -> QSize:
        """Small: the form scrolls."""
        return QSize(480, 160)

    # -- the question --------------------------------------------------------------------------------------------

    @property
    def request(self) -> PlanRequest:
        """What is asked for now."""
        return replace(self.form.request(), hbm=size_words(self.hbm.value))

    def _other_question(self) -> None:
        """Another model, chip or step: its need is not known yet."""
        free = self._answers.get(self.form.request())
        self.hbm.set_need(free.peak if free is not None else None)
        self._rest.start()

    def showEvent(self, event: QShowEvent) -> None:
        """Plan what is set when it is first seen."""
        super().showEvent(event)
        if self.found is None and self._asked is None:
            self._rest.start()

    def evaluate(self) -> None:
        """Show the plan of what is set: at once if it is known, else when a worker has made it."""
        self._rest.stop()
        request = self.request
        known = self._answers.get(request)
        if known is not None:
            self._services.jobs.drop(self)
            self._asked = None
            self._show(known)
            return
        if request in self._failed:
            self._services.jobs.drop(self)
            self._refuse(request, self._failed[request])
            return
        self._asked = request
        self._say(tr("planning …"))
        self._work_out(request, True, self._refine)

    def _work_out(self, request: PlanRequest, quick: bool, done: Callable[[PlanAnswer], None]) -> None:
        """Plan `request` on a worker."""
        self._services.jobs.latest(
            self, tr("planning"), partial(tried_plan, request, quick, loops=self._services.loader.loops), done,
            failed=lambda line: self._refuse(request, line),
        )  # fmt: skip

    def _refine(self, quick: PlanAnswer) -> None:
        """Show the answer that came quickly; where a better one may exist, say so and look for it."""
        if is_final(quick):
            self._keep(quick)
            return
        self._show(quick)
        self._say(tr("The first plan that fits; looking for a faster one …"))
        self._work_out(quick.request, False, self._keep)

    def cancel(self) -> None:
        """Give up the plan that is being made; what was shown stays."""
        self._services.jobs.drop(self)
        self._asked = None
        self._say(tr("cancelled"))

    def _keep(self, found: PlanAnswer) -> None:
        self._asked = None
        self._answers[found.request] = found
        while len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        self._show(found)

    def _refuse(self, request: PlanRequest, line: str) -> None:
        self._asked = None
        self._failed[request] = line
        self._say(line, "warning")

    # -- the answer --------------------------------------------------------------------------------------------------

    @property
    def free(self) -> PlanAnswer | None:
        """The same plan without a limit of memory, if it was made."""
        return self._answers.get(without_limit(self.request))

    def _show(self, found: PlanAnswer) -> None:
        self._services.loader.load_loops()
        self.found = found
        final = self._answers.get(found.request) is found
        if final:
            self._answers.move_to_end(found.request)
        if final and found.request.hbm is None:
            self.hbm.set_need(found.peak)
        self.map.show_session(found.session)
        self.curve.show_session(found.session)
        self.head.show_figures(plan_figures(found, self.free))
        self._show_tried()
        self._say("")

    def _of_this(self) -> list[PlanAnswer]:
        """All plans that differ in memory alone, the roomiest first."""
        same = [item for item in self._answers.values() if without_limit(item.request) == without_limit(self.request)]
        return sorted(same, key=lambda item: (item.request.hbm is not None, -item.peak))

    def _show_tried(self) -> None:
        found = self._of_this()
        self.tried.setRowCount(len(found))
        for row, cells in enumerate(tried_rows(found)):
            for column, text in enumerate(cells):
                item = QTableWidgetItem(say(text))
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.tried.setItem(row, column, item)
            if found[row] is self.found:
                self.tried.selectRow(row)

    def _again(self, row: int) -> None:
        """Show a plan that was tried."""
        found = self._of_this()
        if row < len(found):
            self._services.jobs.drop(self)
            self._asked = None
            hbm = found[row].request.hbm
            self.hbm.show_value(None if hbm is None else parse_bytes(hbm))
            self._rest.stop()
            self._show(found[row])

    def _say(self, text: str, role: str = "text") -> None:
        self._said = text, role
        self.said.setText(text)
        self.said.setStyleSheet(f"color: {self.colours.css(role)};")
        known = self.found is not None
        self.buttons["cancel"].setVisible(self._asked is not None)
        self.buttons["open"].setEnabled(known)
        self.buttons["compare"].setEnabled(known)
        self.buttons["compare"].setVisible(self.session.document.profile is not None)
        self.buttons["copy"].setEnabled(known)
        for view in (self.map, self.curve):
            view.setEnabled(known)

    def open_plan(self, page: str = "overview", *, beside: bool = False) -> None:
        """Open the plan that is shown as a document at `page`, with the open run if it goes `beside` it."""
        if self.found is not None:
            self._services.open_planned(self.found.request, self.found.session, page, beside)

    def copy_command(self) -> None:
        """Put the command line that makes the same plan on the clipboard."""
        if self.found is not None:
            QGuiApplication.clipboard().setText(self.command_line)

    @property
    def command_line(self) -> str:
        """What to type for the plan that is shown."""
        return shlex.join(["memplan", "plan", *words(self.found.request if self.found is not None else self.request)])

    # -- a view --------------------------------------------------------------------------------------------------

    def show_session(self, session: Session) -> None:
        """Another document is shown: its run is what a plan may be like."""
        self.session = session
        document = session.document
        profile = document.profile.path if document.profile is not None else None
        if profile != self.form.profile:
            self.form.show_profile(profile, document.rank.rank if document.rank is not None else None)
        self._say(*self._said)

    def forget(self) -> None:
        """Nothing here listens to the session."""

    def sheet(self) -> Sheet:
        """What was tried, in bytes and nanoseconds."""
        header = ("hbm", "peak_bytes", "moved_bytes", "step_ns", "missing_bytes")
        rows = [
            (
                item.request.hbm or "",
                item.peak,
                sum(move.size for move in item.plan.transfers),
                item.step_ns,
                item.plan.missing_bytes,
            )
            for item in self._of_this()
        ]
        return Sheet(header, rows)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self.head.set_palette(palette)
        self.map.set_palette(palette)
        self.curve.set_palette(palette)
        self._say(*self._said)
