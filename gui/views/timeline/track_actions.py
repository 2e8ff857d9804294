"""What can be done to one track of the timeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memplan.gui.model.timeline.timeline_tracks import TimelineTracks


@dataclass(frozen=True, slots=True)
class TrackAction:
    """What can be done to one track, by a key or in its menu; `text` is English."""

    name: str
    text: str
    keys: tuple[str, ...]
    run: Callable[[TimelineTracks, str], None]


TRACK_ACTIONS = (
    TrackAction("pin-track", "Pin the track, or let it go", ("T",), TimelineTracks.pin),
    TrackAction("hide-track", "Hide the track", ("H",), TimelineTracks.hide),
    TrackAction("track-up", "Move the track up", ("Shift+Up",), lambda tracks, key: tracks.shift(key, -1)),
    TrackAction("track-down", "Move the track down", ("Shift+Down",), lambda tracks, key: tracks.shift(key, 1)),
)
