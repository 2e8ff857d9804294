"""The commands of the main window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QInputDialog, QMenu, QWidget

from memplan.gui.i18n import LANGUAGES, say, tr
from memplan.gui.model.document.session import SliceRef
from memplan.gui.model.palette import load_palette, theme_names
from memplan.gui.model.timeline.neighbours import next_slice, slice_across
from memplan.gui.model.timeline.steps import ShownStep, adjacent_step, steps
from memplan.gui.model.timeline.timeline_tracks import TimelineTracks
from memplan.gui.views.command_palette import CommandPalette
from memplan.gui.window.commands import Command
from memplan.gui.window.file_commands import (
    choose_rank,
    copy_view,
    export_plan,
    open_file,
    open_folder,
    open_sample,
    reopen_recent,
    save_view,
)
from memplan.schema import Tier

if TYPE_CHECKING:
    from memplan.gui.window.main_window import MainWindow

TOOLS: Sequence[tuple[str, str] | None] = (
    ("open-file", "Open plan"), ("open-folder", "Open profile"), ("open-sample", "Sample"), None, ("back", "Back"),
    ("show-all", "Show all"), ("find", "Find"), None, ("peak", "Memory peak"), ("costliest", "Costliest difference"),
    None, ("kv", "KV budget"), ("roofline", "Roofline"), ("kernel", "Kernel"), None, ("export-plan", "Export plan"),
)  # fmt: skip
"""The commands in the tool bar with their short names; `None` is a gap."""

_AROUND_PEAK = 0.05  # what is shown on either side of the peak, as a share of everything


def window_commands(window: MainWindow) -> list[Command]:
    """Everything that `window` can do, in the order of its menus."""
    return [*_file(window), *_go(window), *_tracks(window), *_view(window)]


def ways_to_begin(window: MainWindow) -> list[tuple[str, str, Callable[[], object]]]:
    """What the welcome page offers."""
    return [
        ("Open the sample", "A small Llama training step: its plan and a profile of it", lambda: open_sample(window)),
        ("Open plan or graph …", "A plan of memplan, MindIR, kernel IR or ONNX", lambda: open_file(window)),
        ("Open profile directory …", "What the CANN profiler left: one rank or many", lambda: open_folder(window)),
        ("KV budget …", "How many tokens a served model has room for", lambda: window.lazy_docks.show_kv()),
    ]


def view_menu(window: MainWindow, name: str) -> QMenu:
    """What a right click on view `name` offers."""
    menu = QMenu(window)
    if name == "timeline":
        track = window.timeline.acted_track()
        tracks = window.session.tracks
        for command in ("pin-track", "hide-track", "track-up", "track-down"):
            action = menu.addAction(window.commands.actions[command].text())
            action.setEnabled(track is not None)
            if track is not None:
                action.triggered.connect(lambda *_, command=command, key=track.key: arrange(tracks, command, key))
        menu.addAction(window.commands.actions["show-hidden"])
        menu.addSeparator()
    if name == "curve":
        for curve, _ in window.curve.all_lines():
            action = menu.addAction(say(curve.title))
            action.setCheckable(True)
            action.setChecked(curve.name not in window.curve.hidden)
            action.triggered.connect(lambda *_, shown=curve.name: window.curve.toggle(shown))
        menu.addSeparator()
    if name in ("map", "curve"):
        for tier in window.session.tiers:
            action = menu.addAction(tier.value)
            action.setCheckable(True)
            action.setChecked(tier is window.session.tier)
            action.triggered.connect(lambda *_, tier=tier: _show_tier(window, tier))
        menu.addSeparator()
    menu.addAction(tr("Copy"), lambda: copy_view(window, name))
    menu.addAction(tr("Save as picture or table …"), lambda: save_view(window, name))
    return menu


def _file(window: MainWindow) -> list[Command]:
    def has_plan() -> bool:
        return window.session.document.plan is not None

    def several_ranks() -> bool:
        profile = window.session.document.profile
        return profile is not None and len(profile.ranks) > 1

    return [
        Command("open-file", "File", "Open plan or graph …", lambda: open_file(window), ("Ctrl+O",)),
        Command("open-folder", "File", "Open profile directory …", lambda: open_folder(window), ("Ctrl+Shift+O",)),
        Command("open-recent", "File", "Open recent …", lambda: reopen_recent(window), ("Ctrl+Shift+R",)),
        Command("open-sample", "File", "Open the sample", lambda: open_sample(window)),
        Command(
            "rank", "File", "Choose a rank …", lambda: choose_rank(window), ("Ctrl+Shift+K",), enabled=several_ranks
        ),
        Command(
            "rank-new-tab",
            "File",
            "Open another rank …",
            lambda: choose_rank(window, new_tab=True),
            enabled=several_ranks,
        ),
        Command("cancel", "File", "Cancel reading", window.loader.cancel, ("Ctrl+.",)),
        Command(
            "export-plan",
            "File",
            "Export the plan …",
            lambda: export_plan(window),
            ("Ctrl+E",),
            enabled=has_plan,
            separated=True,
        ),
        Command(
            "save-view",
            "File",
            "Save the view as picture or table …",
            lambda: save_view(window, window.active_view()),
            ("Ctrl+S",),
        ),
        Command("copy-view", "File", "Copy the view", lambda: copy_view(window, window.active_view()), ("Ctrl+C",)),
        Command("save-window", "File", "Save the window as a picture …", lambda: save_view(window, "")),
        Command(
            "copy-window", "File", "Copy the window as a picture", lambda: copy_view(window, ""), ("Ctrl+Shift+C",)
        ),
        Command(
            "close-document", "File", "Close the document", lambda: window.close_document(), ("Ctrl+W",), separated=True
        ),
        Command("next-document", "File", "Next document", lambda: _turn(window, 1), ("Ctrl+Tab",)),
        Command("previous-document", "File", "Previous document", lambda: _turn(window, -1), ("Ctrl+Shift+Tab",)),
        Command("close", "File", "Close window", window.close, ("Ctrl+Q",), separated=True),
    ]


def _turn(window: MainWindow, places: int) -> None:
    documents = window.documents
    documents.select((documents.index + places) % len(documents.opened))


def _go(window: MainWindow) -> list[Command]:
    def viewport_back() -> None:
        window.session.viewport.back()

    def show_all() -> None:
        window.session.viewport.show_all()

    def to_selection() -> None:
        selected = window.session.viewport.selected_range
        if selected is not None:
            window.session.viewport.reveal(*selected, margin=0.02)
        else:
            window.session.reveal_selected()

    def to_peak() -> None:
        session, viewport = window.session, window.session.viewport
        moment = session.peak_ns
        if moment is None:
            window.statusBar().showMessage(tr("Neither plan nor profile holds a memory curve"), 5_000)
            return
        session.select(None)
        low, high = viewport.bounds
        time, around = float(moment - session.origin_ns), _AROUND_PEAK * (high - low)
        viewport.reveal(time - around, time + around, margin=0.0)
        window.show_view("map" if session.peak is not None else "curve")
        window.show_view("details")

    def to_costliest() -> None:
        window.show_view("deviations")
        if window.deviations.sorted.rowCount():
            index = window.deviations.sorted.index(0, 0)
            window.deviations.table.setCurrentIndex(index)
            window.deviations.jump(index)

    def along(forward: bool) -> Callable[[], None]:
        return lambda: _select_slice(window, next_slice(window.session, _selected_slice(window), forward=forward))

    def across(down: bool) -> Callable[[], None]:
        return lambda: _select_slice(window, slice_across(window.session, _selected_slice(window), down=down))

    def clear() -> None:
        if window.search.isVisible():
            window.search.hide()
            window.timeline.setFocus()
            return
        window.session.viewport.selected_range = None
        window.session.select(None)

    def marker() -> None:
        viewport = window.session.viewport
        time = viewport.cursor if viewport.cursor is not None else (viewport.start + viewport.end) / 2
        window.session.add_marker(time)

    return [
        Command("find", "Go", "Find …", window.search.open, ("Ctrl+F", "/")),
        Command("find-next", "Go", "Next hit", lambda: window.search.step(), ("F3", "Ctrl+G")),
        Command("find-previous", "Go", "Previous hit", lambda: window.search.step(False), ("Shift+F3",)),
        Command("commands", "Go", "All commands …", lambda: open_palette(window), ("Ctrl+Shift+P",)),
        Command("show-all", "Go", "Show everything", show_all, ("Home", "0")),
        Command("zoom-to", "Go", "Zoom to the selected time range or item", to_selection, ("F",)),
        Command("back", "Go", "Back to before the jump", viewport_back, ("Backspace", "Alt+Left")),
        Command("next-slice", "Go", "Next slice of the lane", along(True), (".",), separated=True),
        Command("previous-slice", "Go", "Previous slice of the lane", along(False), (",",)),
        Command("slice-below", "Go", "Slice of the lane below", across(True), ("Alt+Down",)),
        Command("slice-above", "Go", "Slice of the lane above", across(False), ("Alt+Up",)),
        Command("peak", "Go", "To the memory peak", to_peak, ("P",), separated=True),
        Command("costliest", "Go", "To the costliest difference", to_costliest, ("C",)),
        Command("step", "Go", "To a step …", lambda: _with_steps(window, _choose_step), ("J",), separated=True),
        Command("next-step", "Go", "Next step", lambda: _with_steps(window, _next_step), ("]",)),
        Command("previous-step", "Go", "Previous step", lambda: _with_steps(window, _previous_step), ("[",)),
        Command("marker", "Go", "Set a marker at the cursor", marker, ("M",), separated=True),
        Command("clear-markers", "Go", "Remove all markers", lambda: window.session.clear_markers(), ("Shift+M",)),
        Command("clear", "Go", "Close the search, or clear the selection", clear, ("Escape",)),
    ]


def _selected_slice(window: MainWindow) -> SliceRef | None:
    selected = window.session.selected
    return selected if isinstance(selected, SliceRef) else None


def _select_slice(window: MainWindow, item: SliceRef | None) -> None:
    """Select a slice and bring it into view as gently as that goes; nothing where there is none."""
    if item is None:
        return
    window.session.select(item)
    window.timeline.show_track(item.track)
    span = window.session.selected_span()
    if span is not None:
        window.session.viewport.centre(sum(span) / 2)


def _with_steps(window: MainWindow, use: Callable[[MainWindow, tuple[ShownStep, ...]], None]) -> None:
    """Find the profile's steps off the interface's thread, then `use` them; says so where there are none."""
    session = window.session

    def done(found: tuple[ShownStep, ...]) -> None:
        if session is not window.session:
            return
        if not found:
            window.statusBar().showMessage(tr("The profile tells of no steps."), 5_000)
        else:
            use(window, found)

    window.jobs.latest(window, tr("reading steps"), lambda progress: steps(session, progress), done, question="steps")


def _reveal(window: MainWindow, step: ShownStep) -> None:
    window.session.viewport.reveal(step.start, step.end, margin=0.02)


def _choose_step(window: MainWindow, found: tuple[ShownStep, ...]) -> None:
    numbers = [step.number for step in found]
    text = f"{tr('Step')} ({min(numbers):,} – {max(numbers):,})"
    number, sure = QInputDialog.getInt(window, tr("To a step"), text, numbers[0], min(numbers), max(numbers))
    if sure:
        _reveal(window, min(found, key=lambda step: abs(step.number - number)))


def _next_step(window: MainWindow, found: tuple[ShownStep, ...]) -> None:
    _to_adjacent_step(window, found, forward=True)


def _previous_step(window: MainWindow, found: tuple[ShownStep, ...]) -> None:
    _to_adjacent_step(window, found, forward=False)


def _to_adjacent_step(window: MainWindow, found: tuple[ShownStep, ...], *, forward: bool) -> None:
    viewport = window.session.viewport
    # The step in view is the one that begins near the left edge, with the margin that a jump leaves.
    step = adjacent_step(found, viewport.start + 0.05 * viewport.span, forward)
    if step is not None:
        _reveal(window, step)


def arrange(tracks: TimelineTracks, command: str, key: str) -> None:
    """Pin, hide or move the track `key`."""
    if command == "pin-track":
        tracks.pin(key)
    elif command == "hide-track":
        tracks.hide(key)
    elif command == "track-up":
        tracks.shift(key, -1)
    else:
        tracks.shift(key, 1)


def _tracks(window: MainWindow) -> list[Command]:
    def acting(command: str) -> Callable[[], None]:
        def run() -> None:
            timeline = window.side_by_side.acting_timeline()
            track = timeline.acted_track()
            if track is not None:
                arrange(timeline.session.tracks, command, track.key)
            else:
                window.statusBar().showMessage(tr("Point at a track, or select a slice of it, first."), 5_000)

        return run

    return [
        Command("pin-track", "Tracks", "Pin the track, or let it go", acting("pin-track"), ("T",)),
        Command("hide-track", "Tracks", "Hide the track", acting("hide-track"), ("H",)),
        Command("track-up", "Tracks", "Move the track up", acting("track-up"), ("Shift+Up",)),
        Command("track-down", "Tracks", "Move the track down", acting("track-down"), ("Shift+Down",)),
        Command(
            "show-hidden",
            "Tracks",
            "Show hidden tracks",
            lambda: window.session.tracks.show_hidden(),
            ("Shift+H",),
            enabled=lambda: bool(window.session.tracks.hidden),
        ),
        Command("fold-all", "Tracks", "Fold all groups", lambda: window.session.tracks.fold_all(True), ("Z",)),
        Command(
            "unfold-all", "Tracks", "Unfold all groups", lambda: window.session.tracks.fold_all(False), ("Shift+Z",)
        ),
    ]


def _view(window: MainWindow) -> list[Command]:
    commands = []
    for index, (name, dock) in enumerate(window.docks.items()):
        title = window.titles[name]

        def turn(dock: QDockWidget = dock) -> None:
            dock.setVisible(not dock.isVisible())
            dock.raise_()

        keys = (f"Ctrl+{index + 1}",)
        commands.append(Command(f"dock-{name}", "View", title, turn, keys, checked=dock.isVisible))
    commands.append(
        Command(
            "side-by-side",
            "View",
            "Side by side …",
            window.side_by_side.toggle,
            ("Ctrl+B",),
            checked=lambda: window.side_by_side.on,
            enabled=lambda: not window.session.document.empty,
            separated=True,
        )
    )
    commands.append(Command("next-view", "View", "Keyboard to the next view", lambda: _focus(window, 1), ("F6",)))
    commands.append(
        Command("previous-view", "View", "Keyboard to the view before", lambda: _focus(window, -1), ("Shift+F6",))
    )
    commands.append(Command("roofline", "View", "Roofline …", lambda: window.lazy_docks.show("roofline"), ("Ctrl+R",)))
    commands.append(Command("kernel", "View", "Kernel …", lambda: window.lazy_docks.show("kernel"), ("Ctrl+Shift+E",)))
    commands.append(Command("kv", "View", "KV budget …", lambda: window.lazy_docks.show_kv(), ("Ctrl+K",)))
    commands.append(
        Command(
            "next-tier",
            "View",
            "Memory of the next tier",
            lambda: _next_tier(window),
            ("Ctrl+T",),
            enabled=lambda: len(window.session.tiers) > 1,
        )
    )
    commands += [_theme(window, theme) for theme in theme_names()]
    commands.append(Command("colours", "View", "Colours …", lambda: choose_colours(window)))
    commands += [_language(window, code) for code in LANGUAGES]
    commands.append(Command("reset-layout", "View", "Reset the layout", window.reset_layout, separated=True))
    return commands


def _focus(window: MainWindow, places: int) -> None:
    """Give the keyboard to the next of the views that can be seen."""
    shown = [name for name, view in window.view_widgets() if not view.visibleRegion().isEmpty()]
    now = window.active_view()
    at = shown.index(now) if now in shown else 0
    name = shown[(at + places) % len(shown)]
    widget = dict(window.view_widgets())[name]
    inside = (child for child in widget.findChildren(QWidget) if child.isVisible())
    keyed = (part for part in (widget, *inside) if part.focusPolicy() & Qt.FocusPolicy.TabFocus)
    next(keyed, widget).setFocus(Qt.FocusReason.ShortcutFocusReason)
    window.statusBar().showMessage(tr(window.titles[name]), 2_000)


def _next_tier(window: MainWindow) -> None:
    session = window.session
    if session.tiers:
        at = session.tiers.index(session.tier) if session.tier in session.tiers else -1
        _show_tier(window, session.tiers[(at + 1) % len(session.tiers)])


def _show_tier(window: MainWindow, tier: Tier) -> None:
    session = window.session
    window.jobs.latest(
        window,
        tier.value,
        lambda _: session.tier_memory(tier),
        lambda memory: session.show_tier(tier, memory),
        question="tier",
    )


def _theme(window: MainWindow, theme: str) -> Command:
    def choose() -> None:
        window.set_colours(load_palette(theme, window.colours.name, window.colours.overrides))

    return Command(
        f"theme-{theme}",
        "View",
        f"{theme.capitalize()} theme",
        choose,
        checked=lambda: window.colours.theme == theme,
        separated=theme == theme_names()[0],
    )


def _language(window: MainWindow, code: str) -> Command:
    return Command(
        f"language-{code}",
        "View",
        LANGUAGES[code],
        lambda: window.set_language(code),
        checked=lambda: window.settings.language == code,
        separated=code == next(iter(LANGUAGES)),
    )


def choose_colours(window: MainWindow) -> None:
    """Show the dialog that sets colours."""
    from memplan.gui.views.colours_dialog import ColoursDialog

    categories: list[str] = []
    for track in window.session.tracks.all:
        lanes = window.session.tracks.lanes(track)
        categories += lanes.kinds if lanes is not None else ()
    ColoursDialog(window.colours, categories, window.set_colours, window).open()


def open_palette(window: MainWindow) -> None:
    """Show the command palette."""
    CommandPalette(window.commands, window).open()
