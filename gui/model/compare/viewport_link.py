"""Two documents side by side: their viewports moved together, and which moment of one lies on which of the other."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from memplan.core.progress import Progress, silent
from memplan.gui.model.event import Event
from memplan.gui.model.session.session import Session
from memplan.gui.model.slices.shown_steps import ShownStep, steps
from memplan.gui.model.viewport import Viewport

Bounds = tuple[float, float]


class ViewportLink:
    """
    Keeps two viewports on the same time range: the moment `t` of the first lies on `t + offset` of the second.

    Times are nanoseconds from each document's own origin. While the link is on, either viewport leads and the other
    follows, cursor, selected range and the way back included; the bounds of both reach over both documents, so that the
    longer one can be seen whole. `on = False` and `forget` give both their own bounds back.
    """

    def __init__(self, first: Viewport, second: Viewport, offset: float = 0.0) -> None:
        self.changed = Event()
        self._viewports = (first, second)
        self._offset = offset
        self._on = False
        self._moving = False
        self._own: list[Bounds] = [first.bounds, second.bounds]
        self._set: list[Bounds | None] = [None, None]
        self._jumps = [first.jumps, second.jumps]
        self._listening: list[tuple[Event, Callable[[], None]]] = []
        self.on = True

    @property
    def offset(self) -> float:
        """Where the first document's origin lies in the second one, in nanoseconds from that one's origin."""
        return self._offset

    @property
    def on(self) -> bool:
        """Whether the viewports move together."""
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if on == self._on or self._viewports[0] is self._viewports[1]:
            return
        self._on = on
        if on:
            self._own = [viewport.bounds for viewport in self._viewports]
            self._jumps = [viewport.jumps for viewport in self._viewports]
            self._listen()
            self._place()
        else:
            self._release()
        self.changed.emit()

    def align(self, first: float, second: float) -> None:
        """Put the moment `second` of the second document under the moment `first` of the first, and show both."""
        self._offset = second - first
        if self._on:
            self._place()
            self._viewports[0].centre(first)
        self.changed.emit()

    def relink(self) -> None:
        """Link both as they stand: the middle of what the one shows on the middle of what the other shows."""
        first, second = self._viewports
        if not self._on:
            self._offset = (second.start + second.end - first.start - first.end) / 2
            self.on = True

    def forget(self) -> None:
        """Let go of both viewports, as if they had never been linked."""
        self.on = False

    # -- moving --------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for place, viewport in enumerate(self._viewports):
            for event, follow in (
                (viewport.changed, self._follow),
                (viewport.cursor_changed, self._follow_cursor),
                (viewport.selection_changed, self._follow_selection),
            ):
                self._listening.append((event, event.connect(_bound(follow, place))))

    def _release(self) -> None:
        for event, listener in self._listening:
            event.disconnect(listener)
        self._listening = []
        for place, viewport in enumerate(self._viewports):
            if viewport.bounds == self._set[place]:
                viewport.bounds = self._own[place]
            self._set[place] = None
            viewport.show(viewport.start, viewport.end)

    def _shift(self, place: int) -> float:
        """What is to be added to a moment of viewport `place` to get that of the other one."""
        return self._offset if place == 0 else -self._offset

    def _place(self) -> None:
        """Let both reach over both documents, and bring the second to where the first is."""
        first, second = self._viewports
        whole = (first.start, first.end) == first.bounds
        self._widen()
        self._moving = True
        try:
            if whole:
                first.show(*first.bounds)
            second.show(first.start + self._offset, first.end + self._offset)
        finally:
            self._moving = False

    def _widen(self) -> None:
        (low, high), (other_low, other_high) = self._own
        low, high = min(low, other_low - self._offset), max(high, other_high - self._offset)
        self._set = [(low, high), (low + self._offset, high + self._offset)]
        for viewport, bounds in zip(self._viewports, self._set, strict=True):
            if bounds is not None:
                viewport.bounds = bounds

    def _follow(self, leader: int) -> None:
        if self._moving:
            return
        led, other = self._viewports[leader], self._viewports[1 - leader]
        if led.bounds != self._set[leader]:  # it shows other data now
            self._own[leader] = led.bounds
            self._widen()
        start, end = led.start + self._shift(leader), led.end + self._shift(leader)
        self._moving = True
        try:
            if led.jumps < self._jumps[leader]:
                other.back()
            other.show(start, end, remember=led.jumps > self._jumps[leader])
        finally:
            self._moving = False
        self._jumps = [viewport.jumps for viewport in self._viewports]

    def _follow_cursor(self, leader: int) -> None:
        cursor = self._viewports[leader].cursor
        self._quietly(lambda: self._set_cursor(1 - leader, None if cursor is None else cursor + self._shift(leader)))

    def _set_cursor(self, place: int, time: float | None) -> None:
        self._viewports[place].cursor = time

    def _follow_selection(self, leader: int) -> None:
        time_range, shift = self._viewports[leader].selected_range, self._shift(leader)
        moved = None if time_range is None else (time_range[0] + shift, time_range[1] + shift)
        self._quietly(lambda: self._set_selected_range(1 - leader, moved))

    def _set_selected_range(self, place: int, time_range: tuple[float, float] | None) -> None:
        self._viewports[place].selected_range = time_range

    def _quietly(self, move: Callable[[], None]) -> None:
        if self._moving:
            return
        self._moving = True
        try:
            move()
        finally:
            self._moving = False


def _bound(follow: Callable[[int], None], place: int) -> Callable[[], None]:
    return lambda: follow(place)


class AlignBy(str, Enum):
    """Ways to choose the moments of two documents that lie on each other; the value is what a menu calls it."""

    BEGINNINGS = "Both beginnings"
    CLOCK = "The same clock"
    STEPS = "Starts of a step"
    SELECTED = "Starts of the selected items"


def moments(first: Session, second: Session, how: AlignBy, progress: Progress = silent) -> tuple[float, float] | None:
    """
    The two moments that `how` puts on each other, in nanoseconds from each document's origin.

    `None` where there are none: profiles whose times do not overlap share no clock, plans have none at all, and both
    documents must tell of steps or have something selected. Of several steps it is the one nearest to the middle of
    what the first document shows, with the step of that number in the second, or else the step in that place.
    """
    if how is AlignBy.BEGINNINGS:
        return 0.0, 0.0
    if how is AlignBy.CLOCK:
        return (0.0, float(first.origin_ns - second.origin_ns)) if one_clock(first, second) else None
    if how is AlignBy.SELECTED:
        selected, other = first.selected_span(), second.selected_span()
        return (selected[0], other[0]) if selected is not None and other is not None else None
    return _step_starts(first, second, progress)


def one_clock(first: Session, second: Session) -> bool:
    """Whether both are profiles of one time range, such as two ranks of one run."""
    one, other = first.document.rank, second.document.rank
    if one is None or other is None:
        return False
    start, end = one.span_ns
    other_start, other_end = other.span_ns
    return start < other_end and other_start < end


def default_moments(first: Session, second: Session, progress: Progress = silent) -> tuple[float, float]:
    """The moments to put on each other at first: those of one clock, else of the first steps, else the beginnings."""
    for how in (AlignBy.CLOCK, AlignBy.STEPS):
        found = moments(first, second, how, progress)
        if found is not None:
            return found
    return 0.0, 0.0


def matched_steps(first: tuple[ShownStep, ...], second: tuple[ShownStep, ...]) -> list[tuple[ShownStep, ShownStep]]:
    """The steps of two documents that belong together: those of one number, else those in one place."""
    by_number = {step.number: step for step in second}
    same = [(step, by_number[step.number]) for step in first if step.number in by_number]
    return same or list(zip(first, second, strict=False))


def document_steps(session: Session, progress: Progress = silent) -> tuple[ShownStep, ...]:
    """The steps of the profile; a plan by itself is one."""
    document = session.document
    if document.rank is None and document.plan is not None:
        start, end = (document.axis.to_profile(time) for time in (0, document.plan.makespan_ns))
        return (ShownStep(0, float(start - session.origin_ns), float(end - session.origin_ns)),)
    return steps(session, progress)


def _step_starts(first: Session, second: Session, progress: Progress) -> tuple[float, float] | None:
    pairs = matched_steps(document_steps(first, progress), document_steps(second, progress))
    if not pairs:
        return None
    middle = (first.viewport.start + first.viewport.end) / 2
    one, other = min(pairs, key=lambda pair: abs((pair[0].start + pair[0].end) / 2 - middle))
    return one.start, other.start
