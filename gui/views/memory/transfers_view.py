"""The table of planned moves to and from the host and other tiers."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.session.session import Session
from memplan.gui.model.tables.transfers import TRANSFER_SHAPE, transfer_headline, transfer_rows
from memplan.gui.views.table_view import TableView


class TransfersView(TableView):
    """Totals in a line, and every move under it."""

    shape = TRANSFER_SHAPE

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(session, parent)
        self.show_session(session)

    def show_session(self, session: Session) -> None:
        """Show the moves of another session's plan."""
        self.session = session
        nothing = tr("The plan moves nothing between tiers.") if session.document.plan else tr("No plan is open.")
        self.show_rows(transfer_rows(session.document), transfer_headline(session.document) or nothing)
