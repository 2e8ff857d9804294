"""Finding slices and planned ops by name, type, stream or step, in time order, across the tracks that are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.progress import Progress, silent
from memplan.gui.model.document import Document
from memplan.gui.model.kernels_of_slices import DEVICE_TRACKS, kernels_of_slices
from memplan.gui.model.model_places import ModelPlaces
from memplan.gui.model.session.session import SliceRef
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack, TimelineTracks, name_filter
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.profile import Kernels, Slices
from memplan.traces.steps import StepSpan, step_spans

HITS_MOST = 100_000
"""Hits kept; a search that finds more says so."""
_HELD = 10 * HITS_MOST
_EXPRESSION = frozenset("^$*+?[]{}|\\")
"""What tells a regular expression from the names themselves, which have points, slashes and brackets of calls."""
_STEP = re.compile(r"step\s*#?\s*(\d{1,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """
    Slices that are of `text`, ordered by start: slice `index[i]` of track `tracks[track[i]]`, `start_ns[i]`.

    `total` counts all of them; the earliest `HITS_MOST` are kept.
    """

    text: str
    tracks: tuple[str, ...]
    track: Int64s
    index: Int64s
    start_ns: Int64s
    total: int

    def __len__(self) -> int:
        return len(self.index)

    def item(self, position: int) -> SliceRef:
        """Hit number `position`."""
        return SliceRef(self.tracks[int(self.track[position])], int(self.index[position]))

    def at_or_after(self, time_ns: int) -> int:
        """Position of the first hit that starts at `time_ns` or later; the first of all when there is none."""
        position = int(np.searchsorted(self.start_ns, time_ns))
        return position if position < len(self) else 0


def no_hits(text: str = "") -> Hits:
    """What a search for nothing finds."""
    nothing = np.zeros(0, dtype=np.int64)
    return Hits(text, (), nothing, nothing, nothing, 0)


def search_slices(
    tracks: TimelineTracks, text: str, progress: Progress = silent, *, document: Document | None = None
) -> Hits:
    """
    Every slice of the loaded tracks whose name contains `text`, whatever its case; nothing for an empty text.

    A name may also be one that `text` describes as a regular expression. With the tracks' `document` a slice is found
    as well by what else is known of it: its place in the model, the type of its kernel, the stream (`Stream 2`: all of
    that track) and the step (`step 3`: all that begins in it on the device).
    """
    wanted = text.casefold().strip()
    keys: list[str] = []
    parts: list[Int64s] = []
    held = total = 0
    # Tracks of one profile share their table of names.
    of_table: dict[int, tuple[Sequence[str], NDArray[np.bool_]]] = {}
    known = _Known(document, text.strip(), progress) if document is not None and wanted else None
    for number, track in enumerate(tracks.all if wanted else ()):
        progress(number, len(tracks.all), track.label)
        lanes = tracks.lanes(track)
        if lanes is None:
            continue
        slices = lanes.slices
        if id(slices.names) not in of_table:
            of_table[id(slices.names)] = slices.names, _matches(slices.names, text.strip())
        found = of_table[id(slices.names)][1][slices.name]
        if known is not None and track.planned is None:
            found = found | known.matching(track, slices)
        index = np.flatnonzero(found)
        if not len(index):
            continue
        total += len(index)
        index = index[:HITS_MOST]  # a track's slices are ordered by start
        parts.append(np.stack([np.full(len(index), len(keys)), index, slices.start_ns[index]]))
        keys.append(track.key)
        held += len(index)
        if held > _HELD:
            parts = [_earliest(parts)]
            held = parts[0].shape[1]
    if not parts:
        return no_hits(text)
    row_of, index_of, start_ns = _earliest(parts)
    return Hits(text, tuple(keys), row_of, index_of, start_ns, total)


class _Known:
    """What a document knows of its slices beside their names, as far as it is what `text` asks for."""

    def __init__(self, document: Document, text: str, progress: Progress) -> None:
        self._text, self._wanted = text, text.casefold()
        rank, step = document.rank, _STEP.fullmatch(text)
        self._kernels = rank.kernels(progress) if rank is not None else None
        self._asked = self._asked_of(self._kernels, document.places)
        self._steps: list[StepSpan] = []
        if rank is not None and step is not None:
            self._steps = [span for span in step_spans(rank, progress) if span.number == int(step[1])]

    def _asked_of(self, kernels: Kernels | None, places: ModelPlaces | None) -> NDArray[np.bool_]:
        """Which kernels of the table are of the type, or at the place, that is asked for."""
        if kernels is None:
            return np.zeros(0, dtype=np.bool_)
        types = dictionary_encoded(kernels.type)
        asked = _matches(types.values, self._text)[types.codes]
        return asked if places is None else asked | places.matching(self._wanted)

    def matching(self, track: TimelineTrack, slices: Slices) -> NDArray[np.bool_]:
        """Which slices of a measured track are asked for."""
        found = np.zeros(len(slices), dtype=np.bool_)
        if track.kind not in DEVICE_TRACKS:
            return found
        if track.label.casefold() == self._wanted:
            return ~found
        found |= _matches(slices.categories, self._text)[slices.category]
        if self._kernels is not None and self._asked.any():
            rows = kernels_of_slices(self._kernels, track.kind, slices)
            kernel = np.flatnonzero(rows >= 0)
            found[kernel] |= self._asked[rows[kernel]]
        for step in self._steps:
            found |= (slices.start_ns >= step.start_ns) & (slices.start_ns < step.end_ns)
        return found


def _matches(names: Sequence[str], text: str) -> NDArray[np.bool_]:
    wanted = text.casefold()
    found = np.fromiter((wanted in name.casefold() for name in names), dtype=bool, count=len(names))
    if _EXPRESSION.isdisjoint(text):
        return found
    found |= np.fromiter(map(name_filter(text), names), dtype=bool, count=len(names))
    return found


def _earliest(parts: Sequence[Int64s]) -> Int64s:
    """Of the columns (track, index, start), the `HITS_MOST` that start first, in that order."""
    together = np.concatenate(parts, axis=1)
    return np.asarray(together[:, np.argsort(together[2], kind="stable")[:HITS_MOST]])
