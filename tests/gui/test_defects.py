"""Things that went wrong in the window once, each as a kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication, QKeySequence, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

import memplan
from memplan.gui.model.compare.deviations import verdict
from memplan.gui.model.details.facts import Fact, Section
from memplan.gui.model.memory.memory_curves import TierCurves
from memplan.gui.model.memory.step_curve import StepCurve
from memplan.gui.model.overview.head_figures import head_figures
from memplan.gui.model.palette import contrast, kind_names, load_palette, overlap_names, palette_names, theme_names
from memplan.gui.model.ruler import event_ticks
from memplan.gui.model.session.open_request import FileRemark, Request, open_session, remarks_on
from memplan.gui.model.session.session import Session, SliceRef
from memplan.gui.model.slices.flows import arrows
from memplan.gui.model.slices.shown_steps import ShownStep, step_beside
from memplan.gui.model.slices.slice_text import argument_text
from memplan.gui.model.timeline.counter_text import highest_text
from memplan.gui.model.timeline.timeline_tracks import TimelineTracks
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.window.main_window import MainWindow
from memplan.schema import load_plan
from memplan.simulator import simulate
from memplan.traces.profile import CounterSeries
from tests.gui.conftest import PLAN, PROFILE, SAMPLES
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


def test_a_hidden_track_comes_back_by_its_key(window: MainWindow) -> None:
    """Went wrong once: the key was dead until a menu had been opened."""
    tracks = window.session.tracks
    for track in tracks.all:
        tracks.hide(track.key)
    assert window.commands.actions["show-hidden"].isEnabled()
    window.commands.actions["show-hidden"].trigger()
    assert not tracks.hidden
    assert any(placed.track is not None for placed in tracks.layout())


def test_a_pinned_track_can_be_hidden(session: Session) -> None:
    """Went wrong once: it stayed until it was let go."""
    tracks = session.tracks
    key = tracks.all[0].key
    tracks.pin(key)
    tracks.hide(key)
    assert key not in {placed.track.key for placed in tracks.layout() if placed.track is not None}


def test_a_group_whose_tracks_are_all_pinned_has_no_header(session: Session) -> None:
    """Went wrong once: an empty header stayed."""
    tracks = session.tracks
    group = tracks.all[0].group
    for track in tracks.all:
        if track.group == group:
            tracks.pin(track.key)
    assert group not in {placed.group for placed in tracks.layout() if placed.track is None}


def test_every_curve_can_be_turned_on_however_little_room_there_is(window: MainWindow) -> None:
    """Went wrong once: names that the panel had no room for were cut off, and with them the way to their curves."""
    view = window.docks.view(CurveView)
    time = np.array([0, 1], dtype=np.int64) + window.session.origin_ns
    curves = tuple(StepCurve(f"curve {number}", time, np.array([number, 0])) for number in range(1, 40))
    window.session.curves = TierCurves(measured=curves)
    window.docks.bring("curve")
    settle()
    seen: set[str] = set()
    for _ in range(len(curves)):
        view.grab()
        seen |= {name for _, name in view._legend}
        if len(seen) == len(curves):
            break
        at = QPointF(GUTTER_PX / 2, view.height() / 2)
        event = QWheelEvent(
            at, QPointF(view.mapToGlobal(at.toPoint())), QPoint(), QPoint(0, -120), Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(view, event)
    assert seen == {curve.name for curve in curves}
    assert all(top < view.height() for top, _ in view._legend)


def test_arrows_do_not_depend_on_what_was_on_the_screen(window: MainWindow, qtbot: QtBot) -> None:
    """Went wrong once: arrows to a track that had not been read were left out while the slice was selected."""
    session = window.session
    stream = next(track for track in session.tracks.all if track.kind == "stream")
    fresh = TimelineTracks(session.document)
    session.tracks = fresh
    window.timeline.show_session(session)
    window.docks.view(DetailsView).show_session(session)
    fresh.load(fresh.track(stream.key))
    session.select(SliceRef(stream.key, 3))
    settle()
    found = arrows(session, session.selected)
    assert found
    assert all(end.item is not None for arrow in found for end in (arrow.source, arrow.target))
    assert "Arrows" in {str(section.title) for section in window.docks.view(DetailsView).sections}


def test_statistics_of_a_time_range_count_tracks_that_were_not_on_the_screen(window: MainWindow) -> None:
    """Went wrong once: tracks that had not been read were left out without a word."""
    session = window.session
    session.tracks = TimelineTracks(session.document)
    window.loader.forget_tracks()
    window.docks.view(DetailsView).show_session(session)
    session.viewport.selected_range = session.viewport.bounds
    settle()
    told = {str(section.title) for section in window.docks.view(DetailsView).sections}
    slices = [track for track in session.tracks.all if track.kind != "counter" and track.count]
    assert {str(track.title) for track in slices} <= told


@pytest.mark.parametrize("theme", theme_names())
def test_text_can_be_read_on_what_it_stands_on(theme: str) -> None:
    """Went wrong once: black on #0072B2 is 4.05 : 1, and faint text on grey 4.3. WCAG 2.2, 1.4.3 asks for 4.5."""
    palette = load_palette(theme)
    for text in ("text", "faint", "warning", "planned", "measured", "accent"):
        for ground in ("window", "base", "band", "ground", "gutter"):
            assert contrast(palette.role(text), palette.role(ground)) >= 4.5, (text, ground)
    assert contrast(palette.role("accent_text"), palette.role("accent")) >= 4.5
    assert contrast(palette.role("text"), palette.role("selection_band")) >= 4.5
    for colours in palette_names():
        chosen = load_palette(theme, colours)
        grounds = [*chosen.colours, *map(chosen.kind, kind_names()), *map(chosen.category, overlap_names())]
        for colour in grounds:
            assert contrast(chosen.label_on(colour), colour) >= 4.5, hex(colour)


