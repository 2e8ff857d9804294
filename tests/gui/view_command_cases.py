"""Commands on tracks, views and looks."""

from __future__ import annotations

from collections.abc import Callable

from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.session import SliceRef
from memplan.gui.views.colours_dialog import ColoursDialog
from memplan.gui.views.kernel.kernel_view import KernelView
from memplan.gui.views.kv.kv_budget_view import KvBudgetView
from memplan.gui.views.planning.planning_view import PlanningView
from memplan.gui.views.view_specs import PAGES
from tests.gui.conftest import PLAN
from tests.gui.scene import Scene
from tests.gui.two_documents import settle


def _pin(scene: Scene) -> None:
    key = scene.select_a_kernel().track
    scene.press("pin-track")
    assert scene.window.timeline.visible()[1][0].track.key == key
    scene.press("pin-track")
    assert scene.window.session.tracks.pinned == []


def _hide(scene: Scene) -> None:
    key = scene.select_a_kernel().track
    scene.press("hide-track")
    assert key not in {placed.track.key for placed in scene.window.session.tracks.layout() if placed.track is not None}


def _show_hidden(scene: Scene) -> None:
    _hide(scene)
    scene.press("show-hidden")
    assert not scene.window.session.tracks.hidden


def _track(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        tracks = scene.window.session.tracks
        first = next(track for track in tracks.all if len(tracks.neighbours(track.key)) > 1)
        around = tracks.neighbours(first.key)
        moving, place = (around[0], 1) if name == "track-down" else (around[1], 0)
        tracks.load(tracks.track(moving))
        scene.window.session.select(SliceRef(moving, 0))
        scene.press(name)
        assert tracks.neighbours(moving).index(moving) == place

    return case


def _fold_all(scene: Scene) -> None:
    scene.press("fold-all")
    assert all(placed.track is None for placed in scene.window.session.tracks.layout())


def _unfold_all(scene: Scene) -> None:
    _fold_all(scene)
    scene.press("unfold-all")
    assert any(placed.track is not None for placed in scene.window.session.tracks.layout())


def _side_by_side(scene: Scene) -> None:
    scene.window.opener.open_request(Request(PLAN), new_tab=True)
    scene.press("side-by-side")
    assert scene.window.side_by_side.view is not None
    assert scene.window.side_by_side.view.timeline.isVisible()
    assert scene.window.commands.actions["side-by-side"].isChecked()
    scene.press("side-by-side")
    assert scene.window.side_by_side.view is None
    assert not scene.window.commands.actions["side-by-side"].isChecked()


def _page(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.window.show_page("overview" if name != "page-overview" else "timeline")
        if name == "page-cluster":
            assert not scene.window.commands.actions[name].isEnabled(), "the sample has one rank"
            return
        scene.press(name)
        assert scene.window.pages.current == name.removeprefix("page-")

    return case


def _roofline(scene: Scene) -> None:
    scene.press("roofline")
    assert scene.window.docks["roofline"].isVisible()


def _kernel(scene: Scene) -> None:
    scene.select_a_kernel()
    scene.press("kernel")
    assert scene.window.docks["kernel"].isVisible()
    assert scene.window.docks.find(KernelView) is not None
    assert scene.window.docks.view(KernelView).facts.name


def _kv(scene: Scene) -> None:
    scene.press("kv")
    assert scene.window.pages.current == "kv"
    assert scene.window.docks.find(KvBudgetView) is not None
    assert scene.window.docks.view(KvBudgetView).isVisible()


def _planning(scene: Scene) -> None:
    scene.press("planning")
    assert scene.window.pages.current == "planning"
    assert scene.window.docks.view(PlanningView).isVisible()


def _own_clock(scene: Scene) -> None:
    before = scene.window.session.document.axis
    scene.press("own-clock")
    document = scene.window.session.document
    assert document.own_clock
    assert document.axis.to_profile(500_000) - document.axis.to_profile(0) == 500_000
    scene.press("own-clock")
    assert scene.window.session.document.axis is before


def _filter_tracks(scene: Scene) -> None:
    scene.press("filter-tracks")
    scene.window.timeline.filter.setText("stream")
    names = {placed.track.label for placed in scene.window.timeline.placed if placed.track is not None}
    assert names == {"Planned stream 0", "Stream 0"}
    scene.window.timeline.filter.clear()
    assert len(scene.window.timeline.placed) > 5


def _next_tier(scene: Scene) -> None:
    session = scene.window.session
    scene.press("next-tier")
    assert session.tier is session.tiers[1 % len(session.tiers)]


def _theme(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.press(name)
        assert scene.window.colours.theme == name.removeprefix("theme-")
        scene.press("theme-light")

    return case


def _colours(scene: Scene) -> None:
    scene.press("colours")
    dialog = scene.dialog(ColoursDialog)
    dialog.set.setCurrentIndex(1)
    assert scene.window.colours.name == "tol-bright"
    dialog.reject()


def _language(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.press(name)
        words = {"language-en": "Details", "language-zh": "详情"}
        assert scene.window.docks["details"].windowTitle() == words[name]
        scene.press("language-en")
        assert scene.window.docks["details"].windowTitle() == "Details"
        assert not scene.window.session.document.empty

    return case


def _reset(scene: Scene) -> None:
    scene.window.docks["curve"].hide()
    scene.press("reset-layout")
    assert scene.window.docks["curve"].isVisible()


def _dock(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        view = name.removeprefix("dock-")
        dock = scene.window.docks[view]
        scene.window.docks.bring(view)
        settle()
        scene.press(name)
        assert dock.isHidden()
        scene.press(name)
        settle()
        assert not dock.visibleRegion().isEmpty()

    return case


VIEW_CASES: dict[str, Callable[[Scene], None]] = {
    "pin-track": _pin,
    "hide-track": _hide,
    "show-hidden": _show_hidden,
    "track-up": _track("track-up"),
    "track-down": _track("track-down"),
    "fold-all": _fold_all,
    "unfold-all": _unfold_all,
    "side-by-side": _side_by_side,
    **{f"page-{page.name}": _page(f"page-{page.name}") for page in PAGES},
    "roofline": _roofline,
    "kernel": _kernel,
    "kv": _kv,
    "own-clock": _own_clock,
    "filter-tracks": _filter_tracks,
    "planning": _planning,
    "next-tier": _next_tier,
    "theme-light": _theme("theme-light"),
    "theme-dark": _theme("theme-dark"),
    "colours": _colours,
    "language-en": _language("language-en"),
    "language-zh": _language("language-zh"),
    "reset-layout": _reset,
    **{
        f"dock-{name}": _dock(f"dock-{name}")
        for name in (
            "details",
            "problems",
            "notes",
            "map",
            "curve",
            "process",
            "statistics",
            "difference",
            "deviations",
            "alive",
            "transfers",
            "arcs",
        )
    },
}
"""By the command's name."""
