"""The KV budget: choose a model, an engine and a chip, move the sliders, and see at once what fits."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication, QResizeEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from memplan.core.errors import InputError, MemplanError
from memplan.core.sentence import Text
from memplan.core.units import format_bytes
from memplan.gui.i18n import say, tr
from memplan.gui.model.kv.kv_budget import Answer, BudgetLine, answer, answers, budget_headline, stack, warnings
from memplan.gui.model.kv.kv_further import Further, fitting_text, further, further_lines
from memplan.gui.model.kv.kv_offer import SAMPLE, offer
from memplan.gui.model.kv.kv_sheet import budget_sheet
from memplan.gui.model.palette import Palette
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.kv.kv_form import KvForm
from memplan.gui.views.kv.kv_pool_view import PoolView
from memplan.gui.views.kv.kv_stack import HbmStack
from memplan.gui.views.view import ViewServices
from memplan.gui.work.jobs import Jobs
from memplan.requests.kv_request import KvRequest

_FIRST_BATCH = 4
_FIRST_CONTEXT = 32768
_BESIDE_PX = 760
"""Pictures that have so much room stand beside each other."""
_HIGHEST_PX = 1000
_REST_MS = 250
"""So long after the last change the slower answers are asked for."""
_RECENT = 10


class KvBudgetView(QWidget):
    """
    The choosers at the left; the answer, the stack of HBM, the pool and all figures at the right.

    Pictures follow each change at once; figures that take longer are left to `jobs` when nothing has changed for a
    moment.
    `model_opened` gives the path of each model that was opened and could be read.
    """

    model_opened = Signal(object)

    def __init__(
        self,
        palette: Palette,
        jobs: Jobs,
        parent: QWidget | None = None,
        config: Path | None = None,
        *,
        models: Sequence[Path] = (),
    ) -> None:
        super().__init__(parent)
        self.colours = palette
        self.models = [path for path in models if path.exists()]
        self.found: Answer | None = None
        self.more: Further | None = None
        self._jobs = jobs
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._ask_further)
        self.form = KvForm(
            self.models, KvRequest((config or SAMPLE).absolute(), context=_FIRST_CONTEXT, batch=_FIRST_BATCH), self
        )
        self.form.changed.connect(self.evaluate)
        self.form.browse.connect(self.choose_model)
        self.stack = HbmStack(palette, self)
        self.pool = PoolView(palette, self)
        self.verdict = self._label()
        self.verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.verdict.linkActivated.connect(self.take_fitting)
        self.figures = self._label()
        self.notes = self._label()
        self.copy_button = QPushButton(tr("Copy as command line"), self)
        self.copy_button.clicked.connect(self.copy_command)
        self._lay_out()
        self.setAcceptDrops(True)
        self.form.set_palette(palette)
        self.evaluate()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view, of the sample's model; models that are opened in it are kept in the settings."""
        view = cls(services.palette, services.jobs, services.parent, models=services.settings.models)
        view.model_opened.connect(services.settings.model_opened)
        return view

    def _label(self) -> QLabel:
        label = QLabel(self)
        label.setWordWrap(True)
        label.setContentsMargins(8, 0, 0, 0)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        label.setTextFormat(Qt.TextFormat.RichText)
        return label

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setContentsMargins(0, 4, 8, 0)
        top.addWidget(self.verdict, 1)
        top.addWidget(self.copy_button)
        shown = QWidget(self)
        self.pictures = QBoxLayout(QBoxLayout.Direction.LeftToRight, shown)
        self.pictures.setContentsMargins(0, 0, 0, 8)
        self.pictures.addWidget(self.stack, 1, Qt.AlignmentFlag.AlignTop)
        figures = QVBoxLayout()
        figures.setContentsMargins(0, 0, 8, 0)
        figures.addWidget(self.pool)
        figures.addWidget(self.figures)
        figures.addWidget(self.notes)
        figures.addStretch(1)
        self.pictures.addLayout(figures, 1)
        self.right = self._scrolled(shown)
        self.left = self._scrolled(self.form)
        right = QVBoxLayout()
        right.setSpacing(2)
        right.addLayout(top)
        right.addWidget(self.right, 1)
        columns = QHBoxLayout(self)
        columns.setContentsMargins(0, 0, 0, 0)
        columns.addWidget(self.left)
        columns.addLayout(right, 1)

    def _scrolled(self, content: QWidget) -> QScrollArea:
        area = QScrollArea(self)
        area.setWidget(content)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        return area

    def minimumSizeHint(self) -> QSize:
        """Small: everything scrolls."""
        return QSize(480, 160)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Pictures beside each other where they have room, else under each other."""
        self.left.setFixedWidth(min(max(self.width() * 2 // 5, 250), 340))
        beside = self.width() - self.left.width() >= _BESIDE_PX
        self.pictures.setDirection(QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom)
        self.pictures.setStretch(0, 1 if beside else 0)
        self._fit_stack()
        super().resizeEvent(event)

    def _fit_stack(self) -> None:
        """As high a stack as there is to see at once, and all its labels."""
        seen = self.height() - self.copy_button.sizeHint().height() - 20
        self.stack.setFixedHeight(min(max(seen, self.stack.sizeHint().height()), _HIGHEST_PX))

    # -- models --------------------------------------------------------------------------------------------------

    def choose_model(self) -> None:
        """Ask for a config.json."""
        folder = str(self.models[0].parent) if self.models else ""
        name, _ = QFileDialog.getOpenFileName(self, tr("Open config.json …"), folder, "JSON (*.json)")
        if name:
            self.show_model(Path(name))

    def show_model(self, config: Path) -> None:
        """Budget the model of `config`, a config.json or its folder."""
        config = config.absolute()
        rest = [path for path in self.models if path != config]
        self.form.set_models([config, *rest], config)
        self.evaluate()
        if self.found is not None and config != SAMPLE:
            self.models = [config, *rest][:_RECENT]
            self.model_opened.emit(config)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take a single `config.json`; everything else is the window's."""
        if self._dropped(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Budget the model that was dropped."""
        config = self._dropped(event)
        if config is not None:
            event.acceptProposedAction()
            self.show_model(config)

    @staticmethod
    def _dropped(event: QDropEvent) -> Path | None:
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        return paths[0] if len(paths) == 1 and paths[0].name.endswith("config.json") else None

    # -- answering -----------------------------------------------------------------------------------------------

    @property
    def choice(self) -> KvRequest:
        """What is set at the moment."""
        return self.form.choice()

    def evaluate(self) -> None:
        """Show what follows from what is set."""
        self._rest.stop()
        self._jobs.drop(self)
        try:
            self.form.show_offer(offer(self.choice))
            self.found = answer(self.choice)
        except MemplanError as error:
            self._show_error(error)
            return
        result = self.found.result
        if self.more is not None and self.more.choice != self.found.choice:
            self.more = None
        self._say(budget_headline(self.found), "text" if self.found.enough else "warning")
        card = result.items[0].nbytes or 0
        self.stack.show_segments(stack(self.found), card, f"{result.chip} · {format_bytes(card)}")
        self._fit_stack()
        self.pool.show_pool(self.found.pool)
        self.copy_button.setEnabled(True)
        self._show_figures()
        self._rest.start()

    def _show_error(self, error: MemplanError) -> None:
        self.found = self.more = None
        text = error.said(tr)
        if isinstance(error, InputError) and error.path is not None:
            text = text.replace(str(error.path), error.path.name)  # the whole path is in the list of models
        self._say(text, "warning")
        self.stack.show_segments([])
        self.pool.show_pool(None)
        self.figures.clear()
        self.notes.clear()
        self.copy_button.setEnabled(False)

    def _say(self, words: Text, role: str) -> None:
        self._said = words, role
        colour = self.colours.css(role)
        text = f'<span style="color:{colour}; font-weight:600">{html.escape(say(words), quote=False)}</span>'
        if self.more is not None and self.more.fitting is not None:
            link = html.escape(tr("use {}").format(fitting_text(self.more.fitting)))
            text += f' &nbsp; <a href="fitting" style="color:{self.colours.css("accent")}">{link}</a>'
        self.verdict.setText(text)

    def take_fitting(self) -> None:
        """Take the layout that has room for what is wanted."""
        if self.more is not None and self.more.fitting is not None:
            self.form.set_ranks(self.more.fitting)

    def _ask_further(self) -> None:
        """Start on the slower answers."""
        if self.found is None:
            return
        choice = self.found.choice

        def show(more: Further) -> None:
            self.more = more
            self._say(*self._said)
            self._show_figures()

        self._jobs.latest(
            self,
            tr("KV budget"),
            lambda progress: further(choice, progress),
            show,
            failed=lambda line: self._say(line, "warning"),
        )

    # -- figures -------------------------------------------------------------------------------------------------

    def _lines(self) -> list[BudgetLine]:
        if self.found is None:
            return []
        lines = answers(self.found)
        if self.more is not None:
            lines += further_lines(self.more, self.found.case.model.max_positions)
        return lines

    def _show_figures(self) -> None:
        if self.found is None:
            return
        faint = self.colours.css("faint")
        rows = [
            f'<tr><td style="padding-right:12px">{html.escape(say(line.label), quote=False)}</td>'
            f'<td align="right" style="padding-right:12px"><b>{html.escape(say(line.value), quote=False)}</b></td>'
            f'<td style="color:{faint}">{html.escape(say(line.remark), quote=False)}</td></tr>'
            for line in self._lines()
        ]
        self.figures.setText(f'<table cellspacing="0" cellpadding="1">{"".join(rows)}</table>')
        warning = self.colours.css("warning")
        said = [
            f'<span style="color:{warning}">{html.escape(say(words), quote=False)}</span>'
            for words in warnings(self.found)
        ]
        notes = (*self.found.result.notes, *(self.more.notes if self.more is not None else ()))
        said += [html.escape(note, quote=False) for note in map(say, notes)]
        self.notes.setText("<br>".join(said))

    def copy_command(self) -> None:
        """Put the command line that prints the same budget on the clipboard."""
        QGuiApplication.clipboard().setText(self.choice.command_line)

    def sheet(self) -> Sheet:
        """All figures shown, or what is wrong with what is set."""
        if self.found is not None:
            return budget_sheet(self.found, self.more)
        return Sheet(
            ("part", "of", "figure", "value", "unit", "source"), [("error", "", "", str(self._said[0]), "", "")]
        )

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = self.stack.colours = self.pool.colours = palette
        self.form.set_palette(palette)
        self.stack.update()
        self.pool.update()
        self._say(*self._said)
        self._show_figures()
