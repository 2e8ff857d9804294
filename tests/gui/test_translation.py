"""The window in Chinese: whatever it says of the samples is in the catalogue, and no English is left between names."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import Any

import pytest
from PySide6.QtCore import QPointF
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

import memplan
from memplan.core.resources import table
from memplan.gui.i18n import CatalogueTranslator, catalogue, choose_language, say, tr
from memplan.gui.model.compare.viewport_link import AlignBy
from memplan.gui.model.kernel.kernel_layout import cells
from memplan.gui.model.kv.kv_budget import answer, answers, budget_headline, stack, warnings
from memplan.gui.model.kv.kv_further import further, further_lines
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session, SliceRef, TensorRef
from memplan.gui.model.slices.slice_text import slice_lines
from memplan.gui.views.command_palette import CommandPalette
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.kernel.kernel_view import KernelView
from memplan.gui.views.kv.kv_budget_view import KvBudgetView
from memplan.gui.views.kv.kv_pool_view import PoolView
from memplan.gui.views.kv.kv_stack import HbmStack
from memplan.gui.views.memory.live_tensors_view import LiveTensorsView
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.memory.memory_delta_view import MemoryDeltaView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.memory.transfers_view import TransfersView
from memplan.gui.views.planning.planning_view import PlanningView
from memplan.gui.views.table_view import RowsModel, TableView
from memplan.gui.window.main_window import MainWindow
from memplan.hardware.database import chips
from memplan.requests.kv_request import KvRequest
from memplan.schema import Tier
from tests.gui.conftest import PLAN, PROFILE, SAMPLES, slower
from tests.gui.test_kv_model import CHOICES

pytestmark = pytest.mark.gui

SAME = frozenset({"memplan", "✕", "A", "B", "B − A", "TP", "PP", "DP", "EP", "CP"})
"""What the views ask for although Chinese writes it as English does."""

UNCHANGED = frozenset(
    {
        "rank",
        "{} · rank {}",
        "Rank",
        "cube",
        "vector",
        "hbm",
        "Step",
        "English",
        "HBM",
        "MTE1",
        "MTE2",
        "MTE3",
        "FixPipe",
        "softmax",
        "steps",
        "ranks",
    }
    | {"rank {}", "{} of {}", "{}, rank {}", "{}, step {}", "{} FLOP", "step {}", "flops"}
)
"""Texts of the catalogue that Chinese takes over word by word."""
UNITS = frozenset({"KiB", "MiB", "GiB", "FLOP", "ns", "ms"})
TOP = Path(__file__).resolve().parents[2]
_PLAIN = (ast.Constant, ast.IfExp)
_PLACES = MappingProxyType({"tr": 0, "Sentence": 0, "fact": 0, "joined": 1, "progress": 2, "_progress": 2})
"""Which of the values given to a function is a text to translate."""
_HAN = re.compile("[\u4e00-\u9fff（）]")
_WORD = re.compile("[A-Za-z]{2,}")
_ADDRESS = re.compile("0x[0-9a-f]+")


class Recorder(CatalogueTranslator):
    """Translates, and keeps what memplan asked for that the catalogue lacks."""

    def __init__(self, language: str) -> None:
        super().__init__(language)
        self.asked: set[str] = set()
        self.missing: set[str] = set()

    def translate(self, context: str, text: str, disambiguation: str | None = None, n: int = -1) -> str | None:
        found = super().translate(context, text, disambiguation, n)
        if context == "memplan":
            self.asked.add(text)
            if found is None:
                self.missing.add(text)
        return found


def assert_all_known(recorder: Recorder) -> None:
    """Something was said, and the catalogue has all of it."""
    assert recorder.asked
    missing = sorted(recorder.missing - SAME)
    assert not missing, "\n".join(missing)


@pytest.fixture
def chinese() -> Iterator[Recorder]:
    """Everything said from here on is said in Chinese, and what can't be is recorded."""
    application = QApplication.instance() or QApplication([])
    choose_language("zh")
    recorder = Recorder("zh")
    application.installTranslator(recorder)
    yield recorder
    application.removeTranslator(recorder)
    choose_language("en")


