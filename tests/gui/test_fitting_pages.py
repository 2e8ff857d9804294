"""On every page, in each size and language, nothing is cut and nothing lies over anything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QApplication,
    QDockWidget,
    QHeaderView,
    QLabel,
    QMainWindow,
    QPushButton,
    QSplitter,
    QStackedWidget,
    QTableView,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

import memplan
from memplan.gui.application import application
from memplan.gui.i18n import choose_language
from memplan.gui.model.palette import contrast, load_palette, palette_names, theme_names, tinted
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef
from memplan.gui.theme import apply_theme
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.command_palette import CommandPalette
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.timeline.family_legend import FamilyLegend
from memplan.gui.views.view_specs import PAGES
from memplan.gui.window.main_window import MainWindow
from memplan.schema import Tier
from tests.gui.conftest import PLAN, PROFILE

pytestmark = pytest.mark.gui

SIZES = ((1280, 720), (1600, 1000), (1920, 1080))
_CJK = "规划与运行"


def shown(parent: QWidget, kind: type[QWidget]) -> Iterator[QWidget]:
    """The widgets of a class that can be seen, at least in part."""
    for widget in parent.findChildren(kind):
        if widget.isVisible() and not widget.visibleRegion().isEmpty():
            yield widget


def said(widget: QWidget) -> str:
    """Which widget it is, for a message."""
    text = getattr(widget, "text", lambda: "")()
    return f"{type(widget).__name__} {widget.objectName()} {text!r:.60} {widget.size().toTuple()}"


def cut_texts(window: MainWindow) -> list[str]:
    """Labels, buttons and heads of tables that have less room than their text needs."""
    found = []
    for label in shown(window, QLabel):
        assert isinstance(label, QLabel)
        wrapped = label.wordWrap() or "<" in label.text()
        needed = label.heightForWidth(label.width()) if wrapped else label.sizeHint().height()
        if label.height() + 1 < needed or (not wrapped and label.width() + 1 < label.sizeHint().width()):
            found.append(said(label))
    for button in shown(window, QAbstractButton):
        iconic = isinstance(button, QToolButton) and button.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonIconOnly
        if isinstance(button, QPushButton | QToolButton) and button.text() and not iconic:
            wide = QFontMetrics(button.font()).horizontalAdvance(button.text().replace("&", ""))
            if button.width() + 1 < wide or button.height() < QFontMetrics(button.font()).height():
                found.append(said(button))
    for table in shown(window, QTableView):
        assert isinstance(table, QTableView)
        header = table.horizontalHeader()
        found += [
            f"head {header.model().headerData(column, header.orientation())} of {said(table)}"
            for column in range(header.count())
            if header.sectionSize(column) + 1 < header.sectionSizeFromContents(column).width()
        ]
    return found


def overlaps(window: MainWindow) -> list[str]:
    """Pairs of widgets of one parent that lie over each other."""
    found = []
    for parent in [window, *shown(window, QWidget)]:
        if isinstance(parent, TimeCanvas | QAbstractScrollArea | QHeaderView | QStackedWidget | QSplitter):
            continue  # what lies in these is placed over them on purpose
        kinds = (QWidget,)
        parts = [
            part
            for part in parent.children()
            if isinstance(part, kinds)
            and part.isVisible()
            and not part.visibleRegion().isEmpty()
            and not part.isWindow()
        ]
        if isinstance(parent, QMainWindow):
            parts = [part for part in parts if isinstance(part, QDockWidget) or part is parent.centralWidget()]
        for place, one in enumerate(parts):
            for other in parts[place + 1 :]:
                common: QRect = one.geometry().intersected(other.geometry())
                if common.width() > 1 and common.height() > 1:
                    found.append(f"{said(one)} and {said(other)} share {common.size().toTuple()}")
    return found


def titles_cut(window: MainWindow) -> list[str]:
    """Docks whose title has less height than Chinese letters need."""
    found = []
    for dock in window.findChildren(QDockWidget):
        if dock.isVisible() and not dock.visibleRegion().isEmpty() and dock.widget() is not None:
            high = dock.widget().geometry().top()
            if high < QFontMetrics(dock.font()).boundingRect(_CJK).height() + 2:
                found.append(f"{dock.windowTitle()}: {high}")
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_cut_and_nothing_overlaps_on_any_page(size: tuple[int, int], language: str, qtbot: QtBot) -> None:
    apply_theme(application(), load_palette("dark" if language == "zh" else "light"))
    choose_language(language)
    try:
        both, run, plan, none = map(
            open_session, (Request(PLAN, PROFILE), Request(None, PROFILE), Request(PLAN), Request())
        )
        window = MainWindow(both, background=False)
        qtbot.addWidget(window)
        window.resize(*size)
        window.show()
        wrong = {}
        for name, session in (("both", both), ("run", run), ("plan", plan), ("none", none)):
            window.show_session(session)
            if session.document.plan is not None:
                session.select(OpRef(max(session.document.plan.ops, key=lambda op: op.flops).index))
            for page in PAGES:
                window.show_page(page.name)
                for _ in range(4):
                    QApplication.processEvents()
                for check in (cut_texts, overlaps, titles_cut):
                    if check(window):
                        qtbot.wait(200)  # a layout that a timer still makes
                    if found := check(window):
                        wrong[name, page.name, check.__name__] = found
        assert not wrong, "\n".join(f"{place}: {line}" for place, lines in wrong.items() for line in lines)
        window.close()
    finally:
        choose_language("en")
        apply_theme(application(), load_palette())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_table_has_to_be_moved_sideways(language: str, qtbot: QtBot) -> None:
    """Went wrong once: the last column of the statistics lay beyond the edge of a small window."""
    choose_language(language)
    try:
        window = MainWindow(open_session(Request(PLAN, PROFILE)), background=False)
        qtbot.addWidget(window)
        window.resize(1280, 720)
        window.show()
        seen, wrong = set(), {}
        for name in list(window.docks):
            window.docks.bring(name)
            for _ in range(4):
                QApplication.processEvents()
            for table in shown(window, QTableView):
                assert isinstance(table, QTableView)
                if beyond := table.horizontalScrollBar().maximum():
                    wrong[name] = beyond
                seen.add(type(table.parent()).__name__)
        assert seen > {"StatisticsView", "DeviationsView", "TransfersView", "LiveTensorsView"}
        assert wrong == {}
        window.close()
    finally:
        choose_language("en")


@pytest.mark.parametrize("theme", theme_names())
@pytest.mark.parametrize("name", palette_names())
def test_names_can_be_read_on_slices_of_host_and_device(theme: str, name: str) -> None:
    palette = load_palette(theme, name)
    strong = [*palette.colours, *(palette.role(role) for role in ("part_wait", "part_copy", "part_transfer"))]
    pale = [tinted(colour, palette.role("ground"), 0.5) for colour in strong]
    for colour in (*strong, *pale):
        assert contrast(colour, palette.label_on(colour)) >= 4.5
    reserved = {palette.role(role) for role in ("part_wait", "part_copy", "part_transfer", "excess", "measured")}
    assert not reserved & set(palette.others)


def test_the_legend_names_what_the_colours_of_slices_mean(qtbot: QtBot) -> None:
    palette = load_palette()
    legend = FamilyLegend(palette)
    qtbot.addWidget(legend)
    legend.resize(1200, 24)
    legend.show_palette(palette, compared=True)
    told = dict(legend.entries())
    for name, category in (
        ("matrix products", "MatMulV3"), ("communication", "hcom_allReduce_"), ("copies", "MEMCPY_ASYNC"),
        ("waiting", "EVENT_WAIT"), ("other computing", "Softmax"),
    ):  # fmt: skip
        assert palette.category(category) & 0xFFFFFF in {brush.color().rgb() & 0xFFFFFF for brush in told[name]}
    assert "longer than planned" in told
    assert legend.height_for(1200) == 24
    legend.resize(360, legend.height_for(360))
    assert legend.height() > 24
    assert dict(legend.entries()).keys() == told.keys(), "further lines hold what one has no room for"
    legend.resize(150, 24)
    assert 0 < len(legend.entries()) < len(told), "what has no room is left out, not cut"


def test_no_line_strikes_the_text_of_a_peak(qtbot: QtBot, tmp_path: Path) -> None:
    need = memplan.plan(PLAN.parent / "cnn.mindir", chip="910B3").tier(Tier.HBM).peak
    for share in (1.0, 1.01, 1.05, 1.1, 1.15):
        path = tmp_path / f"{share}.plan.json"
        memplan.plan(PLAN.parent / "cnn.mindir", chip="910B3", hbm=-(-round(need * share) // 512) * 512).save(path)
        view = CurveView(open_session(Request(path)), load_palette())
        qtbot.addWidget(view)
        view.show_capacity = True
        view.resize(900, 240)
        view.grab()
        capacity = view.y_of(view.curves.capacity)
        peaks = [tag.area for tag in view._tags.placed if "peak" in tag.text]
        assert peaks
        assert not any(area.top() < capacity < area.bottom() for area in peaks), share


def test_no_marker_strikes_the_text_of_a_peak(window: MainWindow) -> None:
    """Went wrong once: markers and the edges of what is selected were drawn over the texts."""
    window.show_page("memory")
    window.docks.bring("curve")
    QApplication.processEvents()
    view = window.docks.view(CurveView)
    view.grab()
    tag = next(tag for tag in view._tags.placed if "7.35" in tag.text)
    window.session.clear_markers()
    window.session.add_marker(view.time_at(tag.area.center().x()))
    picture = view.grab().toImage()
    column = round(tag.area.center().x())
    line = view.pen("warning").color()
    near = [
        picture.pixelColor(column + beside, row)
        for beside in (-1, 0, 1)
        for row in range(round(tag.area.top()) + 1, round(tag.area.bottom()) - 1)
    ]
    assert not any(colour.rgb() == line.rgb() for colour in near)
    assert any(
        picture.pixelColor(column, row).rgb() == line.rgb() for row in range(view.plot.top(), view.plot.bottom())
    )


def test_one_ruler_is_enough_for_views_of_the_same_columns(window: MainWindow) -> None:
    window.show_page("memory")
    for _ in range(4):
        QApplication.processEvents()
    views = window.docks.widgets()
    below = [views[name] for name in ("map", "curve")]
    assert [view.ruler_px for view in below if isinstance(view, TimeCanvas)] == [0, 0]
    window.docks["curve"].setFloating(True)
    QApplication.processEvents()
    assert isinstance(below[1], TimeCanvas)
    assert below[1].ruler_px, "by itself it has its own"


def test_a_plan_alone_lists_what_a_run_would_be_compared_with(qtbot: QtBot) -> None:
    for request, listed in ((Request(PLAN), True), (Request(PLAN, PROFILE), True), (Request(None, PROFILE), False)):
        window = MainWindow(open_session(request), background=False)
        qtbot.addWidget(window)
        window.show_page("plan")
        view = window.docks.view(DeviationsView)
        assert bool(view.sorted.rowCount()) is listed
        assert view.table.isVisibleTo(view) is listed
        if request.profile is None:
            plan = window.session.document.plan
            assert plan is not None
            longest = max(op.duration_ns for op in plan.ops)
            view.jump_to_first()
            assert isinstance(window.session.selected, OpRef)
            assert plan.ops[window.session.selected.op].duration_ns == longest
            assert len(view.sheet().rows) == view.sorted.rowCount()


def test_the_line_of_the_peak_strikes_no_name_of_a_block(qtbot: QtBot, tmp_path: Path) -> None:
    path = tmp_path / "cnn.plan.json"
    memplan.plan(PLAN.parent / "cnn.mindir", chip="910B3").save(path)
    session = open_session(Request(path))
    view = MemoryMapView(session, load_palette())
    qtbot.addWidget(view)
    low, high = session.viewport.bounds
    named = 0
    for share, width in ((1.0, 1100), (1.0, 700), (0.5, 1100), (0.3, 900)):
        view.resize(width, 500)
        session.viewport.show(low, low + share * (high - low))
        view.grab()
        peak = view.x_of(view.layer.peak_ns - session.origin_ns)
        painter = Mock()
        view._paint_names(painter, view.layer.rectangles)
        for (place, text), _ in painter.drawText.call_args_list:
            x = place.x()
            named += bool(text)
            assert not x < peak < x + view.small_metrics.horizontalAdvance(text), (share, width, text)
    assert named > 10


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("height", [300, 360, 411])
def test_the_list_of_commands_cuts_no_line(window: MainWindow, language: str, height: int) -> None:
    choose_language(language)
    try:
        palette = CommandPalette(window.commands, window)
        palette.resize(460, height)
        palette.show()
        for _ in range(3):
            application().processEvents()
        shown_px, row = palette.list.viewport().height(), palette.list.visualItemRect(palette.list.item(0)).height()
        assert palette.list.count() * row > shown_px
        assert shown_px % row == 0
        assert height - palette.list.geometry().bottom() < row + 20, "no line more would fit"
    finally:
        palette.close()
        choose_language("en")
