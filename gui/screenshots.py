"""Draws the window into files where there is no display: one picture, or one of every view in both themes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PySide6.QtCore import QCoreApplication, QEvent, QMessageLogContext, QPoint, Qt, QtMsgType, qInstallMessageHandler
from PySide6.QtGui import QImage, QPainter, QPixmap
from PySide6.QtWidgets import QApplication, QDialog

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.gui.application import application
from memplan.gui.i18n import LANGUAGES, choose_language
from memplan.gui.model.palette import load_palette, theme_names
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session, TensorRef
from memplan.gui.theme import apply_theme
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.gui.views.planning.planning_view import PlanningView
from memplan.gui.views.view_specs import PAGES, VIEW_SPECS
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.view_export import png, write_view

Arrange = Callable[[MainWindow], None]


def render_window(
    plan_path: Path | None,
    profile_path: Path | None,
    out_dir: Path,
    *,
    chip: str | None = None,
    size: tuple[int, int] = (1600, 1000),
) -> list[Path]:
    """
    Draw the window on a plan and a profile into PNG files in `out_dir` without a display; returns their paths.

    A graph is planned for `chip` first. Raises `InputError` for files that can't be used, and if `out_dir` can't be
    written.
    """
    _prepare()
    session = open_session(Request(plan_path, profile_path, chip=chip))
    return _pictures({"window": (session, lambda _: None)}, out_dir, size)


def screenshots(
    plan_path: Path,
    profile_path: Path,
    offloading_path: Path,
    config: Path,
    hidden: tuple[Path, Path],
    ranks: Path,
    out_dir: Path,
    *,
    size: tuple[int, int] = (1400, 900),
) -> list[Path]:
    """
    A small picture of every view, and of some in Chinese: the whole window, with that view in front.

    `offloading_path` is a plan of the same graph in less memory: with moves, and something to lay beside the first.
    `hidden` is a plan and the profile of its run that does not have its names, `ranks` a profile of several ranks.
    """
    _prepare()
    session = open_session(Request(plan_path, profile_path))
    offloading = open_session(Request(offloading_path))
    named = open_session(Request(*hidden))
    several = open_session(Request(None, ranks))
    empty = open_session(Request())

    def front(name: str) -> Arrange:
        return lambda window: window.docks.show(name)

    def page(name: str) -> Arrange:
        return lambda window: window.show_page(name)

    def differences(window: MainWindow) -> None:
        window.docks.bring("deviations")
        view = window.docks.view(DeviationsView)
        slower = (row for row in range(view.sorted.rowCount()) if view.row_at(view.sorted.index(row, 0)).cells[0] ==
                  Sentence("duration"))  # fmt: skip
        view.jump(view.sorted.index(next(slower, 0), 0))

    def finding(window: MainWindow) -> None:
        window.show_page("overview")
        table = window.docks.view(OverviewView).findings
        table.jump(table.sorted.index(2, 0))

    def tensor(window: MainWindow) -> None:
        window.commands.run("peak")
        peak = window.session.peak
        if peak is not None and peak.parts and peak.parts[0].largest:
            window.session.select(TensorRef(peak.parts[0].largest[0][0]))

    def search(window: MainWindow) -> None:
        window.search.open()
        window.search.edit.setText("MatMul")
        window.search.step()

    def selection(window: MainWindow) -> None:
        window.show_page("timeline")
        low, high = window.session.viewport.bounds
        window.session.add_marker(low + 0.3 * (high - low))
        window.session.viewport.selected_range = low + 0.4 * (high - low), low + 0.6 * (high - low)

    def select_largest(window: MainWindow) -> None:
        plan = window.session.document.plan
        if plan is not None:
            window.session.select(OpRef(max(plan.ops, key=lambda op: op.flops).index))

    def model_words(window: MainWindow) -> None:
        window.show_page("timeline")
        window.search.open()
        window.search.edit.setText("o_proj, forward")
        window.search.step()
        viewport = window.session.viewport
        span = window.session.selected_span()
        if span is not None:
            length = span[1] - span[0]
            viewport.show(span[0] - 12 * length, span[1] + 12 * length)

    def roofline(window: MainWindow) -> None:
        window.docks.show("roofline")
        select_largest(window)

    def kernel(window: MainWindow) -> None:
        window.docks.show("kernel")
        select_largest(window)

    def kv_budget(window: MainWindow) -> None:
        from memplan.gui.views.kv.kv_budget_view import KvBudgetView

        window.docks.show("kv")
        window.docks.view(KvBudgetView).show_model(config)

    def side_by_side(window: MainWindow) -> None:
        window.documents.show(Request(offloading_path), offloading, new_tab=True)
        window.documents.select(0)
        window.commands.run("side-by-side")

    def blocks(window: MainWindow) -> None:
        window.show_page("memory")
        window.docks.view(MemoryMapView).show_layer("run")

    def planning(window: MainWindow) -> None:
        window.show_page("planning")
        qt = application()
        view = window.docks.view(PlanningView)
        view.form.show_source(plan_path.parent / "cnn.mindir")
        for _ in range(4):
            qt.processEvents()
        for place in (0, 3, 5):
            view.hbm.slider.setValue(view.hbm.slider.maximum() - place)
            for _ in range(4):
                qt.processEvents()

    def own_clock(window: MainWindow) -> None:
        window.show_page("plan")
        window.commands.run("own-clock")
        low, high = window.session.viewport.bounds
        window.session.viewport.show(low + 0.6 * (high - low), low + 0.7 * (high - low))

    def problems(window: MainWindow) -> None:
        window.opener.open_request(Request(Path("moved-away.plan.json")))

    def command(name: str) -> Arrange:
        return lambda window: window.commands.run(name)

    arranged: dict[str, tuple[Session, Arrange]] = {
        "welcome": (empty, lambda _: None),
        "window": (session, page("timeline")),
        "finding": (session, finding),
        "cluster": (several, front("cluster")),
        "peak": (session, command("peak")),
        "tensor": (session, tensor),
        "moves": (offloading, front("transfers")),
        "arcs": (offloading, front("arcs")),
        "differences": (session, differences),
        "side-by-side": (session, side_by_side),
        "selection": (session, selection),
        "search": (session, search),
        "model-words": (named, model_words),
        "roofline": (session, roofline),
        "kernel": (session, kernel),
        "kv-budget": (session, kv_budget),
        "plan-model": (session, command("plan-model")),
        "commands": (session, command("commands")),
        "colours": (session, command("colours")),
        "problems": (session, problems),
        "blocks": (session, blocks),
        "planning": (session, planning),
        "own-clock": (session, own_clock),
    }
    views = {spec.picture: (session, front(spec.name)) for spec in VIEW_SPECS if spec.picture} | arranged
    paths = _pictures(views, out_dir, size, ("light",), small=True)
    choose_language("zh")
    paths += _pictures(
        {"chinese": views["tensor"], "chinese-overview": views["overview"]}, out_dir, size, ("light",), small=True
    )
    choose_language("en")
    return paths


def page_pictures(request: Request, ranks: Path, out_dir: Path, sizes: Sequence[tuple[int, int]]) -> list[Path]:
    """Every page of the window, of `sizes`, in both themes and all languages: to look for what is cut or overlaps."""
    _prepare()
    sessions = {page.name: open_session(request) for page in PAGES if page.needs != "ranks"}
    sessions |= {page.name: open_session(Request(None, ranks)) for page in PAGES if page.needs == "ranks"}
    paths = []
    for language in LANGUAGES:
        choose_language(language)
        for size in sizes:
            views: dict[str, tuple[Session, Arrange]] = {}
            for name, session in sessions.items():
                views[f"{name}-{language}-{size[0]}"] = session, _on_page(name)
            paths += _pictures(views, out_dir, size)
    choose_language("en")
    return paths


def _on_page(name: str) -> Arrange:
    def arrange(window: MainWindow) -> None:
        plan = window.session.document.plan
        if plan is not None:
            window.session.select(OpRef(max(plan.ops, key=lambda op: op.flops).index))
        window.show_page(name)

    return arrange


def _prepare() -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qInstallMessageHandler(_say)
    application()


def _say(_kind: QtMsgType, _context: QMessageLogContext, text: str) -> None:
    """Qt's messages on standard error, but for one that the offscreen platform makes of every window."""
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)


