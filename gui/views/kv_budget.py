"""The KV budget: choose a model, a chip and an engine, move the context, and see at once what is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QFontMetrics, QGuiApplication, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QSpinBox,
    QWidget,
)

from memplan.errors import MemplanError
from memplan.gui.i18n import tr
from memplan.gui.model.kv_budget import KV_TYPES, WEIGHT_TYPES, KvChoice, Segment, answers, evaluate, stack
from memplan.gui.model.palette import Palette
from memplan.hardware import chips
from memplan.kv import KvBudget, engines

_LOG_STEPS = 16
_SHORTEST, _LONGEST = 10, 20  # powers of two of the context slider
_DELAY_MS = 60


class HbmStack(QWidget):
    """HBM from the card's size down as one bar, each part to scale with its name and size beside it."""

    def __init__(self, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.segments: list[Segment] = []
        self.setMinimumHeight(180)

    def show_segments(self, segments: list[Segment]) -> None:
        """Draw other parts."""
        self.segments = segments
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """The bar, and a line of text for every part, kept apart from each other."""
        painter = QPainter(self)
        metrics = QFontMetrics(self.font())
        total = sum(part.nbytes for part in self.segments)
        top, height, width = 6.0, self.height() - 12.0, 70.0
        y = top
        last_text = -1e9
        colours = [self.colours.kind("weight"), *(c for c in self.colours.colours if c != self.colours.kind("weight"))]
        for place, part in reversed(list(enumerate(self.segments))):
            share = height * part.nbytes / total if total else 0.0
            colour = colours[place % len(colours)]
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colour >> 16 & 255, colour >> 8 & 255, colour & 255))
            painter.drawRect(QRectF(8, y, width, max(share, 1.0 if part.nbytes else 0.0)))
            text_y = max(y + share / 2 + metrics.ascent() / 2, last_text + metrics.height())
            painter.setPen(QColor(self.colours.css("text")))
            painter.drawText(int(width + 18), int(text_y), f"{part.text}  {tr(part.name)}")
            last_text = text_y
            y += share
        painter.end()


class KvBudgetView(QWidget):
    """The choices at the left, the stack and the answers at the right; both follow a moment after each change."""

    failed = Signal(str)

    def __init__(self, palette: Palette, parent: QWidget | None = None, config: Path | None = None) -> None:
        super().__init__(parent)
        self.choice: KvChoice | None = KvChoice(config) if config is not None else None
        self.result: KvBudget | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.evaluate)
        self._make_choices()
        self.stack = HbmStack(palette, self)
        self.text = QLabel(self)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setWordWrap(True)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        rows = QHBoxLayout(self)
        left = QWidget(self)
        left.setLayout(self._form)
        left.setMaximumWidth(330)
        rows.addWidget(left)
        rows.addWidget(self.stack, 1)
        rows.addWidget(self.text, 1)
        self.evaluate()

    def _make_choices(self) -> None:
        self.model_button = QPushButton(tr("Choose config.json …"), self)
        self.model_button.clicked.connect(self.choose_model)
        self.chip = self._list([item.name.removeprefix("Ascend") for item in chips() if item.hbm_bytes], "910B3")
        self.engine = self._list(["vllm-ascend", *(item.name for item in engines())], "vllm-ascend")
        self.tp, self.ep, self.dp = (self._number(1, 1024) for _ in range(3))
        self.context = QSlider(Qt.Orientation.Horizontal, self)
        self.context.setRange(_SHORTEST * _LOG_STEPS, _LONGEST * _LOG_STEPS)
        self.context.setValue(15 * _LOG_STEPS)
        self.context.valueChanged.connect(self._changed)
        self.context_label = QLabel(self)
        self.batched = self._number(0, 1 << 20)
        self.batched.setSpecialValueText(tr("engine's default"))
        self.batched.setSingleStep(1024)
        self.kv = self._list(list(KV_TYPES), "")
        self.kv.setItemText(0, tr("engine's default"))
        self.weights = self._list(list(WEIGHT_TYPES), "published")
        self.copy = QPushButton(tr("Copy as command line"), self)
        self.copy.clicked.connect(self.copy_command)
        self._form = QFormLayout()
        for label, widget in (
            ("Model", self.model_button),
            ("Chip", self.chip),
            ("Engine", self.engine),
            ("TP", self.tp),
            ("EP", self.ep),
            ("DP", self.dp),
            ("Context", self.context),
            ("", self.context_label),
            ("Tokens of a step", self.batched),
            ("KV type", self.kv),
            ("Weights", self.weights),
            ("", self.copy),
        ):
            self._form.addRow(tr(label) if label else "", widget)

    def _list(self, names: list[str], chosen: str) -> QComboBox:
        box = QComboBox(self)
        box.addItems(names)
        box.setCurrentText(chosen)
        box.currentIndexChanged.connect(self._changed)
        return box

    def _number(self, low: int, high: int) -> QSpinBox:
        box = QSpinBox(self)
        box.setRange(low, high)
        box.valueChanged.connect(self._changed)
        return box

    @property
    def tokens(self) -> int:
        """The context that the slider stands at, a multiple of 128."""
        return max(round(2 ** (self.context.value() / _LOG_STEPS) / 128), 1) * 128

    def choose_model(self) -> None:
        """Ask for a config.json."""
        name, _ = QFileDialog.getOpenFileName(self, tr("Choose config.json …"), "", "JSON (*.json)")
        if name:
            self.show_model(Path(name))

    def show_model(self, config: Path) -> None:
        """Budget the model of `config`."""
        self.choice = KvChoice(config)
        self.evaluate()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.stack.colours = palette
        self.stack.update()

    def _changed(self) -> None:
        self._timer.start()

    def evaluate(self) -> None:
        """Read the choices and show what follows from them."""
        self.context_label.setText(f"{self.tokens:,} {tr('tokens')}")
        self.copy.setEnabled(self.choice is not None)
        if self.choice is None:
            self.text.setText(tr("Choose a model's config.json to budget its KV cache."))
            return
        self.choice = replace(
            self.choice,
            chip=self.chip.currentText(),
            engine=self.engine.currentText(),
            tp=self.tp.value(),
            ep=self.ep.value(),
            dp=self.dp.value(),
            context=self.tokens,
            batched_tokens=self.batched.value() or None,
            kv_dtype=KV_TYPES[self.kv.currentIndex()],
            weights=self.weights.currentText(),
        )
        self.model_button.setText(self.choice.config.parent.name + "/" + self.choice.config.name)
        try:
            self.result = evaluate(self.choice)
        except MemplanError as error:
            self.result = None
            self.stack.show_segments([])
            self.text.setText(str(error))
            self.failed.emit(str(error))
            return
        self.stack.show_segments(stack(self.result))
        lines = [f"{tr(label)}: {value}" for label, value in answers(self.result)]
        self.text.setText("\n".join([*lines, "", *self.result.notes]))

    def copy_command(self) -> None:
        """Put the command line that prints the same budget on the clipboard."""
        if self.choice is not None:
            QGuiApplication.clipboard().setText(self.choice.command)
