"""The details panel: everything known of the selected item, with jumps to what it names."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from PySide6.QtCore import QTimer, QUrl
from PySide6.QtGui import QTextCursor, QTextTable
from PySide6.QtWidgets import QTextBrowser, QWidget

from memplan.gui.i18n import say, tr
from memplan.gui.model.details.details import item_sections
from memplan.gui.model.details.facts import Fact, Section
from memplan.gui.model.details.range_statistics import range_sections
from memplan.gui.model.event import Event, Listener
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import ItemRef, Session, SliceRef
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.view import ViewServices
from memplan.gui.work.loader import DocumentLoader

_TITLE, _LABEL, _VALUE = 160, 80, 600  # letters shown: more would bury everything else; what is copied or saved has all


_LINE = "margin:0;line-height:17px"  # else lines with Chinese letters in them stand lower than those beside them
_ONE_WORD = 30  # letters: a header with its unit is not broken, a path is


def _bounded(text: str, most: int) -> str:
    """`text` without its middle where it has more than `most` letters."""
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"


@dataclass(frozen=True, slots=True)
class _Row:
    """A fact as it is written, in plain words; a click on its value selects `target`."""

    label: str
    value: str
    target: ItemRef | None

    @property
    def one_word(self) -> bool:
        """Whether the label is not broken."""
        return " " not in self.label and len(self.label) <= _ONE_WORD

    def like(self, other: _Row) -> bool:
        """Whether this one can be written where the `other` stands by putting its words there."""
        if self == other:
            return True
        texts = self.label, self.value, other.label, other.value
        plain = all(text and text == " ".join(text.split()) for text in texts)
        return plain and self.target is None and other.target is None and self.one_word == other.one_word


def _row(fact: Fact) -> _Row:
    return _Row(_bounded(say(fact.label), _LABEL), _bounded(say(fact.value), _VALUE), fact.target)


_Written = list[tuple[str, tuple[_Row, ...]]]
"""Titles with the rows under them."""


def _same_shape(before: _Written, after: _Written) -> bool:
    """Whether only words in rows have changed."""
    return len(before) == len(after) and all(
        title == now_title and len(rows) == len(now) and all(row.like(old) for old, row in zip(rows, now, strict=True))
        for (title, rows), (now_title, now) in zip(before, after, strict=True)
    )


def _put_text(table: QTextTable, cell: tuple[int, int], text: str) -> None:
    """`text` in place of the one line of words in a cell that has some, in their letters."""
    cursor = table.cellAt(*cell).firstCursorPosition()
    cursor.movePosition(QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor)
    cursor.insertText(text, cursor.charFormat())


class DetailsView(QTextBrowser):
    """
    Sections of facts: of the selected time range and of what is selected, whichever the user chose last first.

    A click on a link selects what it names. Where only figures have changed, as with a time range that is dragged, they
    are put where the others stand: to read and lay out a page takes four times as long.
    """

    def __init__(self, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setOpenLinks(False)
        self.anchorClicked.connect(self._follow)
        self.colours = palette
        self.session = session
        self._loader: DocumentLoader | None = None
        self._targets: list[ItemRef] = []
        self.sections: list[Section] = []
        self._written: _Written = []
        self._item_first = False
        self._renew = QTimer(self)  # tracks may be read while a view paints: not the time to write
        self._renew.setSingleShot(True)
        self._renew.setInterval(0)
        self._renew.timeout.connect(self.show_selected)
        self._listen()
        self.show_selected()

    def _listen(self) -> None:
        for event, listener in self._events():
            event.connect(listener)

    def _events(self) -> tuple[tuple[Event, Listener], ...]:
        session = self.session
        return (
            (session.selected_changed, self._selection_changed),
            (session.tier_changed, self.show_selected),
            (session.blocks_changed, self.show_selected),
            (session.tracks.kept, self._more_read),
            (session.viewport.selection_changed, self._selected),
        )

    def _selection_changed(self) -> None:
        self._item_first = True
        self.show_selected()

    def _selected(self) -> None:
        self._item_first = False
        if self.session.viewport.selected_range is not None and self._loader is not None:
            self._loader.every_track(self.session)
        self.show_selected()

    def _more_read(self) -> None:
        """More tracks were read: arrows to their slices, and what of them lies in the selected time range."""
        if isinstance(self.session.selected, SliceRef) or self.session.viewport.selected_range is not None:
            self._renew.start()

    def forget(self) -> None:
        """Stop listening to the session."""
        for event, listener in self._events():
            event.disconnect(listener)

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        made = cls(services.session, services.palette, services.parent)
        made._loader = services.loader
        return made

    def show_session(self, session: Session) -> None:
        """Show another session."""
        self.forget()
        self.session = session
        self._listen()
        self.show_selected()

    def set_palette(self, palette: Palette) -> None:
        """Write with other colours."""
        self.colours = palette
        self._written = []  # to be written anew whatever it is
        self.show_selected()

    def show_selected(self) -> None:
        """Write the panel anew."""
        statistics, selected = range_sections(self.session), self.session.selected
        about = item_sections(self.session, selected) if selected is not None or not statistics else []
        self._write([*about, *statistics] if self._item_first else [*statistics, *about])

    def _write(self, sections: list[Section]) -> None:
        self.sections = sections
        written = [(_bounded(say(section.title), _TITLE), tuple(map(_row, section.facts))) for section in sections]
        before, self._written = self._written, written
        if before and _same_shape(before, written):
            self._put(before, written)
        else:
            self._write_page(written)

    def _write_page(self, written: _Written) -> None:
        self._targets = []
        faint, line, accent = (self.colours.css(role) for role in ("faint", "line", "accent"))
        parts = []
        for title, rows in written:
            parts.append(f'<p style="margin:8px 0 2px 0"><b>{escape(title)}</b></p>')
            parts.append('<table width="100%" cellspacing="0" cellpadding="2">')
            for row in rows:
                value = escape(row.value)
                if row.target is not None:
                    value = f'<a style="color:{accent}" href="item:{len(self._targets)}">{value}</a>'
                    self._targets.append(row.target)
                one_word = "white-space:nowrap;" if row.one_word else ""
                parts.append(
                    f'<tr><td width="34%" style="{one_word}color:{faint};border-bottom:1px solid {line}">'
                    f'<p style="{_LINE}">{escape(row.label)}</p></td>'
                    f'<td style="border-bottom:1px solid {line}"><p style="{_LINE}">{value}</p></td></tr>'
                )
            parts.append("</table>")
        if not parts:
            parts.append(f'<p style="color:{faint}">{escape(tr("Open a plan or a profile to see it here."))}</p>')
        self.setHtml("".join(parts))

    def _put(self, before: _Written, after: _Written) -> None:
        """Write the words that have changed, each in the cell of the one before."""
        tables = [frame for frame in self.document().rootFrame().childFrames() if isinstance(frame, QTextTable)]
        cursor = QTextCursor(self.document())
        cursor.beginEditBlock()
        for table, (_, old), (_, new) in zip(tables, before, after, strict=True):
            for place, (was, now) in enumerate(zip(old, new, strict=True)):
                for column, (gone, text) in enumerate(((was.label, now.label), (was.value, now.value))):
                    if gone != text:
                        _put_text(table, (place, column), text)
        cursor.endEditBlock()

    def sheet(self) -> Sheet:
        """Every fact with the section it stands in."""
        return Sheet(
            ("section", "label", "value"),
            [
                (str(section.title), str(fact.label), str(fact.value))
                for section in self.sections
                for fact in section.facts
            ],
        )

    def _follow(self, link: QUrl) -> None:
        text = link.toString()
        if text.startswith("item:"):
            self.session.select(self._targets[int(text.removeprefix("item:"))])
            self.session.reveal_selected()
