"""Two sessions side by side: linked, aligned, and sent to the same thing together."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.gui.model.compare.ab_differences import AbDifference, AbDifferences, compared
from memplan.gui.model.compare.ab_plan import plan_ledgers
from memplan.gui.model.compare.ab_profile import profile_ledgers
from memplan.gui.model.compare.locate import Location, locate
from memplan.gui.model.compare.viewport_link import AlignBy, ViewportLink, default_moments, moments
from memplan.gui.model.event import Event
from memplan.gui.model.session.session import Session
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack, TrackContent

_OF_ONE = Sentence("A plan and a profile are compared when they are opened as one document.")
_ROOM = 3.0
_MARGIN = 0.5


@dataclass(frozen=True, slots=True)
class Located:
    """Places in A and in B, and what was read of rows there that weren't read yet."""

    places: tuple[Location | None, Location | None]
    read: tuple[tuple[Session, TimelineTrack, TrackContent], ...] = ()


class SideBySide:
    """
    Document A, which the window shows, and document B beside it; `link` moves both.

    `jumped` tells that both were sent somewhere, `places` where to. The tier that A's map shows is shown in B too, if
    B has it.
    """

    def __init__(self, first: Session, second: Session, at: tuple[float, float] | None = None) -> None:
        """Link both with the moments `at` on each other; by default those of `default_moments`, which may take long."""
        self.first, self.second = first, second
        start, other = at if at is not None else default_moments(first, second)
        self.link = ViewportLink(first.viewport, second.viewport, other - start)
        self.jumped = Event()
        self.places: tuple[Location | None, Location | None] = (None, None)
        first.tier_changed.connect(self._show_tier)

    def forget(self) -> None:
        """Let go of both sessions."""
        self.link.forget()
        self.first.tier_changed.disconnect(self._show_tier)

    def _show_tier(self) -> None:
        if self.first.tier in self.second.tiers and self.second.tier is not self.first.tier:
            self.second.show_tier(self.first.tier)

    def align(self, how: AlignBy) -> bool:
        """Link both with the moments that `how` names on each other; false where it names none."""
        found = moments(self.first, self.second, how)
        if found is None:
            return False
        self.align_at(*found)
        return True

    def align_at(self, first: float, second: float) -> None:
        """Link both with the moment `second` of B on the moment `first` of A."""
        self.link.on = True
        self.link.align(first, second)

    def jump(self, difference: AbDifference) -> None:
        """Show where `difference` is best seen in both documents, and select it there."""
        self.show(self.locate(difference))

    def locate(self, difference: AbDifference, progress: Progress = silent) -> Located:
        """Where `difference` is best seen in A and in B, with their tracks read; long for large profiles."""
        for session in (self.first, self.second):
            if session.document.rank is not None:
                session.document.rank.kernels(progress)
        places = locate(self.first, difference, 0), locate(self.second, difference, 1)
        read = []
        for session, place in zip((self.first, self.second), places, strict=True):
            if place is not None and place.track is not None:
                track = session.tracks.track(place.track)
                if not session.tracks.loaded(track):
                    read.append((session, track, session.tracks.read(track, progress)))
        return Located(places, tuple(read))

    def show(self, located: Located) -> None:
        """
        Show these places of A and B, and select what lies there.

        Linked viewports keep their offset while that shows both places together; otherwise the starts of the two are
        put on each other.
        """
        self.places = located.places
        for session, track, content in located.read:
            session.tracks.keep(track, content)
        for session, place in zip((self.first, self.second), self.places, strict=True):
            if place is not None and place.item is not None:
                session.select(place.item)
        spans = [
            (float(place.start_ns - session.origin_ns), float(place.end_ns - session.origin_ns))
            if place is not None
            else None
            for session, place in zip((self.first, self.second), self.places, strict=True)
        ]
        one, other = spans
        if one is not None and other is not None and self.link.on:
            self._show_both(one, other)
        else:
            for session, span in zip((self.first, self.second), spans, strict=True):
                if span is not None:
                    session.viewport.reveal(*span, margin=_MARGIN)
        self.jumped.emit()

    def _show_both(self, one: tuple[float, float], other: tuple[float, float]) -> None:
        offset = self.link.offset
        length = max(one[1] - one[0], other[1] - other[0])
        start, end = min(one[0], other[0] - offset), max(one[1], other[1] - offset)
        if end - start > _ROOM * length:
            self.link.align(one[0], other[0])
            start, end = one[0], one[0] + length
        self.first.viewport.reveal(start, end, margin=_MARGIN)


def document_differences(first: Session, second: Session, progress: Progress = silent) -> AbDifferences:
    """
    What differs between two documents: their plans, and their profiles.

    A plan and a profile in different documents are not set against each other: one document of both does that. Long
    for large documents and meant for a worker; raises `CancelledError` when `progress` says so.
    """
    one, other = first.document, second.document
    if one.empty or other.empty:
        return AbDifferences(reason=Sentence("Open a second document to see where they differ."))
    ledgers = [*plan_ledgers(first, second, progress), *profile_ledgers(first, second, progress)]
    if not ledgers:
        return AbDifferences(reason=_OF_ONE)
    return compared(ledgers)
