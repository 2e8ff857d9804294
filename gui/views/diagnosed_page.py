"""A page of what a diagnosis found: it asks for the diagnosis when it is first seen and follows the session."""

from __future__ import annotations

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QWidget

from memplan.gui.model.session.session import Session
from memplan.gui.views.view import ViewServices


class DiagnosedPage(QWidget):
    """The life of such a page; each shows what was found in a `show_diagnosis` of its own."""

    def __init__(self, services: ViewServices) -> None:
        super().__init__(services.parent)
        self.session = services.session
        self._services = services
        self._listening = self.session.diagnosed.connect(self.show_diagnosis)

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services)

    def show_session(self, session: Session) -> None:
        """Show another session."""
        self.forget()
        self.session = session
        self._listening = session.diagnosed.connect(self.show_diagnosis)
        self.show_diagnosis()
        if self.isVisible():
            self.ask()

    def forget(self) -> None:
        """Stop listening to the session."""
        self.session.diagnosed.disconnect(self._listening)

    def showEvent(self, event: QShowEvent) -> None:
        """Ask for what takes reading."""
        super().showEvent(event)
        self.ask()

    def ask(self) -> None:
        """Diagnose what was not diagnosed yet."""
        self._services.loader.diagnose(self.session)

    def show_diagnosis(self) -> None:
        """Show what is known by now: here by painting anew, in pages with parts by filling these."""
        self.update()
