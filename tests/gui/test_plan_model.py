"""A model is planned from the window: by hand, and like the profile that is open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractSpinBox, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

import memplan
from memplan.gui.model.kv.kv_offer import SAMPLE
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.settings import Settings
from memplan.gui.views.planning.plan_model_dialog import PlanModelDialog
from memplan.gui.window.main_window import MainWindow
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe
from memplan.requests.plan_request import PlanRequest
from memplan.simulator import Behaviour, simulate


@pytest.fixture
def window(qtbot: QtBot) -> MainWindow:
    found = MainWindow(background=False)
    qtbot.addWidget(found)
    found.show()
    return found


@pytest.fixture
def short_model(tmp_path: Path) -> Path:
    """The bundled model with four of its layers, which is planned in no time."""
    target = tmp_path / "short.json"
    target.write_text(json.dumps({**json.loads(SAMPLE.read_text("utf-8")), "num_hidden_layers": 4}), "utf-8")
    return target


def dialog_of(window: QWidget) -> PlanModelDialog:
    return next(item for item in window.findChildren(PlanModelDialog) if item.isVisible())


def typed(qtbot: QtBot, box: QLineEdit | QAbstractSpinBox, text: str) -> None:
    box.setFocus()
    box.selectAll()
    QTest.keyClicks(box, text)
    QTest.keyClick(box, Qt.Key.Key_Tab)


def test_a_step_is_planned_by_hand(qtbot: QtBot, window: MainWindow, short_model: Path) -> None:
    button = next(item for item in window.welcome.buttons if "Plan a model" in item.text())
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    dialog = dialog_of(window)
    assert not dialog.form.like.isVisible()
    assert dialog.form.source == SAMPLE
    dialog.form.show_source(short_model)
    typed(qtbot, dialog.form.context, "256")
    typed(qtbot, dialog.form.ranks.boxes["pp"], "2")
    typed(qtbot, dialog.form.stage, "1")
    typed(qtbot, dialog.form.global_batch, "2")
    assert "--phase train" in dialog.command_line
    assert "--pp 2" in dialog.command_line
    QTest.mouseClick(dialog.copy, Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == dialog.command_line
    QTest.mouseClick(dialog.plan, Qt.MouseButton.LeftButton)
    plan = window.session.document.plan
    assert plan is not None
    shown = {item.name: item.value for item in plan.settings}
    assert {name: shown[name] for name in ("phase", "pp", "stage", "sequence", "micro-batches")} == {
        "phase": "train", "pp": "2", "stage": "1", "sequence": "256", "micro-batches": "2",
    }  # fmt: skip
    assert window.settings.recent == []  # nothing is kept without a store


def test_a_served_step_has_rows_of_its_own(qtbot: QtBot, window: MainWindow) -> None:
    window.commands.run("plan-model")
    dialog = dialog_of(window)
    assert dialog.form.micro_batch.isVisible()
    assert not dialog.form.batch.isVisible()
    dialog.form.phase.setFocus()
    QTest.keyClicks(dialog.form.phase, "D")
    assert dialog.form.batch.isVisible()
    assert not dialog.form.micro_batch.isVisible()
    assert "--phase decode" in dialog.command_line
    assert dialog.form.even_routing.isVisible()
    dialog.form.even_routing.setFocus()
    QTest.keyClick(dialog.form.even_routing, Qt.Key.Key_Space)
    assert "--even-routing" in dialog.command_line
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert window.session.document.plan is None


def test_a_plan_like_the_open_profile(qtbot: QtBot, window: MainWindow, tmp_path: Path, short_model: Path) -> None:
    recipe, layout = Recipe(256, 1, 2), Layout(pipeline=2)
    plan = memplan.plan(load_config(short_model), layout=layout, recipe=recipe, stage=1, chip="910B3")
    folder = simulate(plan, tmp_path / "rank_1_ascend_pt", behaviour=Behaviour.exact(), rank=1)
    window.opener.open([folder])
    window.commands.run("plan-model")
    dialog = dialog_of(window)
    dialog.form.show_source(short_model)
    assert dialog.form.like.isVisible()
    assert dialog.form.like.isChecked()
    assert not dialog.form.ranks.isVisible()
    assert f"--like {folder}" in dialog.command_line
    assert "--chip" not in dialog.command_line  # which would be given, and win
    QTest.mouseClick(dialog.plan, Qt.MouseButton.LeftButton)
    document = window.session.document
    assert document.plan is not None
    assert document.profile is not None
    assert {item.name: item.value for item in document.plan.settings}["stage"] == "1"


def test_a_config_that_is_dropped_asks_for_the_step(window: MainWindow) -> None:
    window.opener.open([SAMPLE])
    assert Path(dialog_of(window).form.model.currentData()) == SAMPLE


def test_a_step_is_opened_again_as_it_was(tmp_path: Path, short_model: Path) -> None:
    settings = Settings(QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat))
    step = PlanRequest(short_model, phase="train", pp=2, context=256, global_batch=2, chip="910B4")
    settings.opened(Request(short_model, step=step))
    (again,) = settings.recent
    assert again.step == step
    plan = open_session(again).document.plan
    assert plan is not None
    assert plan.chip == "Ascend910B4"