def _pictures(
    views: Mapping[str, tuple[Session, Arrange]],
    out_dir: Path,
    size: tuple[int, int],
    themes: Sequence[str] = (),
    *,
    small: bool = False,
) -> list[Path]:
    """`small` pictures have 256 colours, which makes them a fifth as large; without `themes` there is one of each."""
    qt = application()
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't be written: {error.strerror}", path=out_dir) from error
    paths = []
    window_pages = [page.name for page in PAGES]
    for theme in themes or theme_names():
        palette = load_palette(theme)
        apply_theme(qt, palette)
        for name, (session, arrange) in views.items():
            session.page = next(iter(window_pages))
            session.select(None)
            session.clear_markers()
            session.viewport.selected_range = None
            session.viewport.show(*session.viewport.bounds)
            window = MainWindow(session, palette=palette, background=False)
            window.resize(*size)
            window.show()
            qt.processEvents()
            arrange(window)
            for _ in range(4):  # docks lay themselves out over several rounds of events
                qt.processEvents()
            # Without a running loop of events tab bars of the docks of another page would never go.
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            path = out_dir / f"{name}-{theme}.png"
            write_view(path, png(_in_few_colours(_photograph(window)) if small else _photograph(window)))
            paths.append(path)
            window.close()
            window.deleteLater()
    return paths


def _in_few_colours(picture: QPixmap) -> QImage:
    """`picture` in the 256 colours that it has most of."""
    image = picture.toImage().convertToFormat(QImage.Format.Format_RGB32)
    pixels = np.frombuffer(image.constBits(), dtype=np.uint32).reshape(image.height(), image.bytesPerLine() // 4)
    colours, counts = np.unique(pixels[:, : image.width()] | np.uint32(0xFF000000), return_counts=True)
    most = colours[np.argsort(-counts, kind="stable")[:256]]
    return image.convertToFormat(QImage.Format.Format_Indexed8, most.tolist(), Qt.ImageConversionFlag.AvoidDither)


def _photograph(window: MainWindow) -> QPixmap:
    """The window, and the dialogs that are open over it in their places."""
    picture = window.grab()
    dialogs = [
        item
        for item in QApplication.topLevelWidgets()
        if isinstance(item, QDialog) and item.isVisible() and item.parentWidget() is window
    ]
    for dialog in dialogs:
        at = QPoint((window.width() - dialog.width()) // 2, (window.height() - dialog.height()) // 3)
        painter = QPainter(picture)
        painter.drawPixmap(at, dialog.grab())
        painter.setPen(dialog.palette().windowText().color())
        painter.drawRect(at.x() - 1, at.y() - 1, dialog.width() + 1, dialog.height() + 1)
        painter.end()
        dialog.close()
    return picture
