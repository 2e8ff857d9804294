"""The time range that every view shows, and how it is moved."""

from __future__ import annotations

from memplan.gui.model.event import Event

MIN_SPAN_NS = 10.0
ZOOM_STEP = 1.25
_PAN_SHARE = 0.15
_HISTORY = 200


class Viewport:
    """
    The visible time range `[start, end)` in nanoseconds from the document's origin, kept within `bounds`.

    Times relative to the origin fit a float exactly (2^53 ns are 104 days), so that zooming below a nanosecond a
    pixel stays smooth. `cursor` is the time under the mouse, `selected_range` the time range that the user selected.
    """

    def __init__(self, bounds: tuple[float, float]) -> None:
        self.changed = Event()
        self.cursor_changed = Event()
        self.selection_changed = Event()
        self._history: list[tuple[float, float]] = []
        self._cursor: float | None = None
        self._selected_range: tuple[float, float] | None = None
        self.set_bounds(bounds)

    def set_bounds(self, bounds: tuple[float, float]) -> None:
        """Show other data: everything between `bounds`, forgetting the history."""
        start, end = bounds
        self.bounds = (start, max(end, start + MIN_SPAN_NS))
        self.start, self.end = self.bounds
        self._history.clear()
        self.changed.emit()

    @property
    def span(self) -> float:
        """Visible nanoseconds."""
        return self.end - self.start

    @property
    def jumps(self) -> int:
        """How often `back` can return."""
        return len(self._history)

    @property
    def cursor(self) -> float | None:
        """Time under the mouse, or `None` when it is elsewhere."""
        return self._cursor

    @cursor.setter
    def cursor(self, time: float | None) -> None:
        if time != self._cursor:
            self._cursor = time
            self.cursor_changed.emit()

    @property
    def selected_range(self) -> tuple[float, float] | None:
        """The selected time range, ends in order."""
        return self._selected_range

    @selected_range.setter
    def selected_range(self, time_range: tuple[float, float] | None) -> None:
        self._selected_range = None if time_range is None else (min(time_range), max(time_range))
        self.selection_changed.emit()

    def show(self, start: float, end: float, *, remember: bool = False) -> None:
        """Show `[start, end)` as far as the bounds allow; `remember` lets `back` return here."""
        low, high = self.bounds
        span = min(max(end - start, MIN_SPAN_NS), high - low)
        start = min(max(start, low), high - span)
        if (start, start + span) == (self.start, self.end):
            return
        if remember:
            self._history.append((self.start, self.end))
            del self._history[:-_HISTORY]
        self.start, self.end = start, start + span
        self.changed.emit()

    def zoom(self, factor: float, at: float) -> None:
        """Make the visible span `factor` times as long, leaving the moment `at` where it is on the screen."""
        low, high = self.bounds
        span = min(max(self.span * factor, MIN_SPAN_NS), high - low)
        share = (at - self.start) / self.span
        start = at - share * span
        self.show(start, start + span)

    def zoom_step(self, closer: bool) -> None:
        """Zoom by a step at the cursor, or in the middle where there is none."""
        at = self.cursor if self.cursor is not None else (self.start + self.end) / 2
        self.zoom(1 / ZOOM_STEP if closer else ZOOM_STEP, at)

    def pan_step(self, later: bool) -> None:
        """Move by a part of what is seen."""
        self.pan((_PAN_SHARE if later else -_PAN_SHARE) * self.span)

    def pan(self, distance: float) -> None:
        """Move by `distance` nanoseconds."""
        self.show(self.start + distance, self.end + distance)

    def reveal(self, start: float, end: float, *, margin: float = 0.5) -> None:
        """Jump to `[start, end)` with `margin` of its length on both sides; `back` returns."""
        length = max(end - start, MIN_SPAN_NS)
        self.show(start - margin * length, end + margin * length, remember=True)

    def centre(self, time: float) -> None:
        """Bring `time` to the middle unless it is already visible; `back` returns."""
        if not self.start <= time < self.end:
            self.show(time - self.span / 2, time + self.span / 2, remember=True)

    def show_all(self) -> None:
        """Show everything; `back` returns."""
        self.show(*self.bounds, remember=True)

    def back(self) -> bool:
        """Return to where the last jump came from; false when there was none."""
        if not self._history:
            return False
        self.start, self.end = self._history.pop()
        self.changed.emit()
        return True
