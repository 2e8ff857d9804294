"""Commands of the Tracks menu: arranging the tracks of the timeline."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt

from memplan.gui.commands import Command
from memplan.gui.i18n import tr
from memplan.gui.model.session.open_documents import OpenDocuments
from memplan.gui.model.timeline.timeline_tracks import TimelineTracks
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.views.timeline.track_actions import TRACK_ACTIONS, TrackAction


def track_commands(
    documents: OpenDocuments, acting_timeline: Callable[[], TimelineView], say: Callable[[str], object]
) -> list[Command]:
    """The Tracks menu; keys act on a track of `acting_timeline`, and `say` tells where there is none."""

    def tracks() -> TimelineTracks:
        return documents.current.session.tracks

    def acting(action: TrackAction) -> Callable[[], None]:
        def run() -> None:
            timeline = acting_timeline()
            track = timeline.acted_track()
            if track is not None:
                action.run(timeline.session.tracks, track.key)
            else:
                say(tr("Point at a track, or select a slice of it, first."))

        return run

    return [
        *(Command(action.name, "Tracks", action.text, acting(action), action.keys) for action in TRACK_ACTIONS),
        Command(
            "show-hidden",
            "Tracks",
            "Show hidden tracks",
            lambda: tracks().show_hidden(),
            ("Shift+H",),
        ),
        Command(
            "filter-tracks",
            "Tracks",
            "Filter the tracks by name",
            lambda: acting_timeline().filter.setFocus(Qt.FocusReason.ShortcutFocusReason),
            ("Ctrl+Shift+F",),
        ),
        Command("fold-all", "Tracks", "Fold all groups", lambda: tracks().fold_all(True), ("Z",)),
        Command("unfold-all", "Tracks", "Unfold all groups", lambda: tracks().fold_all(False), ("Shift+Z",)),
    ]
