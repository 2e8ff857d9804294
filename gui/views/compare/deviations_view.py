"""The table of differences between plan and profile."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from memplan.core.sentence import Sentence
from memplan.gui.i18n import say, tr
from memplan.gui.model.compare.deviations import DEVIATION_SHAPE, deviation_rows, planned_ops, planned_rows, verdict
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet, SheetCell
from memplan.gui.views.compare.compare_chooser import CompareChooser
from memplan.gui.views.table_view import TableView
from memplan.gui.views.view import ViewServices

_WAYS = {
    "open-file": "Open plan or graph …",
    "plan-model": "Plan a model like this run …",
    "open-folder": "Open profile directory …",
}
"""What adds what a comparison lacks: commands of the window with the words of their buttons."""
_HEADER = ("difference", "where", "unit", "planned", "measured", "change", "cost")


class DeviationsView(TableView):
    """The verdict in a line, and the costliest differences under it."""

    shape = DEVIATION_SHAPE

    def __init__(self, services: ViewServices) -> None:
        super().__init__(services.session, services.parent)
        self.ways: dict[str, QPushButton] = {}
        row = QHBoxLayout()
        row.setContentsMargins(6, 0, 6, 6)
        row.setSpacing(8)
        for command, text in _WAYS.items():
            button = self.ways[command] = QPushButton(tr(text), self)
            button.clicked.connect(lambda *_, command=command: services.run(command))
            row.addWidget(button)
        row.addStretch(1)
        self.chooser = CompareChooser(services.compare_with, self)
        row.addWidget(self.chooser)
        layout = self.layout()
        if isinstance(layout, QVBoxLayout):
            layout.insertLayout(1, row)
            layout.setStretchFactor(self.table, 1)
            layout.addStretch(0)  # takes the room where there is no table
        self.show_session(services.session)

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services)

    def show_session(self, session: Session) -> None:
        """Show the differences of another session."""
        self.session = session
        document = session.document
        planned = planned_rows(document)
        text = verdict(document) or Sentence(
            "Open the profile of a run to see where it leaves the plan, whose longest ops are:"
            if planned
            else "Open a plan and a profile to see where they differ."
        )
        self.show_rows(planned or deviation_rows(document), say(text))
        lacking = {"open-file": document.plan is None, "plan-model": document.plan is None,
                   "open-folder": document.profile is None}  # fmt: skip
        for command, button in self.ways.items():
            button.setVisible(lacking[command])
        self.table.setVisible(bool(planned) or document.comparison is not None)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        policy.setHeightForWidth(
            True
        )  # a new policy forgets that it wraps, and is given room for a narrow label's lines
        self.headline.setSizePolicy(policy)
        self.chooser.show_document(document)

    def jump_to_first(self) -> None:
        """Show the place of the first row, as the table is sorted."""
        if self.sorted.rowCount():
            index = self.sorted.index(0, 0)
            self.table.setCurrentIndex(index)
            self.jump(index)

    def jump_by(self, rows: int) -> None:
        """Show the place of the row so many below the current one, as the table is sorted; the first without one."""
        now = self.table.currentIndex().row()
        to = now + rows if now >= 0 else 0
        if 0 <= to < self.sorted.rowCount():
            index = self.sorted.index(to, 0)
            self.table.setCurrentIndex(index)
            self.jump(index)

    def sheet(self) -> Sheet:
        """The differences that are listed in nanoseconds or bytes, the costliest first; without a run, planned ops."""
        from memplan.compare import DeviationKind, DeviationWhat  # with all that a comparison holds

        found = self.session.document.comparison
        rows: list[tuple[SheetCell, ...]] = [
            (DeviationWhat.DURATION, op.name, "ns", op.duration_ns, None, None, None)
            for op in planned_ops(self.session.document)
        ]
        for item in found.deviations if found is not None else ():
            unit = "ns" if item.kind is DeviationKind.TIME else "bytes"
            rows.append((item.what, str(item.where), unit, item.planned, item.measured, item.delta, item.cost))
        return Sheet(_HEADER, rows)
