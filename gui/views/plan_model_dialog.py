"""The dialog that asks which step of a published model to plan, on what: by hand, or like the open profile."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from memplan.core.options import words
from memplan.gui.i18n import tr
from memplan.gui.model.kv.kv_offer import SAMPLE, chip_names
from memplan.gui.views.kv.kv_inputs import DoublingSpin, RankGrid, fill
from memplan.models.precision import precision_names
from memplan.models.training.step_recipe import Schedule, Sharding
from memplan.requests.plan_request import PlanRequest

_PHASES = (("train", "Training step"), ("prefill", "Prefill step"), ("decode", "Decode step"))
_CONFIGS = "config.json (*.json)"
_TRAINING, _SERVED = "train", "serve"


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
        self._chosen, self._profile, self._rank = chosen, profile, rank
        self._rows: list[tuple[QWidget, str]] = []
        self.setWindowTitle(tr("Plan a model"))
        self._form = QFormLayout()
        self.model = QComboBox(self)
        self.model.setMinimumContentsLength(28)
        paths = [str(path) for path in dict.fromkeys([*models, SAMPLE])]
        fill(self.model, [(path, _shown(Path(path))) for path in paths], paths[0])
        self._form.addRow(tr("Model"), self.model)
        self.browse = QPushButton(tr("Open config.json …"), self)
        self.browse.clicked.connect(self._browse)
        self._form.addRow("", self.browse)
        self.like = QCheckBox(tr("As in the open profile"), self)
        self.like.setToolTip(
            tr("Layout, recipe, stage and chip are read from the profile, and each says what tells it")
        )
        self.like.setChecked(profile is not None)
        self.like.setVisible(profile is not None)
        self._form.addRow("", self.like)
        self.chip = QComboBox(self)
        fill(self.chip, chip_names(), "910B3")
        self._add(tr("Chip"), self.chip, "")
        self.phase = QComboBox(self)
        fill(self.phase, [(name, tr(text)) for name, text in _PHASES], _PHASES[0][0])
        self._add(tr("Step"), self.phase, "")
        self.ranks = RankGrid({}, self)
        self._add(tr("Layout"), self.ranks, "")
        self.stage = self._count(tr("Pipeline stage"), 0, 1023, 0, "")
        self.context = self._count(tr("Tokens of a sequence"), 1, 1 << 24, 4096, "")
        self.batch = self._count(tr("Sequences on all ranks"), 1, 1 << 20, 1, _SERVED)
        self.weights = QComboBox(self)
        fill(self.weights, [(name, name) for name in precision_names()], "published")
        self._add(tr("Weights"), self.weights, _SERVED)
        self.micro_batch = self._count(tr("Samples of a micro-batch"), 1, 1 << 16, 1, _TRAINING)
        self.global_batch = self._count(tr("Samples of a step"), 1, 1 << 20, 1, _TRAINING)
        self.sharding = QComboBox(self)
        fill(self.sharding, [(item.value, item.value) for item in Sharding], Sharding.DISTRIBUTED.value)
        self._add(tr("Sharing of states"), self.sharding, _TRAINING)
        self.schedule = QComboBox(self)
        fill(self.schedule, [(item.value, item.value) for item in Schedule], Schedule.ONE_F_ONE_B.value)
        self._add(tr("Pipeline schedule"), self.schedule, _TRAINING)
        self.recompute = self._count(tr("Layers computed again"), 0, 1023, 0, _TRAINING)
        self.sequence_parallel = QCheckBox(tr("Sequence parallel"), self)
        self._add("", self.sequence_parallel, "")
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel, self)
        self.plan = self.buttons.addButton(tr("Plan"), QDialogButtonBox.ButtonRole.AcceptRole)
        self.plan.setDefault(True)
        self.copy = self.buttons.addButton(tr("Copy as command line"), QDialogButtonBox.ButtonRole.ActionRole)
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.command_line))
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        rows = QVBoxLayout(self)
        rows.addLayout(self._form)
        rows.addWidget(self.buttons)
        for box in (self.model, self.chip, self.phase, self.weights, self.sharding, self.schedule):
            box.currentIndexChanged.connect(self._changed)
        for flag in (self.like, self.sequence_parallel):
            flag.toggled.connect(self._changed)
        self.ranks.changed.connect(self._changed)
        self._changed()

    def _add(self, label: str, widget: QWidget, step: str) -> None:
        """A row for the kind of step `step`, empty for all of them."""
        widget.setAccessibleName(label)
        self._form.addRow(label, widget)
        self._rows.append((widget, step))

    def _count(self, label: str, low: int, high: int, value: int, step: str) -> QSpinBox:
        box = DoublingSpin(low, high, self)
        box.setGroupSeparatorShown(True)
        box.setValue(value)
        box.valueChanged.connect(self._changed)
        self._add(label, box, step)
        return box

    def _changed(self) -> None:
        """Show the rows that the step has."""
        like = self.like.isChecked()
        kind = _TRAINING if self.phase.currentData() == _TRAINING else _SERVED
        for widget, step in self._rows:
            self._form.setRowVisible(widget, not like and step in ("", kind))
        self.adjustSize()

    def _browse(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, tr("Open config.json"), "", _CONFIGS)
        if name:
            self.show_model(Path(name))

    def show_model(self, path: Path) -> None:
        """Choose the model at `path`."""
        if self.model.findData(str(path)) < 0:
            self.model.insertItem(0, _shown(path), str(path))
        self.model.setCurrentIndex(self.model.findData(str(path)))

    @property
    def command_line(self) -> str:
        """What to type for the same plan."""
        return shlex.join(["memplan", "plan", *words(self.request())])

    def request(self) -> PlanRequest:
        """What is asked for now."""
        source = Path(str(self.model.currentData()))
        if self.like.isChecked():
            return PlanRequest(source, like=str(self._profile), rank=self._rank)
        training = self.phase.currentData() == _TRAINING
        shared = {
            **self.ranks.values(),
            "chip": self.chip.currentData(),
            "phase": self.phase.currentData(),
            "stage": self.stage.value(),
            "context": self.context.value(),
            "sequence_parallel": self.sequence_parallel.isChecked(),
        }
        if not training:
            return PlanRequest(source, batch=self.batch.value(), weights=self.weights.currentData(), **shared)
        return PlanRequest(
            source,
            micro_batch=self.micro_batch.value(),
            global_batch=self.global_batch.value(),
            sharding=self.sharding.currentData(),
            schedule=self.schedule.currentData(),
            recompute_layers=self.recompute.value(),
            **shared,
        )

    def accept(self) -> None:
        """Give the step to whoever asked."""
        super().accept()
        self._chosen(self.request())


def _shown(path: Path) -> str:
    """A model by its folder, or by the name of its file."""
    return path.parent.name if path.name == "config.json" else path.stem
