"""What is asked of a plan: the model or graph, the chip, and of a model its layout and step, or the open profile's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QPushButton, QSpinBox, QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.kv.kv_offer import SAMPLE, chip_names
from memplan.gui.model.planning.plan_answer import source_name
from memplan.gui.model.session.open_request import PLAN_PATTERNS, kind_of_path
from memplan.gui.views.kv.kv_inputs import BALANCED_EXPERTS, DoublingSpin, RankGrid, fill
from memplan.models.precision import precision_names
from memplan.models.training.recipe_choices import Schedule, Sharding
from memplan.requests.plan_request import PlanRequest

_PHASES = (("train", "Training step"), ("prefill", "Prefill step"), ("decode", "Decode step"))
_CONFIGS = "config.json (*.json)"
_TRAINING, _SERVED, _ANY_STEP, _ALWAYS = "train", "serve", "step", ""


class PlanForm(QWidget):
    """
    The rows of the form; `changed` follows each change. `profile` is the open one, of which `rank` is shown.

    Of a graph only the chip is asked; a graph can be chosen where `graphs` is set.
    """

    changed = Signal()

    def __init__(
        self,
        sources: Sequence[Path],
        *,
        profile: Path | None = None,
        rank: int | None = None,
        graphs: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._graphs = graphs
        self._rows: list[tuple[QWidget, str]] = []
        self._graph_sources: dict[str, bool] = {}
        self.form = QFormLayout(self)
        self.form.setContentsMargins(0, 0, 0, 0)
        self.model = QComboBox(self)
        self.model.setMinimumContentsLength(28 if not graphs else 18)
        paths = [str(path) for path in dict.fromkeys([*sources, SAMPLE])]
        fill(self.model, [(path, source_name(Path(path))) for path in paths], paths[0])
        self.form.addRow(tr("Model or graph") if graphs else tr("Model"), self.model)
        self.browse = QPushButton(tr("Open model or graph …") if graphs else tr("Open config.json …"), self)
        self.browse.clicked.connect(self._browse)
        self.form.addRow("", self.browse)
        self.like = QCheckBox(tr("As in the open profile"), self)
        self.like.setToolTip(
            tr("Layout, recipe, stage and chip are read from the profile, and each says what tells it")
        )
        self.form.addRow("", self.like)
        self.chip = QComboBox(self)
        fill(self.chip, chip_names(), "910B3")
        self._add(tr("Chip"), self.chip, _ALWAYS)
        self.phase = QComboBox(self)
        fill(self.phase, [(name, tr(text)) for name, text in _PHASES], _PHASES[0][0])
        self._add(tr("Step"), self.phase, _ANY_STEP)
        self.ranks = RankGrid({}, self)
        self._add(tr("Layout"), self.ranks, _ANY_STEP)
        self.stage = self._count(tr("Pipeline stage"), 0, 1023, 0, _ANY_STEP)
        self.context = self._count(tr("Tokens of a sequence"), 1, 1 << 24, 4096, _ANY_STEP)
        self.batch = self._count(tr("Sequences on all ranks"), 1, 1 << 20, 1, _SERVED)
        self.weights = QComboBox(self)
        fill(self.weights, [(name, name) for name in precision_names()], "published")
        self._add(tr("Weights"), self.weights, _SERVED)
        label, what = map(tr, BALANCED_EXPERTS)
        self.even_routing = QCheckBox(label, self)
        self.even_routing.setToolTip(what)
        self._add("", self.even_routing, _SERVED)
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
        self._add("", self.sequence_parallel, _ANY_STEP)
        self.show_profile(profile, rank)
        for box in (self.model, self.chip, self.phase, self.weights, self.sharding, self.schedule):
            box.currentIndexChanged.connect(self._changed)
        for flag in (self.like, self.sequence_parallel, self.even_routing):
            flag.toggled.connect(self._changed)
        self.ranks.changed.connect(self._changed)

    def show_profile(self, profile: Path | None, rank: int | None) -> None:
        """Offer to plan like `profile`, or like nothing; it is what is chosen first."""
        self.profile, self._rank = profile, rank
        self.like.setChecked(profile is not None)
        self._show_rows()

    def _add(self, label: str, widget: QWidget, step: str) -> None:
        """A row for the kind of step `step`, empty for all of them."""
        widget.setAccessibleName(label)
        self.form.addRow(label, widget)
        self._rows.append((widget, step))

    def _count(self, label: str, low: int, high: int, value: int, step: str) -> QSpinBox:
        box = DoublingSpin(low, high, self)
        box.setGroupSeparatorShown(True)
        box.setValue(value)
        box.valueChanged.connect(self._changed)
        self._add(label, box, step)
        return box

    @property
    def source(self) -> Path:
        """The model or graph."""
        return Path(str(self.model.currentData()))

    @property
    def of_graph(self) -> bool:
        """Whether a graph is chosen, which knows its own step."""
        path = str(self.model.currentData())
        if path not in self._graph_sources:
            kind = kind_of_path(Path(path)) if self._graphs else None
            self._graph_sources[path] = kind is not None and kind.is_graph
        return self._graph_sources[path]

    def _changed(self) -> None:
        self._show_rows()
        self.changed.emit()

    def _show_rows(self) -> None:
        """Show the rows that the step has."""
        graph = self.of_graph
        like = self.like.isChecked() and not graph
        self.form.setRowVisible(self.like, self.profile is not None and not graph)
        kind = _TRAINING if self.phase.currentData() == _TRAINING else _SERVED
        for widget, step in self._rows:
            shown = step == _ALWAYS or (not graph and step in (_ANY_STEP, kind))
            self.form.setRowVisible(widget, shown and not like)

    def _browse(self) -> None:
        title, kinds = tr("Open config.json"), _CONFIGS
        if self._graphs:
            title, kinds = tr("Open model or graph …"), f"{tr('Plans and graphs')} ({PLAN_PATTERNS})"
        name, _ = QFileDialog.getOpenFileName(self, title, "", kinds)
        if name:
            self.show_source(Path(name))

    def show_source(self, path: Path) -> None:
        """Choose the model or graph at `path`."""
        if self.model.findData(str(path)) < 0:
            self.model.insertItem(0, source_name(path), str(path))
        self.model.setCurrentIndex(self.model.findData(str(path)))

    def request(self) -> PlanRequest:
        """What is asked for now."""
        source = self.source
        if self.of_graph:
            return PlanRequest(source, chip=self.chip.currentData())
        if self.like.isChecked():
            return PlanRequest(source, like=str(self.profile), rank=self._rank)
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
            return PlanRequest(
                source,
                batch=self.batch.value(),
                weights=self.weights.currentData(),
                even_routing=self.even_routing.isChecked(),
                **shared,
            )
        return PlanRequest(
            source,
            micro_batch=self.micro_batch.value(),
            global_batch=self.global_batch.value(),
            sharding=self.sharding.currentData(),
            schedule=self.schedule.currentData(),
            recompute_layers=self.recompute.value(),
            **shared,
        )
