"""The KV budget's view, driven by mouse and keys: what is set shows at once, and is copied as a command."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QMimeData, QPoint, QPointF, QSettings, Qt, QUrl
from PySide6.QtGui import QDropEvent, QGuiApplication, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QWidget
from pytestqt.qtbot import QtBot

from memplan.core.errors import CancelledError, InputError
from memplan.core.progress import Progress
from memplan.gui.model.kv.kv_budget import stack
from memplan.gui.model.kv.kv_offer import SAMPLE
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.session import Session
from memplan.gui.settings import Settings
from memplan.gui.views.job_bar import JobBar
from memplan.gui.views.kv import kv_budget_view
from memplan.gui.views.kv.kv_budget_view import KvBudgetView
from memplan.gui.window.main_window import MainWindow
from memplan.gui.work.jobs import Jobs
from memplan.reports.kv.kv_report import budget_document
from tests.gui.test_kv_model import plain, printed

pytestmark = pytest.mark.gui


@pytest.fixture
def make(qtbot: QtBot) -> Iterator[Callable[..., KvBudgetView]]:
    """A view as it opens, shown."""
    jobs = Jobs()

    def made(*given: Any, size: tuple[int, int] = (1400, 500), **named: Any) -> KvBudgetView:
        view = KvBudgetView(load_palette(), jobs, None, *given, **named)
        qtbot.addWidget(view)
        view.resize(*size)
        view.show()
        qtbot.waitExposed(view)
        return view

    yield made
    assert jobs.stop()


@pytest.fixture
def view(make: Callable[..., KvBudgetView]) -> KvBudgetView:
    """The view as it opens."""
    return make()


def type_into(qtbot: QtBot, field: QWidget, text: str) -> None:
    """Replace the text of a field."""
    field.setFocus()
    QTest.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(field, text)


def test_it_opens_on_the_sample(view: KvBudgetView) -> None:
    assert view.found is not None
    assert view.found.choice.config == SAMPLE
    assert "Fits: 4 × 32,768 tokens wanted" in view.verdict.text()
    assert view.stack.segments == stack(view.found)
    assert "bytes per token" in view.figures.text()


def test_context_and_batch_follow_the_arrow_keys_at_once(view: KvBudgetView, qtbot: QtBot) -> None:
    assert view.found is not None
    before = view.found.result.sequences
    for _ in range(4):
        QTest.keyClick(view.form.context.slider, Qt.Key.Key_Left)
    assert view.form.context.value() == 24576
    assert view.found.result.context == view.form.context.value()
    assert view.found.result.sequences > before
    QTest.keyClick(view.form.context.slider, Qt.Key.Key_End)
    assert view.found.result.context == 1 << 20
    assert "more than the model's own" in view.notes.text()
    assert "Does not fit" in view.verdict.text()
    QTest.keyClick(view.form.context.slider, Qt.Key.Key_Home)
    assert view.found.result.context == 1024
    QTest.keyClick(view.form.batch.slider, Qt.Key.Key_End)
    assert view.found.pool.batch == 4096


def test_numbers_between_the_stops_can_be_typed(view: KvBudgetView, qtbot: QtBot) -> None:
    type_into(qtbot, view.form.context.field, "5000")
    assert view.found is not None
    assert view.found.result.context == 5000
    share = view.found.pool.shares[0]
    assert share.last == 5000 % 128
    assert view.form.context.slider.value() in range(1, view.form.context.slider.maximum())


def test_ranks_double_and_weights_and_chips_are_chosen_by_key(view: KvBudgetView, qtbot: QtBot) -> None:
    assert view.found is not None
    before = view.found.result.sequences
    QTest.keyClick(view.form.ranks["tp"], Qt.Key.Key_Up)
    QTest.keyClick(view.form.ranks["tp"], Qt.Key.Key_Up)
    assert view.found.choice.tp == 4
    assert view.found.result.sequences > before
    QTest.keyClick(view.form.ranks["tp"], Qt.Key.Key_Down)
    assert view.found.choice.tp == 2
    card = view.found.result.items[0].nbytes
    QTest.keyClicks(view.form.chip, "910B4")
    assert view.found.choice.chip == "910B4"
    assert view.found.result.items[0].nbytes != card
    weights = sum(part.nbytes for part in view.stack.segments if part.role == "weight")
    QTest.keyClicks(view.form.weights, "w8a8")
    assert sum(part.nbytes for part in view.stack.segments if part.role == "weight") < weights
    each_token = view.found.result.bytes_per_token
    QTest.keyClick(view.form.kv, Qt.Key.Key_End)
    assert view.found.choice.kv_dtype == view.form.kv.currentText()
    assert view.found.result.bytes_per_token <= each_token


def test_an_engine_has_its_versions_and_the_chip_settles_one(view: KvBudgetView, qtbot: QtBot) -> None:
    assert view.form.version.currentText() == "for the chip: 0.23.0.post1-a2"
    QTest.keyClick(view.form.version, Qt.Key.Key_End)
    assert view.found is not None
    assert view.found.result.engine == "vllm-ascend-0.30.0rc2-310p"
    QTest.keyClicks(view.form.engine, "logical")
    assert view.found.result.engine == "logical"
    assert not view.form.version.isEnabled()
    assert not view.found.pool.shares
    QTest.keyClick(view.form.engine, Qt.Key.Key_End)
    assert view.found.result.engine == "vllm-ascend-0.23.0.post1-a2"


def test_more_holds_every_other_option(view: KvBudgetView, qtbot: QtBot) -> None:
    assert not view.form.more.isVisible()
    QTest.mouseClick(view.form.more_button, Qt.MouseButton.LeftButton)
    assert view.form.more.isVisible()
    assert view.found is not None
    type_into(qtbot, view.form.sizes["hbm"], "48GiB")
    assert view.found.result.items[0].nbytes == 48 << 30
    assert "48.00 GiB" in view.stack.title
    QTest.keyClick(view.form.counts["step_sequences"], Qt.Key.Key_Up)
    assert view.found.choice.step_sequences == 512
    QTest.keyClick(view.form.counts["block_size"], Qt.Key.Key_Up)
    assert view.found.choice.block_size == 16
    assert view.found.pool.shares[0].tokens == 128, "the engine forces blocks of 128 tokens"
    QTest.keyClick(view.form.counts["block_size"], Qt.Key.Key_Down)
    assert view.found.choice.block_size is None
    QTest.keyClick(view.form.flags["effects"], Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: "block size 128" in view.figures.text(), timeout=5000)
    assert not view.form.counts["draft_tokens"].isEnabled()
    assert not view.form.flags["index_c8"].isEnabled()
    assert not view.form.flags["even_routing"].isEnabled(), "the sample has no experts"
    assert not view.form.ranks["ep"].isEnabled()


def test_a_size_that_is_none_is_a_line_until_it_is_mended(view: KvBudgetView, qtbot: QtBot) -> None:
    QTest.mouseClick(view.form.more_button, Qt.MouseButton.LeftButton)
    type_into(qtbot, view.form.sizes["graphs"], "x")
    assert view.found is None
    assert "is not a size" in view.verdict.text()
    assert not view.copy_button.isEnabled()
    type_into(qtbot, view.form.sizes["graphs"], "1GiB")
    assert view.found is not None
    assert view.copy_button.isEnabled()


def test_the_copied_command_prints_what_is_shown(view: KvBudgetView, qtbot: QtBot) -> None:
    QTest.keyClick(view.form.ranks["tp"], Qt.Key.Key_Up)
    QTest.keyClick(view.form.context.slider, Qt.Key.Key_PageDown)
    QTest.keyClicks(view.form.weights, "w8a8")
    QTest.mouseClick(view.copy_button, Qt.MouseButton.LeftButton)
    assert view.found is not None
    command = QGuiApplication.clipboard().text()
    assert command == view.found.choice.command_line
    _, document = printed(command)
    assert document.pop("longest_context")["sequences"] == 4
    assert document == plain(budget_document(view.found.result))


def test_the_layout_that_would_fit_is_a_key_away(view: KvBudgetView, qtbot: QtBot) -> None:
    QTest.keyClick(view.form.batch.slider, Qt.Key.Key_PageUp)
    QTest.keyClick(view.form.context.slider, Qt.Key.Key_PageUp)
    assert "Does not fit" in view.verdict.text()
    qtbot.waitUntil(lambda: "use TP" in view.verdict.text(), timeout=5000)
    view.verdict.setFocus()
    QTest.keyClick(view.verdict, Qt.Key.Key_Tab)
    QTest.keyClick(view.verdict, Qt.Key.Key_Return)
    assert view.found is not None
    assert view.found.enough
    assert view.form.ranks["tp"].value() > 1
    assert "use TP" not in view.verdict.text()


def test_longest_context_follows_when_nothing_changes_for_a_moment(view: KvBudgetView, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: "longest for 4 at once" in view.figures.text(), timeout=5000)
    QTest.keyClick(view.form.batch.slider, Qt.Key.Key_Right)
    assert "longest for" not in view.figures.text()
    qtbot.waitUntil(lambda: "longest for 5 at once" in view.figures.text(), timeout=5000)


def test_slower_answers_are_a_job_of_the_window_that_ends_with_it(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Went wrong once: the view had threads of its own that nobody saw and no closing stopped."""
    begun, stopped = threading.Event(), threading.Event()

    def endless(choice: object, progress: Progress) -> None:
        begun.set()  # what still waits for a thread when the window closes never starts
        try:
            while True:
                progress(0, 0, "looking")
                stopped.wait(0.005)
        except CancelledError:
            stopped.set()
            raise

    monkeypatch.setattr(kv_budget_view, "further", endless)
    window = MainWindow(settings=None)
    qtbot.addWidget(window)
    window.show()
    window.commands.run("kv")
    qtbot.waitUntil(lambda: "KV budget" in [job.title for job in window.jobs.running], timeout=20_000)
    bar = window.findChild(JobBar)
    assert bar is not None
    qtbot.waitUntil(lambda: "KV budget" in bar.text.text(), timeout=20_000)
    qtbot.waitUntil(begun.is_set, timeout=20_000)
    window.close()
    assert stopped.wait(20)


