"""The KV budget: from what is set to pools and the stack of HBM, as the command line says it, and driven by hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from typer.testing import CliRunner

from memplan.cli.app import app
from memplan.gui.model.kv_budget import answer, headline, stack
from memplan.gui.model.kv_choice import SAMPLE, KvChoice
from memplan.gui.model.palette import load_palette
from memplan.gui.views.kv_budget import KvBudgetView

pytestmark = pytest.mark.gui


@pytest.fixture
def view(qtbot: Any) -> KvBudgetView:
    """The view as it opens."""
    made = KvBudgetView(load_palette())
    qtbot.addWidget(made)
    made.resize(1400, 500)
    made.show()
    qtbot.waitExposed(made)
    return made


def printed(command: str) -> tuple[int, dict[str, Any]]:
    """What the command line answers to `command`, as a document."""
    words = shlex.split(command)
    assert words[0] == "memplan"
    done = CliRunner().invoke(app, [*words[1:], "--json"], standalone_mode=False)
    return done.return_value, json.loads(done.stdout)


def test_the_stack_adds_up_to_the_card() -> None:
    found = answer(KvChoice(SAMPLE, batch=4))
    assert sum(part.nbytes for part in stack(found)) == found.result.items[0].nbytes
    assert headline(found).plain().startswith("Fits: room for 10 × 32,768 tokens")


def test_it_opens_on_the_sample_and_copies_a_command_of_the_same_figures(view: KvBudgetView, qtbot: Any) -> None:
    assert view.found is not None
    qtbot.mouseClick(view.copy_button, Qt.MouseButton.LeftButton)
    code, document = printed(QGuiApplication.clipboard().text())
    assert code == 0
    assert document["sequences"] == view.found.result.sequences
    assert document["pool"]["num_blocks"] == view.found.pool.blocks


def test_what_is_no_config_is_one_line(view: KvBudgetView, tmp_path: Path) -> None:
    bad = tmp_path / "config.json"
    bad.write_text("{", encoding="utf-8")
    view.show_model(bad)
    assert view.found is None
    assert "this is not a config.json" in view.verdict.text()
    assert not view.stack.segments