@pytest.fixture(scope="module")
def offloading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of the sample in less memory than it needs: with moves."""
    path = tmp_path_factory.mktemp("offloading") / "less.plan.json"
    plan = memplan.plan(SAMPLES / "llama_train.mindir", chip="910B3", hbm=7_000_000)
    assert plan.transfers
    plan.save(path)
    return path


@pytest.fixture
def shown(qtbot: QtBot, chinese: Recorder) -> Iterator[Callable[[Session | None], MainWindow]]:
    """Shows a session in a Chinese window."""
    windows = []

    def show(session: Session | None) -> MainWindow:
        window = MainWindow(session, background=False)
        windows.append(window)
        window.resize(1400, 900)
        window.show()
        qtbot.waitExposed(window)
        settle()
        return window

    yield show
    for window in windows:
        window.close()


def settle() -> None:
    """Let the window lay itself out and paint."""
    for _ in range(4):
        QApplication.processEvents()


def texts(view: QWidget) -> list[str]:
    """Headline, header and cells of a table."""
    assert isinstance(view, TableView)
    model = view.model
    assert isinstance(model, RowsModel)
    cells = [
        str(model.data(model.index(row, column)))
        for row in range(model.rowCount())
        for column in range(model.columnCount())
    ]
    header = [tr(name) for name in view.shape.header]
    return [view.headline.text(), *header, *cells]


def load(session: Session) -> Session:
    for track in session.tracks.all:
        session.tracks.load(track)
    return session


def hover_texts(window: MainWindow) -> list[str]:
    """What the mouse is told over the first slices of every track, over the map and over the curves."""
    session = window.session
    said: list[Any] = []
    for track in session.tracks.all:
        lanes = session.tracks.lanes(track)
        if lanes is not None:
            for index in range(min(len(lanes.slices), 3)):
                said += map(say, slice_lines(session, SliceRef(track.key, index)))
    mapped = session.map
    if mapped is not None:
        for index in range(len(mapped)):
            said += window.docks.view(MemoryMapView).lines(index)
    window.docks.view(CurveView).hidden.clear()
    low, high = session.viewport.bounds
    for share in (0.3, 0.5, 0.7):
        said += window.docks.view(CurveView).lines(low + share * (high - low))
    for view in (
        window.timeline,
        window.docks.view(MemoryMapView),
        window.docks.view(CurveView),
        window.docks.view(MemoryDeltaView),
    ):
        view._mouse = QPointF(view.width() / 2, view.height() / 2)
        view.moved(view._mouse)
        view.grab()
    return said


def selectable(session: Session) -> list[Any]:
    """One op of every type, one tensor of every kind, one slice of every track, and nothing."""
    found: list[Any] = [None]
    plan, mapped = session.document.plan, session.map
    if plan is not None:
        found += [OpRef(op.index) for op in {op.type: op for op in plan.ops}.values()]
        found += [OpRef(op.index) for op in {(op.bound, op.stalled_ns > 0): op for op in plan.ops}.values()]
    if plan is not None and mapped is not None:
        moved = {move.tensor for move in plan.transfers}
        of_kind = {}
        for index in range(len(mapped)):
            tensor = mapped.tensors[plan.placements[int(mapped.placement[index])].tensor]
            of_kind[tensor.kind, tensor.index in moved, bool(tensor.shape)] = TensorRef(index)
        found += of_kind.values()
    for track in session.tracks.all:
        lanes = session.tracks.lanes(track)
        if lanes is not None and len(lanes.slices):
            found += [SliceRef(track.key, index) for index in (0, len(lanes.slices) // 2)]
    return found


def details_texts(window: MainWindow) -> list[str]:
    """The details panel for every kind of thing that can be selected, and for a selected time range."""
    session, said = window.session, []
    for item in selectable(session):
        session.select(item)
        said.append(window.docks.view(DetailsView).toPlainText())
    session.select(None)
    session.viewport.selected_range = session.viewport.bounds
    said.append(window.docks.view(DetailsView).toPlainText())
    session.viewport.selected_range = None
    return said


def literals() -> dict[str, str]:
    """Every text written in the code as one to translate, and the file it stands in."""
    found: dict[str, str] = {}
    for folder in ("gui", "memplan", "models", "traces"):
        for path in sorted((TOP / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                    continue
                place = _PLACES.get(node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
                if place is None or len(node.args) <= place or isinstance(node.args[place], ast.JoinedStr):
                    continue
                for part in ast.walk(node.args[place]) if isinstance(node.args[place], _PLAIN) else ():
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        found[part.value] = path.name
    return found


def test_every_text_written_to_be_translated_is_in_the_catalogue() -> None:
    found, words = literals(), catalogue("zh")
    assert len(found) > 300
    missing = {text: file for text, file in found.items() if text not in words and text not in SAME}
    assert missing == {}


def test_every_remedy_is_in_the_catalogue() -> None:
    """Remedies are data; of what goes for any framework the knob is told in words as well."""
    words, missing = catalogue("zh"), set()
    for remedies in table("memplan.findings", "remedies.json").values():
        for remedy in remedies:
            told = [remedy["text"]]
            if remedy["framework"] == "any" and not remedy["knob"].startswith("memplan "):
                told += [remedy["framework"], remedy["knob"]]
            missing |= {text for text in told if text not in words}
    assert not missing


def test_where_a_card_s_own_share_of_memory_is_known_from_is_in_the_catalogue() -> None:
    """Went wrong once: the KV page drew the chips' sources in English beside Chinese parts."""
    sources = {chip.values["hbm_reserved"].source for chip in chips() if "hbm_reserved" in chip.values}
    assert sources
    assert sources <= catalogue("zh").keys()