def test_without_workers_slower_answers_are_there_at_once(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, make: Callable[..., KvBudgetView]
) -> None:
    """Went wrong once: the view worked on threads where the window was to work without."""
    where = []

    def further(choice: object, progress: Progress) -> None:
        where.append(threading.current_thread())
        raise InputError("no figures")

    monkeypatch.setattr(kv_budget_view, "further", further)
    view = KvBudgetView(load_palette(), Jobs(background=False))
    qtbot.addWidget(view)
    qtbot.waitUntil(lambda: "no figures" in view.verdict.text(), timeout=5_000)
    assert where == [threading.main_thread()]


def test_a_model_is_opened_kept_and_chosen_again(
    make: Callable[..., KvBudgetView], qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name / "config.json" for name in ("one", "two")]
    for path, layers in zip(paths, (8, 16), strict=True):
        path.parent.mkdir()
        path.write_text(SAMPLE.read_text("utf-8").replace('layers": 32', f'layers": {layers}'), encoding="utf-8")
    view = make(models=[paths[0], tmp_path / "gone.json"])
    assert [view.form.model.itemText(place) for place in range(view.form.model.count())][1:] == ["one"]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(paths[1]), ""))
    with qtbot.waitSignal(view.model_opened) as opened:
        QTest.mouseClick(view.form.open_button, Qt.MouseButton.LeftButton)
    assert opened.args == [paths[1]]
    assert view.models == [paths[1], paths[0]]
    assert view.found is not None
    assert len(view.found.case.model.layers) == 16
    QTest.keyClick(view.form.model, Qt.Key.Key_Down)
    assert len(view.found.case.model.layers) == 8
    shutil.rmtree(paths[1].parent)
    QTest.keyClick(view.form.model, Qt.Key.Key_Up)
    assert view.found is None
    assert "config.json" in view.verdict.text()


