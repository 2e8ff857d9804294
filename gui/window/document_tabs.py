"""The tabs over the documents of a window."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QTabBar, QToolButton, QWidget

from memplan.gui.i18n import say, tr
from memplan.gui.icons import icon
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.open_documents import OpenDocument, OpenDocuments


class DocumentTabs(QTabBar):
    """One tab for each of the `documents`, with a button that has it closed; hidden where there is only one."""

    def __init__(self, documents: OpenDocuments, close: Callable[[int], object], parent: QWidget) -> None:
        super().__init__(parent)
        self._documents = documents
        self.setExpanding(False)
        self.setDocumentMode(True)
        self.currentChanged.connect(documents.select)
        self.tabCloseRequested.connect(close)

    def show_documents(self, letter_of: Callable[[OpenDocument], str], palette: Palette) -> None:
        """Show what is open now, the two of a side by side with their letters."""
        self.blockSignals(True)
        while self.count():
            self.removeTab(0)
        for item, called in zip(self._documents.opened, self._documents.names(), strict=True):
            name, letter = say(called) or tr("Empty"), letter_of(item)
            place = self.addTab(f"{letter} · {name}" if letter else name)
            close = QToolButton(self)
            close.setAutoRaise(True)
            close.setIcon(icon("close", palette.css("faint")))
            close.setToolTip(tr("Close the document"))
            close.clicked.connect(lambda *_, place=place: self.tabCloseRequested.emit(place))
            self.setTabButton(place, QTabBar.ButtonPosition.RightSide, close)
            self.setTabToolTip(place, "\n".join(str(path) for path in item.request.paths))
        self.setCurrentIndex(self._documents.index)
        self.blockSignals(False)
        self.setVisible(len(self._documents.opened) > 1)
