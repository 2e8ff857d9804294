"""The documents that one window has open, and which of them it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memplan.core.sentence import Sentence, Text
from memplan.gui.model.document import Document
from memplan.gui.model.event import Event
from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.session import Session


@dataclass(frozen=True)
class OpenDocument:
    """What was asked for, and what came of it."""

    request: Request
    session: Session


class OpenDocuments:
    """Open documents in the order of their tabs; there is always one, which may be empty."""

    def __init__(self, session: Session | None = None, request: Request | None = None) -> None:
        self.changed = Event()
        self.dropped = Event()
        """A document is no longer open."""
        self.opened: list[OpenDocument] = [OpenDocument(request or Request(), session or Session(Document()))]
        self.index = 0

    @property
    def current(self) -> OpenDocument:
        """The document that is shown."""
        return self.opened[self.index]

    @property
    def others(self) -> list[OpenDocument]:
        """The documents that are open but not shown."""
        return [item for place, item in enumerate(self.opened) if place != self.index]

    def names(self) -> list[Text]:
        """What each is called: by the files' names, and what tells those of one name apart."""
        documents = [item.session.document for item in self.opened]
        plain = [document.name for document in documents]
        found: list[Text] = list(plain)
        for name in {name for name in plain if name and plain.count(name) > 1}:
            places = [place for place, other in enumerate(plain) if other == name]
            for place, text in zip(places, _told_apart([documents[place] for place in places]), strict=True):
                found[place] = text
        return found

    def show(self, request: Request, session: Session, *, new_tab: bool) -> None:
        """Show a document: in a new tab when `new_tab` is set and the current one isn't empty, else in its place."""
        item = OpenDocument(request, session)
        if new_tab and not self.current.session.document.empty:
            self.opened.append(item)
            self.index = len(self.opened) - 1
        else:
            before, self.opened[self.index] = self.opened[self.index], item
            if not before.session.document.empty:
                self.dropped.emit()
        self.changed.emit()

    def add(self, request: Request, session: Session) -> OpenDocument:
        """Open a document as the last one, and go on showing the current one."""
        item = OpenDocument(request, session)
        self.opened.append(item)
        self.changed.emit()
        return item

    def select(self, index: int) -> None:
        """Show document `index`."""
        if index != self.index and 0 <= index < len(self.opened):
            self.index = index
            self.changed.emit()

    def close(self, index: int) -> None:
        """Close document `index`; closing the last one leaves an empty one."""
        del self.opened[index]
        if not self.opened:
            self.opened.append(OpenDocument(Request(), Session(Document())))
        if index < self.index or self.index == len(self.opened):
            self.index -= 1
        self.index = max(self.index, 0)
        self.changed.emit()
        self.dropped.emit()


def _told_apart(documents: Sequence[Document]) -> list[Text]:
    """Names of documents whose plain names are the same: with folders, ranks and chips as far as these differ."""
    plans, profiles = [document.plan_path for document in documents], [_profile(document) for document in documents]
    ranks = [document.rank.rank if document.rank is not None else None for document in documents]
    chips = [document.plan.chip if document.plan is not None else None for document in documents]
    names: list[Text] = []
    for place, document in enumerate(documents):
        paths = [_tail(path, among) for path, among in ((plans[place], plans), (profiles[place], profiles)) if path]
        name: Text = " + ".join(paths) or document.name
        if len(set(chips)) > 1:
            name = Sentence("{} for {}", (name, chips[place] or "–"))
        if len(set(ranks)) > 1 and ranks[place] is not None:
            name = Sentence("{} · rank {}", (name, str(ranks[place])))
        names.append(name)
    return [name if names.count(name) == 1 else Sentence("{} ({})", (name, str(place + 1)))
            for place, name in enumerate(names)]  # fmt: skip


def _profile(document: Document) -> Path | None:
    return document.profile.path if document.profile is not None else None


def _tail(path: Path, among: Sequence[Path | None]) -> str:
    """As many of the path's last parts as tell it from the others."""
    others = {other for other in among if other is not None and other != path}
    for count in range(1, len(path.parts)):
        if all(other.parts[-count:] != path.parts[-count:] for other in others):
            return "/".join(path.parts[-count:])
    return str(path)