def test_a_config_can_be_dropped_and_plans_are_left_to_the_window(
    view: KvBudgetView, qtbot: QtBot, tmp_path: Path
) -> None:
    def drop(*paths: Path) -> bool:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        event = QDropEvent(
            QPointF(10, 10), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier, QEvent.Type.Drop,
        )  # fmt: skip
        event.ignore()
        view.dropEvent(event)
        return event.isAccepted()

    config = tmp_path / "config.json"
    shutil.copy(SAMPLE, config)
    with qtbot.waitSignal(view.model_opened):
        assert drop(config)
    assert view.choice.config == config
    assert not drop(SAMPLE.with_name("llama_train.plan.json"))
    assert not drop(config, SAMPLE)


def test_what_is_no_config_is_one_line_and_not_kept(view: KvBudgetView, qtbot: QtBot, tmp_path: Path) -> None:
    bad = tmp_path / "config.json"
    bad.write_text("{", encoding="utf-8")
    with qtbot.assertNotEmitted(view.model_opened):
        view.show_model(bad)
    assert view.found is None
    assert "config.json: this is not a config.json" in view.verdict.text()
    assert str(tmp_path) not in view.verdict.text()
    assert not view.stack.segments
    assert view.pool.picture is None
    assert view.models == []
    assert view.sheet().rows[0][0] == "error"
    QTest.keyClick(view.form.model, Qt.Key.Key_End)
    assert view.found is not None


