"""The kernel view: how the selected op uses an AI core, predicted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from memplan.core.errors import MemplanError
from memplan.core.progress import Progress
from memplan.gui.i18n import say, tr
from memplan.gui.model.kernel.kernel_facts import HINT, UNASKED, KernelFacts, kernel_sheet
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import OpRef, Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.kernel.kernel_buffers import BufferMaps
from memplan.gui.views.kernel.kernel_pipes import PipeBars
from memplan.gui.views.kernel.kernel_words import difference_text, time_text
from memplan.gui.views.view import ViewServices
from memplan.gui.work.jobs import Jobs
from memplan.hardware import chips

_SIDE_BY_SIDE = 960
"""Pixels from which pipes and words stand beside the maps instead of above them."""
_SOFT_BREAK = "\u200b"


class KernelView(QWidget):
    """
    Follows the session's item while it can be seen; `jobs` do work off the interface's thread.

    Working a kernel out compiles and searches on first use, so the view only ever draws what is ready.
    """

    def __init__(
        self,
        session: Session,
        palette: Palette,
        jobs: Jobs,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.session = session
        self.colours = palette
        self.facts = KernelFacts()
        self._jobs = jobs
        self._stale = True
        self._make_parts()
        self._listener = session.selected_changed.connect(self.show_selected)
        self._draw()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services.session, services.palette, services.jobs, services.parent)

    def _make_parts(self) -> None:
        self.head, self.words = QLabel(self), QLabel(self)
        for label in (self.head, self.words):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.RichText)
            label.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
            label.setMargin(4)
            label.setMinimumWidth(0)
        self.chip_label = QLabel(tr("Chip"), self)
        self.chip_box = QComboBox(self)
        self.chip_box.setAccessibleName(tr("Chip"))
        self.chip_box.addItem(tr("not known"), None)
        for item in chips():
            if item.hbm_bytes is not None:
                self.chip_box.addItem(item.name, item.name)
        self.chip_box.activated.connect(self._chip_chosen)
        choice = QHBoxLayout()
        choice.setContentsMargins(8, 0, 8, 0)
        choice.addWidget(self.chip_label)
        choice.addWidget(self.chip_box)
        choice.addStretch(1)
        self.pipes = PipeBars(self.colours, self)
        self.maps = BufferMaps(self.colours, self)
        left = QVBoxLayout()
        left.setSpacing(4)
        left.addWidget(self.pipes)
        left.addWidget(self.words)
        left.addStretch(1)
        self.sides = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        self.sides.setSpacing(8)
        self.sides.addLayout(left, 4)
        self.sides.addWidget(self.maps, 6, Qt.AlignmentFlag.AlignTop)
        self.page = QWidget(self)
        self.page.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        stacked = QVBoxLayout(self.page)
        stacked.setContentsMargins(4, 2, 4, 4)
        stacked.setSpacing(4)
        stacked.addWidget(self.head)
        stacked.addLayout(choice)
        stacked.addLayout(self.sides)
        stacked.addStretch(1)
        self.area = QScrollArea(self)
        self.area.setFrameShape(QFrame.Shape.NoFrame)
        self.area.setWidgetResizable(True)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.area.setWidget(self.page)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self.area)

    # -- the session ---------------------------------------------------------------------------------------------

    def show_session(self, session: Session) -> None:
        """Follow another session."""
        self.forget()
        self.session = session
        self._listener = session.selected_changed.connect(self.show_selected)
        self.show_selected()

    def forget(self) -> None:
        """Stop listening to the session."""
        self._jobs.drop(self)
        self.session.selected_changed.disconnect(self._listener)

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self.pipes.set_palette(palette)
        self.maps.set_palette(palette)
        self._draw()

    def sheet(self) -> Sheet:
        """The kernel, its pipes and its buffers."""
        return kernel_sheet(self.facts)

    def show_selected(self) -> None:
        """Work out what is selected now, or as soon as the view can be seen."""
        self._stale = True
        self._jobs.drop(self)
        if self.isVisible():
            self._work_out()

    def showEvent(self, event: QShowEvent) -> None:
        """Catch up with what was selected meanwhile."""
        super().showEvent(event)
        if self._stale:
            self._work_out()

    def _work_out(self) -> None:
        self._stale = False
        session, item = self.session, self.session.selected
        if session.document.empty:
            self._show_facts(KernelFacts())
            return
        step = session.planned_op_of(item)
        wanted = OpRef(step) if step is not None else item
        chip = self.chip_box.currentData()

        def work(progress: Progress) -> KernelFacts:
            # The model takes a good part of a second to import, which is not to be spent on the interface's thread.
            from memplan.gui.model.kernel.kernel_analysis import kernel_facts

            try:
                if session.document.rank is not None:
                    session.document.rank.kernels(progress)
                return kernel_facts(session, chip, item=wanted)
            except MemplanError as error:
                return KernelFacts(problem=error.sentence)

        self._jobs.latest(self, tr("Kernel"), work, self._show_facts)

    def _chip_chosen(self, _: int) -> None:
        self.show_selected()

    # -- drawing -------------------------------------------------------------------------------------------------

    def _show_facts(self, facts: KernelFacts) -> None:
        another = facts.name != self.facts.name
        self.facts = facts
        self._draw()
        if another:
            self.area.verticalScrollBar().setValue(0)

    def _draw(self) -> None:
        facts = self.facts
        self.head.setText(self._head_html())
        for widget in (self.chip_label, self.chip_box):
            widget.setVisible(facts.wants_chip)
        self.pipes.show_facts(facts)
        self.maps.show_facts(facts)
        words = self._sections(
            (
                ("Tiling", [say(sentence) for sentence in facts.tiling]),
                ("Stages", self._stages()),
                ("Traffic", [say(sentence) for sentence in facts.traffic]),
                ("Roofline", [say(sentence) for sentence in facts.roofline]),
                ("Notes", [say(sentence) for sentence in facts.notes]),
            )
        )
        self.words.setText(words)
        self.words.setVisible(bool(words))

    def _head_html(self) -> str:
        facts, faint = self.facts, self.colours.css("faint")
        if not facts.name:
            reason = say(facts.problem) if facts.problem is not None else tr(HINT)
            return f'<p style="color:{faint}">{escape(reason)}</p>'
        name = escape(facts.name).replace("/", "/" + _SOFT_BREAK).replace("_", "_" + _SOFT_BREAK)
        lines = [f"<b>{name}</b>"]
        if facts.unasked:
            lines.insert(0, f'<span style="color:{faint}">{escape(tr(UNASKED))}</span>')
        kind = " · ".join(escape(part) for part in (facts.type, facts.operands, facts.chip or "") if part)
        if kind:
            lines.append(f'<span style="color:{faint}">{kind}</span>')
        times = []
        if facts.predicted_ns is not None or facts.measured_ns is not None:
            for role, label, time in (
                ("planned", "predicted", facts.predicted_ns),
                ("measured", "measured", facts.measured_ns),
            ):
                times.append(f'{tr(label)} <b style="color:{self.colours.css(role)}">{escape(time_text(time))}</b>')
        difference = difference_text(facts.predicted_ns, facts.measured_ns)
        if difference:
            times.append(tr("measured against predicted: {}").format(f"<b>{difference}</b>"))
        if facts.bound:
            times.append(f"{tr('limited by')} <b>{escape(tr(facts.bound))}</b>")
        if times:
            lines.append(" &nbsp;·&nbsp; ".join(times))
        if facts.problem is not None:
            lines.append(f'<span style="color:{self.colours.css("warning")}">{escape(say(facts.problem))}</span>')
        return "<br>".join(lines)

    def _stages(self) -> list[str]:
        """The steps of an iteration in their order, and when each runs."""
        stages = self.facts.stages
        if not stages:
            return []
        steps = " → ".join(f"{number} {tr(stage.name)} ({tr(stage.pipe)})" for number, stage in enumerate(stages, 1))
        return [steps, tr("iteration 1 starts in slot 1, each further one a slot later")]

    def _sections(self, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
        """Sentences, in the window's language, under their titles, as a table of two columns."""
        faint = self.colours.css("faint")
        rows = [
            f'<tr><td style="color:{faint};padding-right:10px"><b>{escape(tr(title))}</b></td>'
            f"<td>{'<br>'.join(escape(sentence) for sentence in sentences)}</td></tr>"
            for title, sentences in sections
            if sentences
        ]
        return f'<table cellspacing="0" cellpadding="2">{"".join(rows)}</table>' if rows else ""

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Beside each other where there is room, else one below the other."""
        super().resizeEvent(event)
        wide = self.width() >= _SIDE_BY_SIDE
        across, down = QBoxLayout.Direction.LeftToRight, QBoxLayout.Direction.TopToBottom
        self.sides.setDirection(across if wide else down)
