"""What the window is photographed on: documents of each kind, every page, and every view in front once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memplan.core.sentence import Sentence
from memplan.gui.application import application
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session, TensorRef
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.gui.views.planning.planning_view import PlanningView
from memplan.gui.views.view_specs import PAGES, VIEW_SPECS
from memplan.gui.window.main_window import MainWindow

Arrange = Callable[[MainWindow], None]


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """
    Files that scenes are made of: a plan of a graph, a profile of its run, and a model's configuration.

    `offloading` is a plan of the same graph in less memory: with moves, and something to lay beside the first.
    `hidden` is a plan and the profile of its run that does not have its names, `ranks` a profile of a few ranks of
    which one is slow, `many` one of many.
    """

    plan: Path
    profile: Path
    config: Path
    offloading: Path
    hidden: tuple[Path, Path]
    ranks: Path
    many: Path


@dataclass(frozen=True, slots=True)
class Scene:
    """A document, and what is done in its window before the picture is taken."""

    session: Session
    arrange: Arrange


def _front(name: str) -> Arrange:
    return lambda window: window.docks.show(name)


def _page(name: str) -> Arrange:
    return lambda window: window.show_page(name)


def page_scenes(files: SceneFiles) -> dict[str, Scene]:
    """Every page of each kind of document that has it: plan and profile, either alone, several ranks, none."""
    both, run, plan, ranks, many, empty = (
        open_session(request)
        for request in (
            Request(files.plan, files.profile),
            Request(None, files.profile),
            Request(files.plan),
            Request(None, files.ranks),
            Request(None, files.many),
            Request(),
        )
    )
    scenes: dict[str, Scene] = {}
    for page in PAGES:
        if page.needs == "ranks":
            scenes |= {
                f"{page.name}-ranks": Scene(ranks, _page(page.name)),
                f"{page.name}-many": Scene(many, _page(page.name)),
            }
            continue
        scenes[page.name] = Scene(both, _chosen(page.name))
        if not page.alone:
            scenes |= {
                f"{page.name}-run": Scene(run, _page(page.name)),
                f"{page.name}-plan": Scene(plan, _page(page.name)),
            }
    scenes["overview-many"] = Scene(many, _page("overview"))
    scenes["overview-empty"] = Scene(empty, _page("overview"))
    return scenes


def _chosen(name: str) -> Arrange:
    """Page `name` with the op of most work picked."""

    def arrange(window: MainWindow) -> None:
        _select_largest(window)
        window.show_page(name)

    return arrange


def _select_largest(window: MainWindow) -> None:
    plan = window.session.document.plan
    if plan is not None:
        window.session.select(OpRef(max(plan.ops, key=lambda op: op.flops).index))


def view_scenes(files: SceneFiles) -> dict[str, Scene]:
    """Every view in front, what is found in it, and the dialogs; by the names of the pictures in docs/images."""
    session = open_session(Request(files.plan, files.profile))
    offloading = open_session(Request(files.offloading))
    named = open_session(Request(*files.hidden))
    several = open_session(Request(None, files.ranks))
    empty = open_session(Request())

    arranged = {
        "welcome": (empty, lambda _: None),
        "window": (session, _page("timeline")),
        "finding": (session, _finding),
        "cluster": (several, _front("cluster")),
        "peak": (session, _command("peak")),
        "tensor": (session, _tensor),
        "moves": (offloading, _front("transfers")),
        "arcs": (offloading, _front("arcs")),
        "differences": (session, _differences),
        "side-by-side": (session, _side_by_side(files.offloading, offloading)),
        "selection": (session, _selection),
        "search": (session, _search),
        "model-words": (named, _model_words),
        "roofline": (session, _roofline),
        "kernel": (session, _kernel),
        "kv-budget": (session, _kv_budget(files.config)),
        "plan-model": (session, _command("plan-model")),
        "commands": (session, _command("commands")),
        "colours": (session, _command("colours")),
        "problems": (session, _problems),
        "blocks": (session, _blocks),
        "planning": (session, _planning(files.plan.parent / "cnn.mindir")),
        "own-clock": (session, _own_clock),
    }
    front = {spec.picture: (session, _front(spec.name)) for spec in VIEW_SPECS if spec.picture}
    return {name: Scene(*scene) for name, scene in (front | arranged).items()}


def _differences(window: MainWindow) -> None:
    window.docks.bring("deviations")
    view = window.docks.view(DeviationsView)
    slower = (row for row in range(view.sorted.rowCount()) if view.row_at(view.sorted.index(row, 0)).cells[0] ==
              Sentence("duration"))  # fmt: skip
    view.jump(view.sorted.index(next(slower, 0), 0))


def _finding(window: MainWindow) -> None:
    window.show_page("overview")
    table = window.docks.view(OverviewView).findings
    table.jump(table.sorted.index(0, 0))


def _tensor(window: MainWindow) -> None:
    window.commands.run("peak")
    peak = window.session.peak
    if peak is not None and peak.parts and peak.parts[0].largest:
        window.session.select(TensorRef(peak.parts[0].largest[0][0]))


def _search(window: MainWindow) -> None:
    window.search.open()
    window.search.edit.setText("MatMul")
    window.search.step()


def _selection(window: MainWindow) -> None:
    window.show_page("timeline")
    low, high = window.session.viewport.bounds
    window.session.add_marker(low + 0.3 * (high - low))
    window.session.viewport.selected_range = low + 0.4 * (high - low), low + 0.6 * (high - low)


def _model_words(window: MainWindow) -> None:
    window.show_page("timeline")
    window.search.open()
    window.search.edit.setText("o_proj, forward")
    window.search.step()
    viewport = window.session.viewport
    span = window.session.selected_span()
    if span is not None:
        length = span[1] - span[0]
        viewport.show(span[0] - 12 * length, span[1] + 12 * length)


def _roofline(window: MainWindow) -> None:
    window.docks.show("roofline")
    _select_largest(window)


def _kernel(window: MainWindow) -> None:
    window.docks.show("kernel")
    _select_largest(window)


def _kv_budget(config: Path) -> Arrange:
    def arrange(window: MainWindow) -> None:
        from memplan.gui.views.kv.kv_budget_view import KvBudgetView

        window.docks.show("kv")
        window.docks.view(KvBudgetView).show_model(config)

    return arrange


def _side_by_side(plan: Path, session: Session) -> Arrange:
    def arrange(window: MainWindow) -> None:
        window.documents.show(Request(plan), session, new_tab=True)
        window.documents.select(0)
        window.commands.run("side-by-side")

    return arrange


def _blocks(window: MainWindow) -> None:
    window.show_page("memory")
    window.docks.view(MemoryMapView).show_layer("run")


def _planning(graph: Path) -> Arrange:
    def arrange(window: MainWindow) -> None:
        window.show_page("planning")
        qt = application()
        view = window.docks.view(PlanningView)
        view.form.show_source(graph)
        for _ in range(4):
            qt.processEvents()
        for place in (0, 3, 5):
            view.hbm.slider.setValue(view.hbm.slider.maximum() - place)
            for _ in range(4):
                qt.processEvents()

    return arrange


def _own_clock(window: MainWindow) -> None:
    window.show_page("plan")
    window.commands.run("own-clock")
    low, high = window.session.viewport.bounds
    window.session.viewport.show(low + 0.6 * (high - low), low + 0.7 * (high - low))


def _problems(window: MainWindow) -> None:
    window.opener.open_request(Request(Path("moved-away.plan.json")))


def _command(name: str) -> Arrange:
    return lambda window: window.commands.run(name)
