"""What is set of a KV budget: model, engine, chip, context and layout, and under More every other option."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from memplan.gui.i18n import tr
from memplan.gui.model.kv.kv_offer import (
    SAMPLE,
    Offer,
    batch_steps,
    chip_names,
    context_steps,
    engine_versions,
)
from memplan.gui.model.palette import Palette
from memplan.gui.views.kv.kv_inputs import BALANCED_EXPERTS, DoublingSpin, RankGrid, StepSlider, WheelGuard, fill
from memplan.kv.collective_buffers import HCCL_BUFFER_MB
from memplan.kv.engine import DEFAULT_SEQUENCES
from memplan.models.precision import PUBLISHED, precision_names
from memplan.requests.kv_request import KvRequest

_WIDTH, _FIELD = 330, 150
_COUNTS = (
    ("block_size", "Block size", "Tokens of a block", 0, 1 << 16, 16),
    ("batched_tokens", "Tokens of a step", "Most tokens of one step (max_num_batched_tokens)", 0, 1 << 20, 1024),
    ("step_sequences", "Sequences of a step", "Most sequences of one step (max_num_seqs)", 1, 1 << 16, 1),
    ("draft_tokens", "Draft tokens", "Speculative tokens by the model's own multi-token prediction", 0, 64, 1),
    ("hccl_buffer_mb", "HCCL buffer (MB)", "Size of each communicator's buffer (HCCL_BUFFSIZE)", 1, 1 << 16, 1),
)
_UNASKED = {"step_sequences": DEFAULT_SEQUENCES, "hccl_buffer_mb": HCCL_BUFFER_MB}
"""What the engine takes of counts that are not given; 0 stands for it in the others."""
_SIZES = (
    ("hbm", "Card", "Size of the card in place of the chip's own", "64GiB"),
    ("activations", "Activations", "Peak of activations in place of the estimate", "4GiB"),
    ("graphs", "Graphs", "Memory of captured graphs, as measured on a first start", "2GiB"),
    ("host_memory", "Host memory", "Also say what so much host memory of a die adds", "256GiB"),
    ("pooled_memory", "Pooled memory", "Also say what so much memory of a UB pool adds to a die", "1TiB"),
)
_FLAGS = (
    (
        "asynchronous",
        "Asynchronous scheduling",
        "Steps are scheduled ahead; half ticked: the engine's default",
    ),
    ("index_c8", "Indexer in 8 bits", "Keys of the indexer are kept in 8 bits"),
    ("even_routing", *BALANCED_EXPERTS),
    ("effects", "Compare other options", "Also say what other block sizes, batches and KV types would do"),
)

_OPEN_FLAGS = {"asynchronous"}
"""Those that may be left to the engine."""


class KvForm(QWidget):
    """The choosers; `changed` follows each change, `browse` the wish for another file."""

    changed = Signal()
    browse = Signal()

    def __init__(self, models: Sequence[Path], choice: KvRequest, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._guard = WheelGuard(self)
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setVerticalSpacing(4)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(8, 6, 8, 6)
        rows.setSpacing(4)
        rows.addLayout(self._form)
        self._make_main(choice)
        self.more_button = QToolButton(self)
        self.more_button.setText(tr("More"))
        self.more_button.setCheckable(True)
        self.more_button.setAutoRaise(True)
        self.more_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more_button.setArrowType(Qt.ArrowType.RightArrow)
        self.more_button.toggled.connect(self._show_more)
        rows.addWidget(self.more_button)
        self.more = QWidget(self)
        self._make_more(choice)
        self.more.hide()
        rows.addWidget(self.more)
        rows.addStretch(1)
        self.setMaximumWidth(_WIDTH)
        self.set_models([choice.config, *models], choice.config)

    # -- making --------------------------------------------------------------------------------------------------

    def _make_main(self, choice: KvRequest) -> None:
        self.model = self._box("Model", "The model whose cache is budgeted: a config.json as published")
        self.open_button = QPushButton(tr("Open config.json …"), self)
        self.open_button.clicked.connect(self.browse)
        self._form.addRow("", self.open_button)
        self.chip = self._box("Chip", "The chip, with the memory of one die")
        fill(self.chip, chip_names(), choice.chip)
        self.engine = self._box("Engine", "The serving engine; logical counts what the model must keep, without pages")
        self._versions = engine_versions()
        fill(self.engine, [(name, name) for name in self._versions], choice.engine)
        self.version = self._box("Version", "The engine's version and the generation of chips it is for")
        self._fill_versions()
        self.context = self._slider("Context", "Longest sequence in tokens", context_steps(1), choice.context or 1)
        self.batch = self._slider("Batch", "Sequences wanted at once on one rank", batch_steps(), choice.batch or 1)
        grid = RankGrid({}, self)
        grid.changed.connect(self.changed)
        self.ranks = grid.boxes
        self._guard.guard(*self.ranks.values())
        self._form.addRow(grid)
        self.weights = self._box("Weights", "How the weights are stored")
        names = [(name, tr("as published") if name == PUBLISHED else name) for name in precision_names()]
        fill(self.weights, names, choice.weights)
        self.kv = self._box("KV cache", "The type that the engine keeps the cache in")
        fill(self.kv, [("", tr("engine's default"))], "")

    def _make_more(self, choice: KvRequest) -> None:
        form = QFormLayout(self.more)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        self.counts: dict[str, DoublingSpin] = {}
        for name, label, what, low, high, first in _COUNTS:
            box = self.counts[name] = DoublingSpin(low, high, self.more, first)
            box.setMinimumWidth(_FIELD)
            box.setValue(getattr(choice, name) or _UNASKED.get(name, 0))
            box.setGroupSeparatorShown(True)
            box.valueChanged.connect(self.changed)
            form.addRow(tr(label), self._prepare(box, label, what))
        self.utilization = QDoubleSpinBox(self.more)
        self.utilization.setMinimumWidth(_FIELD)
        self.utilization.setRange(0.0, 1.0)
        self.utilization.setSingleStep(0.01)
        self.utilization.valueChanged.connect(self.changed)
        what = "Share of the memory that the engine plans with"
        form.addRow(tr("Utilisation"), self._prepare(self.utilization, "Utilisation", what))
        self.sizes: dict[str, QLineEdit] = {}
        for name, label, what, example in _SIZES:
            line = self.sizes[name] = QLineEdit(self.more)
            line.setPlaceholderText(tr("such as {}").format(example))
            line.textChanged.connect(self.changed)
            form.addRow(tr(label), self._prepare(line, label, what))
        self.flags: dict[str, QCheckBox] = {}
        for name, label, what in _FLAGS:
            flag = self.flags[name] = QCheckBox(tr(label), self.more)
            if name in _OPEN_FLAGS:
                flag.setTristate(True)
                flag.setCheckState(Qt.CheckState.PartiallyChecked)
            flag.checkStateChanged.connect(self.changed)
            form.addRow(self._prepare(flag, label, what))

    def _prepare(self, widget: QWidget, label: str, what: str) -> QWidget:
        widget.setToolTip(tr(what))
        widget.setAccessibleName(tr(label))
        self._guard.guard(widget)
        return widget

    def _box(self, label: str, what: str) -> QComboBox:
        box = QComboBox(self)
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(8)
        box.setMaxVisibleItems(20)
        box.currentIndexChanged.connect(self.changed)
        self._form.addRow(tr(label), self._prepare(box, label, what))
        return box

    def _slider(self, label: str, what: str, stops: Sequence[int], value: int) -> StepSlider:
        made = StepSlider(tr(label), stops, value, self)
        made.setToolTip(tr(what))
        made.changed.connect(self.changed)
        self._guard.guard(made.slider, made.field)
        self._form.addRow(tr(label), made)
        return made

    # -- what is chosen ------------------------------------------------------------------------------------------

    def choice(self) -> KvRequest:
        """All that is set."""
        self._fill_versions()
        ranks = {name: box.value() for name, box in self.ranks.items()}
        values = ((name, box.value()) for name, box in self.counts.items())
        counts = {name: None if value == _UNASKED.get(name, 0) else value for name, value in values}
        sizes = {name: line.text().strip() or None for name, line in self.sizes.items()}
        flags = {name: flag.isChecked() for name, flag in self.flags.items()}
        return KvRequest(
            config=Path(self.model.currentData()),
            chip=self.chip.currentData(),
            engine=self.version.currentData(),
            tp=ranks["tp"],
            pp=ranks["pp"],
            dp=ranks["dp"],
            ep=ranks["ep"],
            cp=ranks["cp"],
            context=self.context.value(),
            batch=self.batch.value(),
            block_size=counts["block_size"],
            batched_tokens=counts["batched_tokens"],
            step_sequences=counts["step_sequences"],
            asynchronous=_open_or_set(self.flags["asynchronous"]),
            kv_dtype=self.kv.currentData() or None,
            draft_tokens=counts["draft_tokens"] or 0,
            index_c8=flags["index_c8"],
            weights=self.weights.currentData(),
            utilization=round(self.utilization.value(), 2) or None,
            hbm=sizes["hbm"],
            activations=sizes["activations"],
            graphs=sizes["graphs"],
            hccl_buffer_mb=counts["hccl_buffer_mb"],
            host_memory=sizes["host_memory"],
            pooled_memory=sizes["pooled_memory"],
            even_routing=flags["even_routing"],
            effects=flags["effects"],
        )

    def set_ranks(self, choice: KvRequest) -> None:
        """Take the layout of `choice`, in one change."""
        for name, box in self.ranks.items():
            with QSignalBlocker(box):
                box.setValue(getattr(choice, name))
        self.changed.emit()

    def set_palette(self, palette: Palette) -> None:
        """Boxes to tick have an outline that is seen on any ground."""
        line, ground, accent = (palette.css(role) for role in ("faint", "base", "accent"))
        size = "width: 12px; height: 12px"
        for flag in self.flags.values():
            flag.setStyleSheet(
                f"QCheckBox::indicator {{ border: 1px solid {line}; background: {ground}; {size} }}"
                f"QCheckBox::indicator:checked {{ background: {accent} }}"
            )

    def set_models(self, models: Sequence[Path], chosen: Path) -> None:
        """Offer other models besides the bundled one, each once."""
        kept = list(dict.fromkeys(str(path) for path in [*models, SAMPLE]))
        fill(self.model, [(path, _model_text(Path(path))) for path in kept], str(chosen))
        for place, path in enumerate(kept):
            self.model.setItemData(place, path, Qt.ItemDataRole.ToolTipRole)

    def show_offer(self, offer: Offer) -> None:
        """Leave only what the model and the engine take; what they don't goes back to the engine's default."""
        self.context.set_stops(context_steps(offer.positions))
        default = tr("engine's default")
        types = offer.kv_types
        shown = f"{default}: {offer.default_kv}" if offer.default_kv in types else default
        fill(self.kv, [("", shown), *((name, name) for name in types)], self.kv.currentData())
        for name, value in (("block_size", offer.default_block), ("batched_tokens", offer.batched_tokens)):
            self.counts[name].setSpecialValueText(f"{default}: {value:,}")
        self.utilization.setSpecialValueText(f"{default}: {offer.utilization:g}")
        sizes = ", ".join(f"{size:,}" for size in offer.block_sizes)
        self.counts["block_size"].setToolTip(f"{tr('Tokens of a block')}: {sizes}")
        if self.version.itemData(0) == self.engine.currentData() and self.version.count() > 1:
            engine = offer.engine.removeprefix(f"{self.engine.currentData()}-")
            self.version.setItemText(
                0, tr("for the chip: {}").format(engine) if not self.version.currentIndex() else ""
            )
        for widget, useful in (
            (self.counts["draft_tokens"], offer.has_drafts),
            (self.flags["index_c8"], offer.has_indexer),
            (self.flags["even_routing"], offer.has_experts),
            (self.ranks["ep"], offer.has_experts),
        ):
            self._enable(widget, useful)

    @staticmethod
    def _enable(widget: QWidget, useful: bool) -> None:
        """Grey `widget` where it makes no difference, at what says nothing."""
        widget.setEnabled(useful)
        if useful:
            return
        with QSignalBlocker(widget):
            if isinstance(widget, QCheckBox):
                widget.setChecked(False)
            elif isinstance(widget, DoublingSpin):
                widget.setValue(widget.minimum())

    def _fill_versions(self) -> None:
        rows = self._versions[self.engine.currentData()]
        if [self.version.itemData(place) for place in range(self.version.count())] != [name for name, _ in rows]:
            fill(self.version, [(name, text or tr("for the chip")) for name, text in rows], "")
            self.version.setEnabled(len(rows) > 1)

    def _show_more(self, shown: bool) -> None:
        self.more.setVisible(shown)
        self.more_button.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)


def _open_or_set(flag: QCheckBox) -> bool | None:
    """Whether a box of three states is ticked, `None` where that is left to the engine."""
    return None if flag.checkState() is Qt.CheckState.PartiallyChecked else flag.isChecked()


def _model_text(path: Path) -> str:
    """A model's name in the list: its folder where the file is called config.json like all others."""
    if path == SAMPLE:
        return tr("Sample: 8 B parameters")
    if path.name == "config.json" and path.parent.name:
        return path.parent.name
    return path.stem
