"""Windows are opened offscreen; nothing the user keeps is read or written."""

from __future__ import annotations

import csv
import os
import shutil

from numpy.typing import NDArray

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

pytest.importorskip("PySide6.QtWidgets")

from PySide6.QtCore import QEvent
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QGraphicsView

from memplan.gui.application import application
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import Session
from memplan.gui.theme import apply_theme
from memplan.gui.window.main_window import MainWindow
from tests.gui.hands import Hands
from tests.gui.two_documents import press, settle

SAMPLES = Path(str(resources.files("memplan.samples")))
PLAN = SAMPLES / "llama_train.plan.json"
PROFILE = SAMPLES / "llama_train_profile"


def slower(folder: Path, factor: float = 1.5) -> Path:
    """The bundled profile with every MatMul `factor` times as long, in the kernel table."""
    copy = folder / "slower"
    shutil.copytree(PROFILE, copy)
    table = next(copy.rglob("kernel_details.csv"))
    lines = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    kind, duration = lines[0].index("Type"), lines[0].index("Duration(us)")
    for line in lines[1:]:
        if line[kind] == "MatMul":
            line[duration] = f"{float(line[duration]) * factor:.3f}"
    table.write_text("\n".join(",".join(line) for line in lines) + "\n", encoding="utf-8")
    return copy


def pixels(image: QImage) -> NDArray[np.uint32]:
    """`image` as (H, W) 32-bit pixels."""
    image = image.convertToFormat(QImage.Format.Format_RGB32)
    data = np.frombuffer(image.constBits(), dtype=np.uint32)
    return data.reshape(image.height(), image.bytesPerLine() // 4)[:, : image.width()].copy()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def session() -> Session:
    """The bundled plan on the bundled profile."""
    return open_session(Request(PLAN, PROFILE))


@pytest.fixture
def window(qtbot: QtBot, session: Session) -> Iterator[MainWindow]:
    """A window on the sample, shown offscreen in the light theme."""
    apply_theme(application(), load_palette())
    session.page = "timeline"
    made = MainWindow(session, background=False)
    made.resize(1400, 900)
    made.show()
    qtbot.waitExposed(made)
    yield made
    made.close()


@pytest.fixture
def two(qtbot: QtBot, tmp_path: Path) -> Iterator[MainWindow]:
    """The slower run as tab 0, and the sample as tab 1, which is shown."""
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1920, 1080)
    window.show()
    window.opener.open_request(Request(None, slower(tmp_path)))
    window.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
    settle()
    yield window
    window.close()


@pytest.fixture
def both(two: MainWindow) -> MainWindow:
    """The sample as A, the slower run as B."""
    press(two)
    return two


@pytest.fixture
def hands(qtbot: QtBot) -> Iterator[Hands]:
    """An empty window and a user before it."""
    window = MainWindow(background=False)
    window.resize(1600, 1000)
    window.show()
    qtbot.waitExposed(window)
    settle()
    yield Hands(window)
    window.close()


@pytest.fixture(autouse=True)
def _nothing_left_on_the_screen() -> Iterator[None]:
    """What a test leaves open would lie between the mouse and the next test's window, and take part in its themes."""
    yield
    if QApplication.instance() is not None:
        for widget in QApplication.topLevelWidgets():
            widget.hide()
            if isinstance(widget, MainWindow):
                for view in widget.findChildren(QGraphicsView):
                    view.setParent(None)  # pyqtgraph's scenes don't survive that their items go before them
                    view.deleteLater()  # nor may they be left to Python, which empties them before Qt asks their sizes
                widget.deleteLater()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
