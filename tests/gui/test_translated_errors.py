"""Errors and notes in a Chinese window: of all of memplan that the window uses, the templates are in the catalogue."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from string import Formatter

import pytest
from PySide6.QtWidgets import QApplication, QLabel, QSpinBox
from pytestqt.qtbot import QtBot

from memplan.core.errors import InputError, reason
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.gui.i18n import catalogue, choose_language, say, tr
from memplan.gui.model.session.open_request import Request
from memplan.gui.views.kv.kv_budget_view import KvBudgetView
from memplan.gui.views.planning.planning_view import PlanningView
from memplan.gui.window.main_window import MainWindow
from memplan.models import load_config
from memplan.readers.sniff import ContentKind
from tests.gui.conftest import SAMPLES
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui

TOP = Path(__file__).resolve().parents[2]
FOLDERS = {"memplan.gui": "gui", "memplan.models": "models", "memplan.traces": "traces", "memplan": "memplan"}
ERRORS = frozenset({"InputError", "MemplanError", "UnboundShapeError"})
_HAN = re.compile("[\u4e00-\u9fff]")
_WORD = re.compile("[A-Za-z]{2,}")
_NAME = re.compile(r"\w+")
_IMPORT = re.compile(r"^\s*from (memplan[\w.]*) import (\([^)]*\)|[^\n#]*)", re.MULTILINE)
_SPEAKS = re.compile(r"Error\(|Sentence\(|\.wrong\(|notes\.(add|tell)\(")


def sources() -> dict[str, str]:
    """The text of each module, by the module's name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in (TOP / folder).rglob("*.py"):
            parts = path.relative_to(TOP / folder).with_suffix("").parts
            name = ".".join((package, *(part for part in parts if part != "__init__")))
            found[name] = path.read_text(encoding="utf-8")
    return found


def imported(text: str) -> Iterator[str]:
    """Names that may be modules, of whatever a module with this `text` imports, wherever in it."""
    for package, names in _IMPORT.findall(text):
        yield package
        yield from (f"{package}.{name}" for name in _NAME.findall(names))


@cache
def parsed() -> Mapping[str, ast.Module]:
    """
    Modules of memplan that the window's own import, and those that these do, where they speak of errors.

    The package's own first page, which knows all of it, is none of them.
    """
    texts = sources()
    waiting = [name for name in texts if name.startswith("memplan.gui")]
    used: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in used and name != "memplan" and name in texts:
            used.add(name)
            waiting += [*imported(texts[name]), *(name[: at.start()] for at in re.finditer(r"\.", name))]
    return {name: ast.parse(texts[name]) for name in sorted(used) if _SPEAKS.search(texts[name])}


def texts(node: ast.expr, constants: Mapping[str, str]) -> Iterator[str]:
    """The texts that `node` stands for: itself, either half of a choice, or what a name of the module stands for."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body, constants), *texts(node.orelse, constants))
    elif isinstance(node, ast.Name) and node.id in constants:
        yield constants[node.id]


def constants_of(trees: Mapping[str, ast.Module]) -> dict[str, str]:
    """Texts that modules give a name."""
    return {
        target.id: node.value.value
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def templates() -> dict[str, str]:
    """What errors and notes say is wrong and what to do, and the module that says it, of all that the window uses."""
    trees = parsed()
    constants = constants_of(trees)
    found: dict[str, str] = {}
    for module in trees:
        for node in ast.walk(trees[module]):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            said: list[ast.expr] = []
            if name in ERRORS:
                said = [*node.args[:1], *(item.value for item in node.keywords if item.arg == "remedy")]
            elif name == "Sentence":
                said = node.args[:1]
            elif name == "wrong" or (name in ("add", "tell") and _of_notes(node.func)):
                said = node.args[1:3]
            for text in (text for item in said for text in texts(item, constants)):
                found[text] = module
    return found


def _of_notes(called: ast.expr) -> bool:
    """Whether a method is one of a reader's notes."""
    owner = called.value if isinstance(called, ast.Attribute) else None
    return getattr(owner, "id", getattr(owner, "attr", "")).endswith("notes")


def f_strings() -> list[str]:
    """Where the window's errors are written with their values in them, so that nothing is left to translate."""
    trees = parsed()
    return [
        f"{module}:{node.lineno}"
        for module in trees
        for node in ast.walk(trees[module])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ERRORS
        and any(
            isinstance(item, ast.JoinedStr)
            for item in (*node.args[:1], *(item.value for item in node.keywords if item.arg == "remedy"))
        )
    ]


def test_every_error_that_the_window_can_meet_is_in_the_catalogue() -> None:
    found, words = templates(), catalogue("zh")
    assert len(found) > 900
    missing = {text: module for text, module in found.items() if text not in words and _WORD.search(text)}
    assert missing == {}


def test_errors_are_templates() -> None:
    """One is given with a dictionary in braces, in a program of MindSpore that no window reads."""
    assert [place.partition(":")[0] for place in f_strings()] == ["memplan.readers.mindspore.cell"]


def test_kinds_of_files_and_of_models_are_in_the_catalogue() -> None:
    words = catalogue("zh")
    refused = table("memplan.models.families", "refused.json")["refused"]
    assert {row["reason"] for row in refused} - words.keys() == set()
    assert [kind.value for kind in ContentKind if kind.value not in words] == []


