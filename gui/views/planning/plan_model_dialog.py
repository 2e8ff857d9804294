"""The dialog that asks which step of a published model to plan, on what: by hand, or like the open profile."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QVBoxLayout, QWidget

from memplan.core.options import words
from memplan.gui.i18n import tr
from memplan.gui.views.planning.plan_form import PlanForm
from memplan.requests.plan_request import PlanRequest


class PlanModelDialog(QDialog):
    """`chosen` is given the step that was asked for. Recent `models` are offered, and `profile` to plan like it."""

    def __init__(
        self,
        models: Sequence[Path],
        chosen: Callable[[PlanRequest], object],
        *,
        profile: Path | None = None,
        rank: int | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._chosen = chosen
        self.setWindowTitle(tr("Plan a model"))
        self.form = PlanForm(models, profile=profile, rank=rank, parent=self)
        self.form.changed.connect(self.adjustSize)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel, self)
        self.plan = self.buttons.addButton(tr("Plan"), QDialogButtonBox.ButtonRole.AcceptRole)
        self.plan.setDefault(True)
        self.copy = self.buttons.addButton(tr("Copy as command line"), QDialogButtonBox.ButtonRole.ActionRole)
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.command_line))
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        rows = QVBoxLayout(self)
        rows.addWidget(self.form)
        rows.addWidget(self.buttons)
        self.adjustSize()

    @property
    def command_line(self) -> str:
        """What to type for the same plan."""
        return shlex.join(["memplan", "plan", *words(self.form.request())])

    def accept(self) -> None:
        """Give the step to whoever asked."""
        super().accept()
        self._chosen(self.form.request())