@pytest.mark.parametrize("theme", theme_names())
def test_lines_are_seen_on_the_ground(theme: str) -> None:
    """Went wrong once: moves of weights drawn 1.9 : 1 on the dark ground, of optimizer state 1.6 on the light one."""
    for colours in palette_names():
        palette = load_palette(theme, colours)
        ground = palette.role("ground")
        for colour in (*palette.colours, *map(palette.kind, kind_names())):
            assert contrast(palette.line(colour), ground) >= 3, (colours, hex(colour))
            assert (palette.line(colour) == colour) == (contrast(colour, ground) >= 3), (colours, hex(colour))


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast(0xFF000000, 0xFFFFFFFF) == pytest.approx(21)
    assert contrast(0xFF0072B2, 0xFF000000) == pytest.approx(4.05, abs=0.01)
    assert contrast(0xFF777777, 0xFFFFFFFF) == pytest.approx(4.48, abs=0.01)


def test_counters_of_bytes_are_said_as_bytes() -> None:
    """Went wrong once: "highest 2,164,460 KB"."""
    time, values = np.array([0, 5], dtype=np.int64), np.array([1.0, 2_164_460.0])
    assert str(highest_text([CounterSeries("HBM", "KB", time, values)])) == "highest 2.06 GiB"
    assert str(highest_text([CounterSeries("Freq", "MHz", time, np.array([1.0, 1800.0]))])) == "highest 1,800 MHz"


def test_files_that_say_the_same_share_a_line(window: MainWindow) -> None:
    """Went wrong once: thirty lines of one text for a healthy profile."""
    profile = window.session.document.profile
    assert profile is not None
    before = len(remarks_on(window.session))
    for number in range(30):
        profile._notes.add(profile.path / f"part{number}.json", "not read: its events are in the full trace too")
    lines = [str(remark.text) for remark in remarks_on(window.session)]
    assert len(lines) == before + 1
    assert any("+ 29" in line and line.endswith("not read: its events are in the full trace too") for line in lines)


def test_the_next_step_of_an_overview_is_the_first_one() -> None:
    """Went wrong once: "next step" from where all are seen went to the second."""
    found = tuple(ShownStep(number, 100.0 * number + 2, 100.0 * number + 80) for number in range(1, 6))
    assert step_beside(found, 0.0, 1000.0, True) is found[0]
    assert step_beside(found, 0.0, 1000.0, False) is found[-1]
    for place in range(4):
        step = found[place]
        assert step_beside(found, step.start - 2, step.end + 2, True) is found[place + 1]
    assert step_beside(found, found[-1].start - 2, found[-1].end + 2, True) is None


def test_events_without_times_are_counted(qtbot: QtBot, shared_data: Path) -> None:
    """Went wrong once: 9,699 events were "9.699 us" long."""
    profile = shared_data / "snapshots"
    numbered = [session for rank in range(5) if (session := open_session(Request(None, profile, rank=rank))).counted]
    assert numbered
    for session in numbered:
        start, end = session.document.span_ns
        assert str(session.length_text(end - start)) == f"{end - start:,} events"
        ticks = event_ticks(0.0, float(end), 8)
        assert [tick.text for tick in ticks] == [f"{round(tick.value):,}" for tick in ticks]
        assert len(ticks) in range(2, 12)
    assert str(open_session(Request(PLAN, PROFILE)).length_text(1500.0)) == "1.500 µs"


def test_what_is_lost_of_files_stands_before_how_they_were_read(window: MainWindow) -> None:
    """Went wrong once: assumptions and damage were one list, and counted as problems alike."""
    profile = window.session.document.profile
    assert profile is not None
    title = window.problems.title
    profile._notes.tell(profile.path / "a.csv", "read in another way")
    profile._notes.add(profile.path / "b.csv", "3 rows are damaged")
    window.problems.show_remarks(remarks_on(window.session))
    told = [window.problems.item(row).toolTip() for row in range(window.problems.count())]
    lost, read = (next(row for row, text in enumerate(told) if words in text) for words in ("damaged", "another way"))
    assert told.index("Missing or inexact (1)") < lost < read
    assert lost < next(row for row, text in enumerate(told) if text.startswith("How the files were read"))
    assert (title, window.problems.title) == ("Problems", "Problems (1)")