def test_translations_take_the_same_values_written_the_same_way() -> None:
    for english, said in catalogue("zh").items():
        try:
            wanted, got = (
                [(name, spec, kind) for _, name, spec, kind in Formatter().parse(text) if name is not None]
                for text in (english, said)
            )
        except ValueError:  # a brace that stands for itself, in a text without values
            continue
        if got and all(name.isdigit() for name, _, _ in got):
            assert sorted(int(name) for name, _, _ in got) == list(range(len(wanted))), english
            got = [("", spec, kind) for _, spec, kind in sorted(got, key=lambda one: int(one[0]))]
        assert got == wanted, english


@pytest.fixture
def chinese() -> Iterator[None]:
    _ = QApplication.instance() or QApplication([])
    choose_language("zh")
    yield
    choose_language("en")


def english_words(line: str, *names: object) -> set[str]:
    """Words of Latin letters in `line` that are in none of `names`."""
    for name in names:
        line = line.replace(str(name), "")
    return set(_WORD.findall(line))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("broken.plan.json", b'{"format": "memplan-plan"'),
        ("no.plan.json", b'{"format": "something"}'),
        ("empty.mindir", b""),
        ("cut.mindir", b"\x0a\x05mind"),
        ("damaged.pkl", b"\x80\x04garbage"),
        ("model.onnx", b"\x08\x07\x12\x00"),
        ("notes.txt", b"nothing of a profile"),
        ("profile.zip", b"PK\x03\x04cut"),
        ("place.memplan-view.json", b"{}"),
    ],
)
def test_files_that_cannot_be_opened_are_told_in_chinese(
    name: str, data: bytes, chinese: None, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.opener.open_request(Request(None, path) if path.suffix in (".pkl", ".txt", ".zip") else Request(path))
    settle()
    line = window.problems.errors[0]
    assert name in line
    known: tuple[str, ...] = (
        "memplan",
        "plan",
        "PLAN",
        "GRAPH",
        "json",
        "JSON",
        "MindIR",
        "ONNX",
        "CANN",
        "pickle",
        "ValueError",
    )
    known += ("kernel_details.csv", "trace_view.json", "ASCEND_PROFILER_OUTPUT", "*_ascend_pt", "*_ascend_ms", "PROF_*")
    known += ("mindspore.export(..., file_format='MINDIR')", "mindir", ".pt2", "graph_build", "actor_set", "somas")
    assert english_words(line, path, tmp_path, *known) == set(), line
    assert _HAN.search(line)
    window.close()


def test_fields_of_a_model_are_told_in_chinese(chinese: None, tmp_path: Path) -> None:
    text = (SAMPLES / "example_config.json").read_text(encoding="utf-8")
    for field, value in (("hidden_size", '"wide"'), ("num_attention_heads", "0"), ("vocab_size", "-5")):
        path = tmp_path / field / "config.json"
        path.parent.mkdir()
        path.write_text(re.sub(rf'("{field}":\s*)[^,\n]+', rf"\g<1>{value}", text), encoding="utf-8")
        with pytest.raises(InputError) as caught:
            load_config(path)
        line = caught.value.said(tr)
        assert _HAN.search(line)
        assert line != str(caught.value)
        assert field in line


def test_an_error_is_one_line_in_either_language() -> None:
    error = InputError("rank {} is not in this profile", 3, path="run\n1", place="here", remedy=Sentence("choose one"))
    assert str(error) == "run 1: here: rank 3 is not in this profile; choose one"
    said = error.said(catalogue("zh").get)
    assert said == "run 1：here：这份性能数据中没有 rank 3；请选择一个"
    assert str(InputError("holds {braces}", remedy="use {}")) == "holds {braces}; use {}"
    assert reason(PermissionError(13, "Permission denied")).said(catalogue("zh").get) == "没有权限"


def test_notes_on_a_profile_are_told_in_chinese(chinese: None, qtbot: QtBot, tmp_path: Path) -> None:
    """Went wrong once: the panel of problems told in English how files had been read."""
    folder = tmp_path / "run_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    folder.mkdir(parents=True)
    rows = "Name,Type,Start Time(us),Duration(us)\nMul,Mul,1,2\nAdd,Add,,2\nSub,Sub,4\n"
    (folder / "kernel_details.csv").write_text(rows)
    (folder / "memory_record.csv").write_text("")
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.opener.open_request(Request(None, folder.parent))
    settle()
    window.docks.bring("problems")
    said = [say(remark.text) for remark in window.problems.remarks]
    assert said
    known = ("kernel_details.csv", "memory_record.csv", "rank", "ASCEND_PROFILER_OUTPUT")
    assert [line for line in said if english_words(line, folder, *known)] == []
    window.close()


def test_a_layout_that_cannot_be_planned_is_told_in_chinese(chinese: None, qtbot: QtBot) -> None:
    """Went wrong once: fields of the planning and the KV page were answered in English."""
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.show()
    window.show_page("planning")
    planning = window.docks.view(PlanningView)
    planning.form.show_source(SAMPLES / "example_config.json")
    planning.form.findChildren(QSpinBox)[0].setValue(7)
    settle()
    shown = [label.text() for label in planning.findChildren(QLabel) if label.isVisible()]
    assert any("32 个头不能分给 7 个 rank" in text for text in shown), shown
    window.show_page("kv")
    settle()
    budget = window.docks.view(KvBudgetView)
    budget.show_model(SAMPLES / "example_config.json")
    fields = [field for field in budget.findChildren(QSpinBox) if field.value() == 1 and field.isVisible()]
    fields[0].setValue(7)
    settle()
    assert "不能分给 7 个张量并行 rank" in budget.verdict.text()
    window.close()
