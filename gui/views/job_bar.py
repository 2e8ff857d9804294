"""What the window is working on: a line, a bar, and a button that stops it."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QWidget

from memplan.gui.i18n import tr
from memplan.gui.work.jobs import Jobs
from memplan.gui.work.loader import DocumentLoader

_LONGEST = 80
_FINENESS = 1000


class JobBar(QWidget):
    """The first of the jobs that run; nothing while none does. Only the reading of files can be stopped."""

    def __init__(self, jobs: Jobs, loader: DocumentLoader, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._jobs, self._loader = jobs, loader
        self.text = QLabel(self)
        self.bar = QProgressBar(self)
        self.bar.setMaximumWidth(180)
        self.button = QPushButton(tr("Cancel"), self)
        self.button.clicked.connect(loader.cancel)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.text, self.bar, self.button):
            row.addWidget(widget)
        jobs.changed.connect(self.show_jobs)
        self.show_jobs()

    def show_jobs(self) -> None:
        """Follow what the jobs report."""
        running = self._jobs.running
        self.setVisible(bool(running))
        if not running:
            return
        job = running[0]
        self.button.setText(tr("Cancel"))
        self.button.setVisible(self._loader.opening)
        self.text.setText(f"{job.title} {tr(job.what)}"[:_LONGEST])
        self.bar.setRange(0, _FINENESS if job.total > 1 else 0)
        if job.total > 1:
            self.bar.setValue(int(_FINENESS * min(job.done / job.total, 1.0)))
