"""Commands that go somewhere: found, zoomed to, stepped to, marked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QInputDialog

from memplan.gui.model.session.session import SliceRef
from memplan.gui.views.command_palette import CommandPalette
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.details_panel import DetailsView
from tests.gui.scene import Scene


def _find(scene: Scene) -> None:
    scene.press("find")
    assert scene.window.search.isVisible()


def _find_step(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.press("find")
        QTest.keyClicks(scene.window.search.edit, "MatMul")
        scene.press(name)
        first = scene.window.session.selected
        scene.press(name)
        assert isinstance(first, SliceRef)
        assert scene.window.session.selected != first

    return case


def _commands(scene: Scene) -> None:
    scene.press("commands")
    palette = scene.dialog(CommandPalette)
    assert palette.list.count() > 20
    palette.reject()


def _show_all(scene: Scene) -> None:
    scene.zoom_in()
    scene.press("show-all")
    bounds = scene.window.session.viewport.bounds
    assert scene.span == pytest.approx(bounds[1] - bounds[0])


def _zoom_to(scene: Scene) -> None:
    before = scene.span
    scene.select_a_kernel()
    scene.press("zoom-to")
    assert scene.span < before / 10


def _back(scene: Scene) -> None:
    before = scene.span
    _zoom_to(scene)
    scene.press("back")
    assert scene.span == pytest.approx(before)


def _along(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        forward = name == "next-slice"
        session = scene.window.session
        first = scene.select_a_kernel()
        lanes = session.tracks.lanes(session.tracks.track(first.track))
        assert lanes is not None
        for number in range(1, 4):
            scene.press(name)
            index = first.index + (number if forward else -number)
            assert session.selected == SliceRef(first.track, index), (
                "kernels of a stream don't nest: the next one follows"
            )
        span = session.selected_span()
        assert span is not None
        assert session.viewport.start <= sum(span) / 2 < session.viewport.end
        edge = len(lanes.slices) - 1 if forward else 0
        session.select(SliceRef(first.track, edge))
        scene.press(name)
        assert session.selected == SliceRef(first.track, edge)
        session.select(None)
        scene.press(name)
        assert isinstance(session.selected, SliceRef), "without an item it begins with what is in view"

    return case


def _across(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        session = scene.window.session
        order = [placed.track.key for placed in session.tracks.layout() if placed.track is not None]
        scene.window.commands.run("find")  # reads every track
        first = scene.select_a_kernel()
        middle = sum(session.selected_span() or (0.0, 0.0)) / 2
        scene.press(name)
        now = session.selected
        assert isinstance(now, SliceRef)
        step = order.index(now.track) - order.index(first.track)
        assert step > 0 if name == "slice-below" else step < 0
        start, end = session.selected_span() or (0.0, 0.0)
        assert max(start - middle, middle - end) < session.viewport.span, "it lies at the same moment, or near it"
        scene.press("slice-above" if name == "slice-below" else "slice-below")
        back = session.selected
        assert isinstance(back, SliceRef)
        assert back.track == first.track

    return case


def _next_view(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.window.show_page("memory")
        scene.press(name)  # from the timeline
        seen = [scene.window.docks.active()]
        while seen[-1] != "timeline" and len(seen) < 12:
            scene.window.commands.run(name)
            seen.append(scene.window.docks.active())
        assert seen[-1] == "timeline", seen
        assert {"map", "curve", "details"} <= set(seen)
        assert len(set(seen)) == len(seen)

    return case


def _peak(scene: Scene) -> None:
    peak = scene.window.session.peak
    assert peak is not None
    viewport = scene.window.session.viewport
    viewport.show_all()
    scene.press("peak")
    assert viewport.span < (viewport.bounds[1] - viewport.bounds[0]) / 5, "the peak is shown close up"
    assert viewport.start <= peak.time_ns - scene.window.session.origin_ns < viewport.end
    assert "peaks" in scene.window.docks.view(DetailsView).toPlainText()


def _costliest(scene: Scene) -> None:
    scene.press("costliest")
    table = scene.window.docks.view(DeviationsView)
    first = table.row_at(table.table.currentIndex())
    costs = [row.sort_keys[-1] for row in table.model.rows]
    assert first.sort_keys[-1] == max(costs)


def _closer(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.zoom_in()
        viewport = scene.window.session.viewport
        start, span = viewport.start, viewport.span
        scene.press(name)
        if name.startswith("zoom"):
            assert (viewport.span < span) == (name == "zoom-in")
        else:
            assert viewport.span == pytest.approx(span)
            assert (viewport.start > start) == (name == "pan-right")

    return case


def _beside(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.press("costliest")
        table = scene.window.docks.view(DeviationsView).table
        table.setCurrentIndex(table.model().index(2, 0))
        scene.press(name)
        assert table.currentIndex().row() == (3 if name == "next-difference" else 1)
        assert scene.window.session.selected is not None

    return case


def _step(scene: Scene) -> None:
    scene.zoom_in()
    asked = scene.answer(QInputDialog, "getInt", (1, True))
    scene.press("step")
    assert asked
    origin = scene.window.session.origin_ns
    kernels = scene.window.session.document.rank.kernels()
    assert kernels is not None
    assert scene.window.session.viewport.start <= float(kernels.start_ns[0] - origin)


def _step_beside(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        viewport = scene.window.session.viewport
        low, high = viewport.bounds
        # The sample has one step: it is the next one seen from before it, the one before seen from behind it.
        viewport.show(*((low, low + 10.0) if name == "next-step" else (high - 10.0, high)))
        before = viewport.span
        scene.press(name)
        assert viewport.span > before * 100

    return case


def _marker(scene: Scene) -> None:
    scene.window.session.viewport.cursor = 777.0
    scene.press("marker")
    assert scene.window.session.markers == [777.0]


def _clear_markers(scene: Scene) -> None:
    scene.window.session.add_marker(5.0)
    scene.press("clear-markers")
    assert scene.window.session.markers == []


def _clear(scene: Scene) -> None:
    scene.select_a_kernel()
    scene.press("clear")
    assert scene.window.session.selected is None


GO_CASES: dict[str, Callable[[Scene], None]] = {
    "find": _find,
    "find-next": _find_step("find-next"),
    "find-previous": _find_step("find-previous"),
    "commands": _commands,
    "show-all": _show_all,
    "zoom-to": _zoom_to,
    "back": _back,
    "next-slice": _along("next-slice"),
    "previous-slice": _along("previous-slice"),
    "slice-below": _across("slice-below"),
    "slice-above": _across("slice-above"),
    "next-view": _next_view("next-view"),
    "previous-view": _next_view("previous-view"),
    "peak": _peak,
    "costliest": _costliest,
    **{name: _closer(name) for name in ("zoom-in", "zoom-out", "pan-left", "pan-right")},
    **{name: _beside(name) for name in ("next-difference", "previous-difference")},
    "step": _step,
    "next-step": _step_beside("next-step"),
    "previous-step": _step_beside("previous-step"),
    "marker": _marker,
    "clear-markers": _clear_markers,
    "clear": _clear,
}
"""By the command's name."""
