"""Commands on documents: opened, saved, copied, closed."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QInputDialog

from memplan.gui.model.session.open_request import Request
from memplan.gui.views.planning.plan_model_dialog import PlanModelDialog
from memplan.schema import load_plan
from tests.gui.conftest import PLAN, PROFILE, SAMPLES
from tests.gui.scene import Scene


def _open_file(scene: Scene) -> None:
    scene.answer(QFileDialog, "getOpenFileNames", ([str(SAMPLES / "llama_train.plan.json")], ""))
    scene.window.opener.close()
    scene.press("open-file")
    assert scene.window.session.document.plan is not None
    assert scene.window.session.document.profile is None


def _open_folder(scene: Scene) -> None:
    scene.answer(QFileDialog, "getExistingDirectory", str(PROFILE))
    scene.window.opener.close()
    scene.press("open-folder")
    assert scene.window.session.document.profile is not None


def _plan_model(scene: Scene) -> None:
    scene.press("plan-model")
    dialog = next(item for item in scene.window.findChildren(PlanModelDialog) if item.isVisible())
    dialog.reject()


def _save_place(scene: Scene) -> None:
    path = scene.folder / "here.memplan-view"
    scene.answer(QFileDialog, "getSaveFileName", (str(path), ""))
    scene.press("save-place")
    assert path.exists()


def _report(scene: Scene) -> None:
    path = scene.folder / "report.html"
    scene.answer(QFileDialog, "getSaveFileName", (str(path), ""))
    scene.press("report")
    assert "<svg" in path.read_text(encoding="utf-8")


def _open_recent(scene: Scene) -> None:
    scene.window.opener.open_request(Request(PLAN, PROFILE))
    scene.window.opener.close()
    asked = scene.answer(QInputDialog, "getItem", (f"{PLAN} + {PROFILE}", True))
    scene.press("open-recent")
    if scene.window.settings.recent:
        assert asked
    else:  # nothing is kept without a store
        assert "Nothing was opened" in scene.window.statusBar().currentMessage()


def _open_sample(scene: Scene) -> None:
    scene.window.opener.close()
    scene.press("open-sample")
    assert scene.window.session.document.simulated


def _rank(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        # The sample holds one rank: the command is off, and says why when it is called all the same.
        assert not scene.window.commands.actions[name].isEnabled()

    return case


def _cancel(scene: Scene) -> None:
    scene.window.jobs.background = True
    scene.window.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
    scene.press("cancel")
    scene.until(lambda: not scene.window.jobs.running)
    assert len(scene.window.documents.opened) == 1


def _export(scene: Scene) -> None:
    target = scene.folder / "out.json"
    scene.answer(QFileDialog, "getSaveFileName", (str(target), ""))
    scene.press("export-plan")
    scene.until(target.exists)
    assert load_plan(target).ops


def _save_view(scene: Scene) -> None:
    target = scene.folder / "view.csv"
    scene.answer(QFileDialog, "getSaveFileName", (str(target), ""))
    scene.press("save-view")
    assert target.read_text(encoding="utf-8").startswith("group,track,depth,name")


def _copy_view(scene: Scene) -> None:
    QGuiApplication.clipboard().clear()
    scene.press("copy-view")
    assert QGuiApplication.clipboard().text().startswith("group\ttrack")


def _save_window(scene: Scene) -> None:
    target = scene.folder / "window.svg"
    scene.answer(QFileDialog, "getSaveFileName", (str(target), ""))
    scene.press("save-window")
    assert "<svg" in target.read_text(encoding="utf-8")[:400]


def _copy_window(scene: Scene) -> None:
    QGuiApplication.clipboard().clear()
    scene.press("copy-window")
    assert QGuiApplication.clipboard().image().width() >= scene.window.width()


def _close_document(scene: Scene) -> None:
    scene.press("close-document")
    assert scene.window.session.document.empty
    assert scene.window.middle.currentWidget() is scene.window.welcome


def _documents(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        first = scene.window.session
        scene.window.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
        assert scene.window.session is not first
        assert scene.window.tabs.count() == 2
        scene.press(name)
        assert scene.window.session is first

    return case


def _close(scene: Scene) -> None:
    scene.press("close")
    assert not scene.window.isVisible()


FILE_CASES: dict[str, Callable[[Scene], None]] = {
    "open-file": _open_file,
    "open-folder": _open_folder,
    "save-place": _save_place,
    "report": _report,
    "plan-model": _plan_model,
    "open-recent": _open_recent,
    "open-sample": _open_sample,
    "rank": _rank("rank"),
    "rank-new-tab": _rank("rank-new-tab"),
    "cancel": _cancel,
    "export-plan": _export,
    "save-view": _save_view,
    "copy-view": _copy_view,
    "save-window": _save_window,
    "copy-window": _copy_window,
    "close-document": _close_document,
    "next-document": _documents("next-document"),
    "previous-document": _documents("previous-document"),
    "close": _close,
}
"""By the command's name."""