def test_a_path_copied_from_the_problems_is_that_path(window: MainWindow, qtbot: QtBot) -> None:
    """Went wrong once: it held the letters of no width at which it is broken, and led nowhere."""
    view = window.problems
    path = "/some/long_folder.name/with-many/parts.json: can't be read"
    view.show_remarks([FileRemark(path), FileRemark("another")])
    window.docks.bring("problems")
    settle()
    view.setFocus()
    view.selectAll()
    QTest.keySequence(view, QKeySequence.StandardKey.Copy)
    assert QGuiApplication.clipboard().text().split("\n") == [path, "another"]


def test_problems_of_before_are_gone_when_something_else_is_open(qtbot: QtBot, tmp_path: Path) -> None:
    """Went wrong once: an error stayed whatever was opened after it; one that came since must stay."""
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.opener.open_request(Request(tmp_path / "missing.plan.json"))
    assert len(window.problems.errors) == 1
    window.opener.open_request(Request(tmp_path / "gone.plan.json"))
    assert len(window.problems.errors) == 2
    window.opener.open_request(Request(PLAN))
    assert window.problems.errors == []
    window.problem("the disk is full")
    window.opener.keep_arrangement()
    assert window.problems.errors == ["the disk is full"]
    window.close()


def test_numbers_that_stand_for_none_are_not_shown_as_numbers(window: MainWindow) -> None:
    """Went wrong once: a kernel of no model was said to be of model 4294967295."""
    stream = next(track for track in window.session.tracks.all if track.kind == "stream" and track.planned is None)
    window.session.tracks.load(stream)
    window.session.select(SliceRef(stream.key, 3))
    facts = {str(fact.label): str(fact.value) for one in window.docks.view(DetailsView).sections for fact in one.facts}
    assert facts["Model Id"] == "none"
    assert facts["Task Type"] in ("AI_CORE", "AI_VECTOR_CORE")
    assert not any("4294967295" in value for value in facts.values())
    assert [str(argument_text(value)) for value in (2**64 - 1, "N/A", 0, -1)] == ["none", "none", "0", "-1"]


@pytest.mark.parametrize("width", [260, 320, 420])
def test_a_header_with_its_unit_is_not_broken(qtbot: QtBot, session: Session, width: int) -> None:
    """Went wrong once: "aic_scalar_time(us" and ")" stood on two lines."""
    view = DetailsView(session, load_palette())
    qtbot.addWidget(view)
    view.resize(width, 400)
    view.show()
    labels = ("aic_scalar_time(us)", "aiv_vec_bankgroup_cflt_ratio", "aic_mte2_time(us)")
    view._write([Section("Arguments", tuple(Fact(label, "0.135 and some more words " * 4) for label in labels))])
    document, broken = view.document(), []
    block = document.begin()
    while block.isValid():
        if block.text() in labels and block.layout().lineCount() != 1:
            broken.append(block.text())
        block = block.next()
    assert document.toPlainText().count("aic_scalar_time(us)") == 1
    assert not broken


def test_the_step_that_is_compared_is_told_and_can_be_chosen(qtbot: QtBot, tmp_path: Path) -> None:
    """Went wrong once: one step of three was compared, and only the command line said which."""
    plan = load_plan(PLAN)
    simulate(plan, tmp_path / "run", steps=3)
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1400, 900)
    window.show()
    window.opener.open_request(Request(PLAN, tmp_path / "run"))
    window.show_page("plan")
    settle()
    chooser = window.docks.view(DeviationsView).chooser
    found = window.session.document.comparison
    assert found is not None
    assert len(found.steps) == 3
    assert chooser.steps.isVisible()
    assert not chooser.ranks.isVisible(), "there is one rank"
    assert chooser.steps.currentText() == f"median ({found.steps[found.place]})"
    for number in found.steps:
        chooser.steps.setFocus()
        QTest.keyClick(chooser.steps, Qt.Key.Key_Down)
        settle()
        now = window.session.document.comparison
        assert now is not None
        assert now.step == number
        assert window.pages.current == "plan"
        assert chooser.steps.currentText() == str(number)
    window.close()


def test_a_run_that_needs_more_than_the_plan_may_use_is_called_out(tmp_path: Path) -> None:
    """Went wrong once: a measured peak of 4.16 MiB over a capacity of 4.00 was nowhere said."""
    tight = tmp_path / "tight.plan.json"
    memplan.plan(SAMPLES / "llama_train.mindir", chip="910B3", hbm=7_000_000).save(tight)
    session = open_session(Request(tight, PROFILE))
    found = session.document.comparison
    assert found is not None
    assert (found.summary.measured_peak or 0) > 7_000_000
    told = str(verdict(session.document))
    assert "the measured peak of 7.35 MiB exceeds the 6.68 MiB that the plan may use" in told
    figures = {str(figure.title): figure for figure in head_figures(session)}
    assert figures["Memory peak"].warns
    assert figures["Verdict"].warns
    assert str(figures["Memory peak"].value) == "7.35 MiB", "the peak that is compared, not the process"
    roomy = open_session(Request(PLAN, PROFILE))
    assert "exceeds" not in str(verdict(roomy.document))
