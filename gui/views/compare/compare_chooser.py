"""The chooser of what a plan is compared with: a rank of the profile, and one of its steps or the median."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QSignalBlocker
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.document import Document


class CompareChooser(QWidget):
    """Gone where there is nothing to choose. `choose` is given rank and step, `None` for the step of median length."""

    def __init__(self, choose: Callable[[int, int | None], object], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choose = choose
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.ranks, self.steps = QComboBox(self), QComboBox(self)
        self.names = QLabel(tr("Rank"), self), QLabel(tr("Step"), self)
        for label, box in zip(self.names, (self.ranks, self.steps), strict=True):
            label.setBuddy(box)
            box.setAccessibleName(label.text())
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
            row.addWidget(label)
            row.addWidget(box)
        self.ranks.activated.connect(lambda *_: self._choose(self.ranks.currentData(), None))
        self.steps.activated.connect(lambda *_: self._choose(self.ranks.currentData(), self.steps.currentData()))

    def show_document(self, document: Document) -> None:
        """Offer the ranks and steps of `document`, those that are compared chosen."""
        found, profile = document.comparison, document.profile
        self.setVisible(found is not None)
        if found is None or profile is None:
            return
        several = len(profile.ranks) > 1, len(found.steps) > 1
        for label, box, shown in zip(self.names, (self.ranks, self.steps), several, strict=True):
            label.setVisible(shown)
            box.setVisible(shown)
        with QSignalBlocker(self.ranks), QSignalBlocker(self.steps):
            self.ranks.clear()
            for rank in profile.ranks:
                self.ranks.addItem(str(rank), rank)
            self.ranks.setCurrentIndex(self.ranks.findData(found.rank))
            self.steps.clear()
            self.steps.addItem(tr("median"), None)
            for number in found.steps:
                self.steps.addItem(str(number), number)
            compared = document.compared_step
            if compared is None:
                self.steps.setItemText(0, f"{tr('median')} ({found.steps[found.place]})")
            self.steps.setCurrentIndex(0 if compared is None else self.steps.findData(compared))