def test_the_mouse_tells_where_a_part_is_from(view: KvBudgetView) -> None:
    for part, box in zip(view.stack.segments, view.stack.rectangles(), strict=True):
        if box.height() > 2:
            assert view.stack.part_at(box.center().x(), box.center().y()) == part
    for part, row in zip(view.stack.segments, view.stack.label_rows(), strict=True):
        assert view.stack.part_at(300, row) == part
    view.pool.grab()
    assert all(spot.text for spot in view.pool.spots)
    assert any("content" in spot.text for spot in view.pool.spots)


def test_the_wheel_scrolls_past_and_turns_what_has_the_focus(view: KvBudgetView) -> None:
    def turn(widget: QWidget) -> None:
        centre = QPointF(widget.rect().center())
        event = QWheelEvent(
            centre, QPointF(widget.mapToGlobal(centre.toPoint())), QPoint(0, 0), QPoint(0, -120),
            Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(widget, event)

    view.form.context.slider.setFocus()
    chosen = view.form.chip.currentIndex()
    turn(view.form.chip)
    assert view.form.chip.currentIndex() == chosen
    view.form.chip.setFocus()
    turn(view.form.chip)
    assert view.form.chip.currentIndex() == chosen + 1


@pytest.mark.parametrize("size", [(1400, 500), (900, 260), (700, 400)])
def test_everything_is_reached_at_every_size(
    make: Callable[..., KvBudgetView], qtbot: QtBot, size: tuple[int, int]
) -> None:
    view = make(size=size)
    QTest.mouseClick(view.form.more_button, Qt.MouseButton.LeftButton)
    QApplication.processEvents()
    assert (view.width(), view.height()) == size
    for area in (view.left, view.right):
        content = area.widget()
        assert content.height() <= area.viewport().height() + area.verticalScrollBar().maximum()
        assert content.minimumSizeHint().width() <= area.viewport().width()
    assert view.stack.height() >= view.stack.sizeHint().height()
    assert view.pool.height() >= view.pool.sizeHint().height()
    assert view.copy_button.visibleRegion().boundingRect().height() == view.copy_button.height()


def test_other_colours_are_taken_at_once(view: KvBudgetView) -> None:
    light = view.stack.grab().toImage()
    view.set_palette(load_palette("dark"))
    assert view.stack.grab().toImage() != light
    assert load_palette("dark").css("text").lower() in view.verdict.text().lower()


def test_the_window_remembers_the_models_looked_at(qtbot: QtBot, session: Session, tmp_path: Path) -> None:
    config = tmp_path / "own" / "config.json"
    config.parent.mkdir()
    shutil.copy(SAMPLE, config)
    kept = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    for first in (config, None):
        window = MainWindow(session, settings=kept, background=False)
        qtbot.addWidget(window)
        window.docks.show("kv")
        view = window.docks.view(KvBudgetView)
        if first is not None:
            view.show_model(first)
        assert view.models == [config]
        model = view.form.model
        assert [model.itemText(place) for place in range(model.count())].count("own") == 1
        window.close()
    assert Settings(kept).models == [config]
