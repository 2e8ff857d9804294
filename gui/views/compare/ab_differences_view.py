"""The table of what differs between two documents, by group and the largest difference first."""

from __future__ import annotations

from types import MappingProxyType

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from memplan.core.sentence import Sentence
from memplan.core.units import format_change
from memplan.gui.i18n import say, tr
from memplan.gui.model.compare.ab_choice import READING_ORDER, AbChoice, AbListing, ab_total, groups_of, listed
from memplan.gui.model.compare.ab_differences import (
    AB_SHAPE,
    AbDifference,
    AbDifferences,
    AbGroup,
    AmountUnit,
    difference_rows,
    differences_sheet,
)
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.table_view import RowsModel, TableView

_MEASURES = {None: "Time and memory", AmountUnit.TIME: "Time", AmountUnit.BYTES: "Memory"}
_PLACES = MappingProxyType({group.value: place for place, group in enumerate(READING_ORDER)})


class GroupedRows(QSortFilterProxyModel):
    """Sorts the rows of each group by the chosen column; the groups stay in reading order."""

    def lessThan(self, left: QModelIndex | QPersistentModelIndex, right: QModelIndex | QPersistentModelIndex) -> bool:
        """By group, whichever way the column is sorted, then by the column."""
        rows = self.sourceModel()
        if not isinstance(rows, RowsModel):
            return False
        one, other = rows.rows[left.row()], rows.rows[right.row()]
        places = _PLACES[str(one.cells[0])], _PLACES[str(other.cells[0])]
        if places[0] != places[1]:
            return (places[0] < places[1]) == (self.sortOrder() is Qt.SortOrder.AscendingOrder)
        mine, theirs = one.sort_keys[left.column()], other.sort_keys[left.column()]
        if isinstance(mine, str) or isinstance(theirs, str):
            return str(mine) < str(theirs)
        return mine < theirs


class AbDifferencesView(TableView):
    """
    Differences of A and B; `asked` tells which of them is to be shown in both.

    `choice` is what of them is listed: one group or all, times, bytes or both, and a part of the name.
    """

    asked = Signal(object)

    shape = AB_SHAPE

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(session, parent)
        self.differences: AbDifferences | None = None
        self.listed = AbListing(())
        self.choice = AbChoice()
        self.sorted = GroupedRows(self)
        self.sorted.setSourceModel(self.model)
        self.table.setModel(self.sorted)
        self.table.sortByColumn(AB_SHAPE.sorted_by, Qt.SortOrder.DescendingOrder)
        self.group = QComboBox(self)
        self.group.activated.connect(self._choose)
        self.measure = QComboBox(self)
        for measure, text in _MEASURES.items():
            self.measure.addItem(tr(text), measure)
        self.measure.activated.connect(self._choose)
        self.name = QLineEdit(self)
        self.name.setPlaceholderText(tr("part of a name"))
        self.name.setClearButtonEnabled(True)
        self.name.textChanged.connect(self._choose)
        self.changed_only = QCheckBox(tr("only what differs"), self)
        self.changed_only.setChecked(True)
        self.changed_only.clicked.connect(self._choose)
        self.tools = QHBoxLayout()
        self.tools.setContentsMargins(4, 2, 4, 2)
        for widget in (self.group, self.measure, self.name, self.changed_only):
            self.tools.addWidget(widget)
        self.tools.addStretch(1)
        column = self.layout()
        if isinstance(column, QVBoxLayout):
            column.insertLayout(1, self.tools)
        self.show_differences(None)

    def show_differences(self, differences: AbDifferences | None) -> None:
        """List other differences; `None` while they are being worked out."""
        self.differences = differences
        self.group.clear()
        self.group.addItem(tr("All groups"), None)
        for group in groups_of(differences) if differences is not None else ():
            self.group.addItem(tr(group.value), group)
        self._choose()

    def _choose(self, *_: object) -> None:
        group, measure = self.group.currentData(), self.measure.currentData()
        self.choice = AbChoice(
            AbGroup(group) if group is not None else None,
            AmountUnit(measure) if measure is not None else None,
            self.name.text(),
            self.changed_only.isChecked(),
        )
        self.listed = AbListing(())
        if self.differences is not None:
            self.listed = listed(self.differences, self.choice)
        self.show_rows(difference_rows(self.listed.found), self._headline())

    def _headline(self) -> str:
        """The sum over what is listed, and what is not listed."""
        differences = self.differences
        if differences is None:
            return tr("Comparing A and B …")
        if differences.reason:
            return say(differences.reason)
        parts = []
        whole = ab_total(differences, self.choice)
        if whole is not None:
            group, one, other = whole
            write = next(item.measure for item in differences.found if item.group is group).text
            parts.append(f"{tr(group.value)}: A {write(one)}, B {write(other)} ({_change(one, other)})")
        if not self.listed.found:
            parts.append(tr("A and B differ in nothing that is chosen here."))
        else:
            parts.append(tr("A click on a row shows it in both."))
        left_out = self.listed.left_out + differences.left_out
        if left_out:
            parts.append(say(Sentence("{} smaller [difference is|differences are] not listed", (f"{left_out:,}",))))
        return "  ·  ".join(parts)

    def jump(self, index: QModelIndex) -> None:
        """Show the row's place in both documents."""
        self.asked.emit(self.difference_at(index))

    def difference_at(self, index: QModelIndex | QPersistentModelIndex) -> AbDifference:
        """The difference behind an index of the table."""
        return self.listed.found[self.sorted.mapToSource(index).row()]

    def sheet(self) -> Sheet:
        """The differences that the choice names, all of them, in plain numbers."""
        if self.differences is None:
            return differences_sheet(())
        return differences_sheet(listed(self.differences, self.choice, all_of_them=True).found)


def _change(one: int, other: int) -> str:
    """How much more B is than A."""
    if not one:
        return "+∞" if other else "±0%"
    return format_change((other - one) / one)
