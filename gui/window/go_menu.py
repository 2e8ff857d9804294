"""Commands of the Go menu: searching, zooming, and going to slices, steps, peaks and differences."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QInputDialog, QWidget

from memplan.gui.commands import Command
from memplan.gui.i18n import tr
from memplan.gui.model.session.open_documents import OpenDocuments
from memplan.gui.model.session.session import Session, SliceRef
from memplan.gui.model.slices.neighbours import next_slice, slice_across
from memplan.gui.model.slices.shown_steps import ShownStep, step_beside, steps
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.search_bar import SearchBar
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.window.view_docks import ViewDocks
from memplan.gui.work.jobs import Jobs

_AROUND_PEAK = 0.05  # what is shown on either side of the peak, as a share of everything

Say = Callable[[str], object]


def go_commands(
    documents: OpenDocuments,
    docks: ViewDocks,
    search: SearchBar,
    steps_of: StepNavigator,
    *,
    say: Say,
    show_commands: Callable[[], object],
) -> list[Command]:
    """The Go menu; `say` shows a line, `show_commands` all commands by name."""
    jumps = Jumps(documents, docks, search, say)
    return [
        Command("find", "Go", "Find …", search.open, ("Ctrl+F", "/"), enabled=jumps.opened),
        Command("find-next", "Go", "Next hit", search.step, ("F3", "Ctrl+G")),
        Command("find-previous", "Go", "Previous hit", lambda: search.step(False), ("Shift+F3",)),
        Command("commands", "Go", "All commands …", show_commands, ("Ctrl+Shift+P",)),
        Command(
            "show-all",
            "Go",
            "Show everything",
            lambda: jumps.session.viewport.show_all(),
            ("Home", "0"),
            enabled=jumps.opened,
        ),
        Command("zoom-to", "Go", "Zoom to the selected time range or item", jumps.to_selected, ("F",)),
        Command("zoom-in", "Go", "Closer", lambda: jumps.session.viewport.zoom_step(True), ("W", "+")),
        Command("zoom-out", "Go", "Farther", lambda: jumps.session.viewport.zoom_step(False), ("S", "-")),
        Command("pan-left", "Go", "Earlier", lambda: jumps.session.viewport.pan_step(False), ("A",)),
        Command("pan-right", "Go", "Later", lambda: jumps.session.viewport.pan_step(True), ("D",)),
        Command(
            "back",
            "Go",
            "Back to before the jump",
            lambda: jumps.session.viewport.back(),
            ("Backspace", "Alt+Left"),
            enabled=jumps.opened,
        ),
        Command("next-slice", "Go", "Next slice of the lane", jumps.along(True), (".",), separated=True),
        Command("previous-slice", "Go", "Previous slice of the lane", jumps.along(False), (",",)),
        Command("slice-below", "Go", "Slice of the lane below", jumps.across(True), ("Alt+Down",)),
        Command("slice-above", "Go", "Slice of the lane above", jumps.across(False), ("Alt+Up",)),
        Command("peak", "Go", "To the memory peak", jumps.to_peak, ("P",), enabled=jumps.opened, separated=True),
        Command("costliest", "Go", "To the costliest difference", jumps.to_costliest, ("C",), enabled=jumps.opened),
        Command("next-difference", "Go", "Next costliest difference", lambda: jumps.beside(1), ("N",)),
        Command("previous-difference", "Go", "Costliest difference before", lambda: jumps.beside(-1), ("Shift+N",)),
        Command("step", "Go", "To a step …", steps_of.choose, ("J",), separated=True),
        Command("next-step", "Go", "Next step", steps_of.next, ("]",)),
        Command("previous-step", "Go", "Previous step", steps_of.previous, ("[",)),
        Command("marker", "Go", "Set a marker at the cursor", jumps.marker, ("M",), separated=True),
        Command("clear-markers", "Go", "Remove all markers", lambda: jumps.session.clear_markers(), ("Shift+M",)),
        Command("clear", "Go", "Close the search, or clear the selection", jumps.clear, ("Escape",)),
    ]


class Jumps:
    """Goes to places of the session that is shown: peaks, differences, slices beside each other."""

    def __init__(self, documents: OpenDocuments, docks: ViewDocks, search: SearchBar, say: Say) -> None:
        self._documents = documents
        self._docks = docks
        self._search = search
        self._say = say

    @property
    def session(self) -> Session:
        """The session that is shown."""
        return self._documents.current.session

    def to_selected(self) -> None:
        """Show the selected time range or item."""
        selected = self.session.viewport.selected_range
        if selected is not None:
            self.session.viewport.reveal(*selected, margin=0.02)
        else:
            self.session.reveal_selected()

    def to_peak(self) -> None:
        """Show the moment of most memory, and who holds it."""
        viewport, moment = self.session.viewport, self.session.peak_ns
        if moment is None:
            self._say(tr("Neither plan nor profile holds a memory curve"))
            return
        explained = self.session.peak_finding if self.session.peak is None else None
        self.session.select(explained)
        low, high = viewport.bounds
        time, around = float(moment - self.session.origin_ns), _AROUND_PEAK * (high - low)
        viewport.reveal(time - around, time + around, margin=0.0)
        self._docks.bring("map")
        if self.session.peak is None:
            self._docks.bring("curve")
        self._docks.bring("details")

    def to_costliest(self) -> None:
        """Select the costliest difference."""
        self._docks.bring("deviations")
        self._docks.view(DeviationsView).jump_to_first()

    def beside(self, rows: int) -> None:
        """Select the difference so many rows from the selected one."""
        self._docks.bring("deviations")
        self._docks.view(DeviationsView).jump_by(rows)

    def _selected_slice(self) -> SliceRef | None:
        selected = self.session.selected
        return selected if isinstance(selected, SliceRef) else None

    def _select_slice(self, item: SliceRef | None) -> None:
        """Select a slice and bring it into view as gently as that goes; nothing where there is none."""
        if item is None:
            return
        self.session.select(item)
        self._docks.view(TimelineView).show_track(item.track)
        span = self.session.selected_span()
        if span is not None:
            self.session.viewport.centre(sum(span) / 2)

    def along(self, forward: bool) -> Callable[[], None]:
        """A jump to the slice beside the selected one."""
        return lambda: self._select_slice(next_slice(self.session, self._selected_slice(), forward=forward))

    def across(self, down: bool) -> Callable[[], None]:
        """A jump to the slice above or below the selected one."""
        return lambda: self._select_slice(slice_across(self.session, self._selected_slice(), down=down))

    def clear(self) -> None:
        """Close the search, or else clear the filter, or else the selection."""
        if self._search.isVisible():
            self._search.hide()
            self._docks.view(TimelineView).setFocus()
            return
        timeline = self._docks.view(TimelineView)
        if timeline.filter.hasFocus():
            timeline.filter.clear()
            timeline.setFocus()
            return
        self.session.viewport.selected_range = None
        self.session.select(None)

    def marker(self) -> None:
        """Set a marker at the cursor."""
        viewport = self.session.viewport
        time = viewport.cursor if viewport.cursor is not None else (viewport.start + viewport.end) / 2
        self.session.add_marker(time)

    def opened(self) -> bool:
        """Whether the document shows anything."""
        return not self.session.document.empty


class StepNavigator:
    """Goes from step to step of the profile that is shown; dialogs stand over `parent`, `say` shows a line."""

    def __init__(self, parent: QWidget, documents: OpenDocuments, jobs: Jobs, say: Say) -> None:
        self._parent = parent
        self._documents = documents
        self._jobs = jobs
        self._say = say

    def choose(self) -> None:
        """Ask for a step by its number and show it."""
        self._with_steps(self._ask)

    def next(self) -> None:
        """Show the step after the one in view."""
        self._with_steps(lambda found: self._turn(found, forward=True))

    def previous(self) -> None:
        """Show the step before the one in view."""
        self._with_steps(lambda found: self._turn(found, forward=False))

    def _with_steps(self, use: Callable[[tuple[ShownStep, ...]], None]) -> None:
        """Find the profile's steps off the interface's thread, then `use` them; says so where there are none."""
        session = self._documents.current.session

        def done(found: tuple[ShownStep, ...]) -> None:
            if not found:
                self._say(tr("The profile tells of no steps."))
            elif session is self._documents.current.session:
                use(found)

        self._jobs.latest(self, tr("reading steps"), lambda progress: steps(session, progress), done)

    def _reveal(self, step: ShownStep) -> None:
        self._documents.current.session.viewport.reveal(step.start, step.end, margin=0.02)

    def _ask(self, found: tuple[ShownStep, ...]) -> None:
        numbers = [step.number for step in found]
        text = f"{tr('Step')} ({min(numbers):,} – {max(numbers):,})"
        number, sure = QInputDialog.getInt(self._parent, tr("To a step"), text, numbers[0], min(numbers), max(numbers))
        if sure:
            self._reveal(min(found, key=lambda step: abs(step.number - number)))

    def _turn(self, found: tuple[ShownStep, ...], *, forward: bool) -> None:
        viewport = self._documents.current.session.viewport
        step = step_beside(found, viewport.start, viewport.end, forward)
        if step is not None:
            self._reveal(step)