def test_translations_take_the_same_values_and_are_chinese() -> None:
    def fields(text: str) -> list[str | None]:
        return [name for _, name, _, _ in Formatter().parse(text) if name is not None]

    for english, said in catalogue("zh").items():
        assert len(fields(english)) == len(fields(said)), english
        assert _HAN.search(said) or english in UNCHANGED or not _WORD.search(english), english


def english_left(said: Iterable[str], session: Session) -> set[str]:
    """Words of Latin letters that neither name anything in the documents nor stand in Chinese texts as well."""
    known = {word for text in catalogue("zh").values() for word in _WORD.findall(text)} | UNITS
    document = session.document
    names: list[str] = [document.name]
    if document.plan is not None:
        plan = document.plan
        names += [plan.origin.graph, plan.chip, *(tier.value for tier in Tier), *(move.link for move in plan.transfers)]
        names += [text for op in plan.ops for text in (op.name, op.type, op.source or "")]
        names += [text for tensor in plan.tensors for text in (tensor.name, tensor.dtype, tensor.layout)]
    for track in session.tracks.all:
        names += [track.key, track.label if track.planned is None else "", track.group if track.planned is None else ""]
        lanes = session.tracks.lanes(track)
        if lanes is not None:
            names += [*lanes.slices.names, *lanes.slices.categories]
        if lanes is not None and document.rank is not None and track.track_id is not None:
            for start in lanes.slices.start_ns[: len(lanes.slices) // 2 + 1].tolist():
                names += [str(pair) for pair in (document.rank.arguments(track.track_id, start) or {}).items()]
    if document.profile is not None and document.rank is not None:
        names += [str(document.profile.path), document.profile.producer, document.rank.device or ""]
        names += document.rank.memory_components()
    known |= {word for name in names for word in _WORD.findall(name)}
    return {word for text in said for word in _WORD.findall(_ADDRESS.sub("", text))} - known


def test_all_of_plan_and_profile(session: Session, chinese: Recorder, shown: Any) -> None:
    window = shown(load(session))
    for name in window.docks:
        window.docks.bring(name)
        settle()
    said = [*details_texts(window), *hover_texts(window)]
    for view in (
        window.docks.view(DeviationsView),
        window.docks.view(LiveTensorsView),
        window.docks.view(TransfersView),
    ):
        said += texts(view)
    assert_all_known(chinese)
    assert english_left(said, session) == set()


def test_all_of_a_plan_that_moves(offloading: Path, chinese: Recorder, shown: Any) -> None:
    session = load(open_session(Request(offloading)))
    window = shown(session)
    said = [*details_texts(window), *hover_texts(window)]
    for view in (
        window.docks.view(DeviationsView),
        window.docks.view(LiveTensorsView),
        window.docks.view(TransfersView),
    ):
        window.docks.bring(view.objectName())
        settle()
        said += texts(view)
    assert_all_known(chinese)
    assert english_left(said, session) == set()


def test_all_of_a_profile_and_of_nothing(chinese: Recorder, shown: Any) -> None:
    for session in (load(open_session(Request(None, PROFILE))), None):
        window = shown(session)
        for name in list(window.docks):
            window.docks.bring(name)
            settle()
        details_texts(window)
        hover_texts(window)
        window.docks.show("roofline")
        window.docks.show("kernel")
        settle()
    assert_all_known(chinese)


def test_menus_palette_dialogs_and_lines_of_status(session: Session, chinese: Recorder, shown: Any) -> None:
    window = shown(load(session))
    window.docks.show("roofline")
    settle()
    CommandPalette(window.commands, window)
    window.commands.run("colours")
    for name in window.docks.views:
        window.docks.menu(name)
    window.search.open()
    window.search.edit.setText("MatMul")
    window.search.step()
    for command in (
        "copy-view",
        "copy-window",
        "next-step",
        "previous-step",
        "peak",
        "costliest",
        "marker",
        "pin-track",
    ):
        window.commands.run(command)
        settle()
    window.opener.open_request(Request(Path("moved-away.plan.json")))
    settle()
    assert window.docks["problems"].windowTitle() == "问题 (1)"
    assert_all_known(chinese)


def test_all_of_kernels(session: Session, chinese: Recorder, shown: Any) -> None:
    window = shown(load(session))
    window.docks.show("kernel")
    assert window.docks.find(KernelView) is not None
    for item in selectable(session):
        session.select(item)
        settle()
        maps = window.docks.view(KernelView).maps
        for place, lane in enumerate(maps.lanes):
            maps.free_text(place)
            for cell in cells(lane, window.docks.view(KernelView).facts.slots):
                maps.cell_text(lane, cell)
    assert_all_known(chinese)


def test_all_of_two_documents(
    tmp_path: Path, session: Session, offloading: Path, chinese: Recorder, shown: Any
) -> None:
    window = shown(load(session))
    for other in (Request(offloading), Request(PLAN, slower(tmp_path))):
        window.documents.show(other, load(open_session(other)), new_tab=True)
        window.documents.select(0)
        window.commands.run("side-by-side")
        settle()
        table = window.side_by_side.table
        assert table is not None
        table.changed_only.click()
        settle()
        texts(table)
        for how in AlignBy:
            window.side_by_side.align(how)
        table.jump(table.sorted.index(0, 0))
        settle()
        window.side_by_side.end()
        window.documents.close(1)
    assert_all_known(chinese)


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_all_of_kv_budgets(qtbot: QtBot, choice: KvRequest, chinese: Recorder) -> None:
    found, more = answer(choice), further(choice)
    for line in (*answers(found), *further_lines(more, found.case.model.max_positions)):
        for part in (line.label, line.value, line.remark):
            say(part)
    for text in (budget_headline(found), *warnings(found), *found.result.notes):
        say(text)
    picture = HbmStack(load_palette("light"))
    qtbot.addWidget(picture)
    picture.resize(600, 500)
    picture.show_segments(stack(found), found.result.items[0].nbytes or 0)
    picture.grab()
    for segment in picture.segments:
        say(segment.source)
    pool = PoolView(load_palette("light"))
    qtbot.addWidget(pool)
    pool.resize(600, 500)
    pool.show_pool(found.pool)
    pool.grab()
    assert_all_known(chinese)


def test_the_form_of_the_kv_budget(shown: Any, chinese: Recorder) -> None:
    window = shown(None)
    window.docks.show("kv")
    assert window.docks.find(KvBudgetView) is not None
    window.docks.view(KvBudgetView).form.more_button.click()
    settle()
    window.docks.view(KvBudgetView).grab()
    assert_all_known(chinese)


def test_planning(shown: Any, chinese: Recorder) -> None:
    window = shown(None)
    window.show_page("planning")
    settle()
    view = window.docks.view(PlanningView)
    view.form.show_source(SAMPLES / "cnn.mindir")
    settle()
    view.hbm.slider.setValue(view.hbm.slider.maximum() - 8)
    settle()
    assert view.tried.rowCount() == 2
    view.grab()
    view.cancel()
    assert_all_known(chinese)
