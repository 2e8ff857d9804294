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

    def session() -> Session:
        return documents.current.session

    def to_selected() -> None:
        selected = session().viewport.selected_range
        if selected is not None:
            session().viewport.reveal(*selected, margin=0.02)
        else:
            session().reveal_selected()

    def to_peak() -> None:
        viewport, moment = session().viewport, session().peak_ns
        if moment is None:
            say(tr("Neither plan nor profile holds a memory curve"))
            return
        explained = session().peak_finding if session().peak is None else None
        session().select(explained)
        low, high = viewport.bounds
        time, around = float(moment - session().origin_ns), _AROUND_PEAK * (high - low)
        viewport.reveal(time - around, time + around, margin=0.0)
        docks.bring("map")
        if session().peak is None:
            docks.bring("curve")
        docks.bring("details")

    def to_costliest() -> None:
        docks.bring("deviations")
        docks.view(DeviationsView).jump_to_first()

    def beside(rows: int) -> None:
        docks.bring("deviations")
        docks.view(DeviationsView).jump_by(rows)

    def selected_slice() -> SliceRef | None:
        selected = session().selected
        return selected if isinstance(selected, SliceRef) else None

    def select_slice(item: SliceRef | None) -> None:
        """Select a slice and bring it into view as gently as that goes; nothing where there is none."""
        if item is None:
            return
        session().select(item)
        docks.view(TimelineView).show_track(item.track)
        span = session().selected_span()
        if span is not None:
            session().viewport.centre(sum(span) / 2)

    def along(forward: bool) -> Callable[[], None]:
        return lambda: select_slice(next_slice(session(), selected_slice(), forward=forward))

    def across(down: bool) -> Callable[[], None]:
        return lambda: select_slice(slice_across(session(), selected_slice(), down=down))

    def clear() -> None:
        if search.isVisible():
            search.hide()
            docks.view(TimelineView).setFocus()
            return
        timeline = docks.view(TimelineView)
        if timeline.filter.hasFocus():
            timeline.filter.clear()
            timeline.setFocus()
            return
        session().viewport.selected_range = None
        session().select(None)

    def marker() -> None:
        viewport = session().viewport
        time = viewport.cursor if viewport.cursor is not None else (viewport.start + viewport.end) / 2
        session().add_marker(time)

    def opened() -> bool:
        return not session().document.empty

    return [
        Command("find", "Go", "Find …", search.open, ("Ctrl+F", "/"), enabled=opened),
        Command("find-next", "Go", "Next hit", search.step, ("F3", "Ctrl+G")),
        Command("find-previous", "Go", "Previous hit", lambda: search.step(False), ("Shift+F3",)),
        Command("commands", "Go", "All commands …", show_commands, ("Ctrl+Shift+P",)),
        Command(
            "show-all", "Go", "Show everything", lambda: session().viewport.show_all(), ("Home", "0"), enabled=opened
        ),
        Command("zoom-to", "Go", "Zoom to the selected time range or item", to_selected, ("F",)),
        Command("zoom-in", "Go", "Closer", lambda: session().viewport.zoom_step(True), ("W", "+")),
        Command("zoom-out", "Go", "Farther", lambda: session().viewport.zoom_step(False), ("S", "-")),
        Command("pan-left", "Go", "Earlier", lambda: session().viewport.pan_step(False), ("A",)),
        Command("pan-right", "Go", "Later", lambda: session().viewport.pan_step(True), ("D",)),
        Command(
            "back",
            "Go",
            "Back to before the jump",
            lambda: session().viewport.back(),
            ("Backspace", "Alt+Left"),
            enabled=opened,
        ),
        Command("next-slice", "Go", "Next slice of the lane", along(True), (".",), separated=True),
        Command("previous-slice", "Go", "Previous slice of the lane", along(False), (",",)),
        Command("slice-below", "Go", "Slice of the lane below", across(True), ("Alt+Down",)),
        Command("slice-above", "Go", "Slice of the lane above", across(False), ("Alt+Up",)),
        Command("peak", "Go", "To the memory peak", to_peak, ("P",), enabled=opened, separated=True),
        Command("costliest", "Go", "To the costliest difference", to_costliest, ("C",), enabled=opened),
        Command("next-difference", "Go", "Next costliest difference", lambda: beside(1), ("N",)),
        Command("previous-difference", "Go", "Costliest difference before", lambda: beside(-1), ("Shift+N",)),
        Command("step", "Go", "To a step …", steps_of.choose, ("J",), separated=True),
        Command("next-step", "Go", "Next step", steps_of.next, ("]",)),
        Command("previous-step", "Go", "Previous step", steps_of.previous, ("[",)),
        Command("marker", "Go", "Set a marker at the cursor", marker, ("M",), separated=True),
        Command("clear-markers", "Go", "Remove all markers", lambda: session().clear_markers(), ("Shift+M",)),
        Command("clear", "Go", "Close the search, or clear the selection", clear, ("Escape",)),
    ]


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
