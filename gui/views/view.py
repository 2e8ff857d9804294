"""What the window asks of its views, so that it can treat all of them alike."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from memplan.gui.model.document.session import Session
from memplan.gui.model.palette import Palette
from memplan.gui.model.sheet import Sheet


@runtime_checkable
class View(Protocol):
    """A widget that can be saved as a table and drawn in other colours."""

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""

    def sheet(self) -> Sheet:
        """What is shown, as a table."""


@runtime_checkable
class SessionView(View, Protocol):
    """A view of a session."""

    def show_session(self, session: Session) -> None:
        """Show another session."""

    def forget(self) -> None:
        """Stop listening to the session."""
