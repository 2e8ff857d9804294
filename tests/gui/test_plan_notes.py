"""What plans say of themselves in a Chinese window: every note that memplan writes into one is recognised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from memplan.core.resources import table
from memplan.gui.i18n import catalogue
from memplan.gui.model.session.plan_notes import note_in_words

pytestmark = pytest.mark.gui

TOP = Path(__file__).resolve().parents[2]
FOLDERS = (
    "memplan/readers", "memplan/graph", "memplan/placement", "memplan/hardware", "memplan/imports", "memplan/cost",
    "models/steps", "models/families", "models/config.py", "models/fields.py", "memplan/serving",
    "memplan/cli/commands/step.py",
)  # fmt: skip
CHECKS = ("memplan/schema/check.py", "memplan/schema/contents.py", "memplan/schema/onchip_check.py")
REPORTS = (
    "memplan/reports/plan_report.py", "memplan/reports/onchip_section.py", "memplan/reports/communication_section.py",
    "memplan/reports/comparison/compare_report.py", "memplan/reports/comparison/compare_words.py",
    "memplan/serving/step_parts.py",
)  # fmt: skip
_WORDS = re.compile("[a-z]{2,} [a-z]{2,}|[a-z]{3,}")
_PARTS = frozenset(
    {
        "It lacks {}{}; what fits, the shortest step first", " at step {} ({})", "not tried, for it takes long: {}",
        "the step takes {}, {} for as many samples as before ({}); {} of it is exposed, before {}",
        "{} of {} planned ops were found in {} kernels and are {} of their compute time{}", " ({} with communication)",
        "{}; matched {}.", "{} kernels", ", {} in all", "Planned tensors explain {} of it{}.",
        ", of them {} from before the profile began ({} are weights, gradients and states of the plan, told by their "
        "sum)",
    }
)  # fmt: skip
"""What is put into other texts, and what only the command line says."""
_HAN = re.compile("[\u4e00-\u9fff]")
_NOTES = frozenset({"notes", "_NOTE", "noted", "note", "lines", "assumed", "told", "beside", "of"})
_NO_NOTES = (
    "memplan/cost/kernel_report.py", "memplan/graph/neighbourhood.py", "memplan/hardware/derived.py",
    "memplan/placement/onchip.py",
)  # fmt: skip
"""What is said there, of a kernel, a graph's drawing, a chip and on-chip memory, does not become a plan's note."""


def modules(places: tuple[str, ...]) -> Iterator[tuple[str, ast.Module]]:
    for place in places:
        path = TOP / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            name = file.relative_to(TOP).as_posix()
            if name not in _NO_NOTES:
                yield name, ast.parse(file.read_text(encoding="utf-8"))


def templates(node: ast.AST) -> Iterator[str]:
    """The texts of an expression, with `{}` for what is put into them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from (*templates(node.body), *templates(node.orelse))
    elif isinstance(node, ast.List | ast.Tuple):
        for item in node.elts:
            yield from templates(item)
    elif isinstance(node, ast.ListComp | ast.GeneratorExp):
        yield from templates(node.elt)


def named(node: ast.AST) -> bool:
    return getattr(node, "id", getattr(node, "attr", "")) in _NOTES


def notes() -> dict[str, str]:
    """Every text that becomes a note of a plan or of a step, and the module that says it."""
    found = dict[str, str]()
    for module, tree in modules(FOLDERS):
        for node in ast.walk(tree):
            said: list[ast.AST] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                said = list(node.args) if node.func.attr in ("append", "extend") and named(node.func.value) else []
            elif isinstance(node, ast.AugAssign | ast.AnnAssign):
                said = [node.value] if named(node.target) and node.value is not None else []
            elif isinstance(node, ast.Assign):
                said = [node.value] if any(map(named, node.targets)) else []
            elif isinstance(node, ast.keyword):
                said = [node.value] if node.arg in ("notes", "assumed") else []
            elif isinstance(node, ast.FunctionDef) and node.name.endswith("_notes"):
                said = [
                    made.value for made in ast.walk(node) if isinstance(made, ast.Return) and made.value is not None
                ]
            found |= {text: module for item in said for text in templates(item) if " " in text.strip()}
    return found


def faults() -> dict[str, str]:
    """Every text of what makes a plan impossible, and the module that says it."""
    return {
        text: module
        for module, tree in modules(CHECKS)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for text in templates(node)
        if " " in text
    }


def test_every_note_that_memplan_writes_into_a_plan_is_said_in_chinese() -> None:
    words = catalogue("zh")
    found = notes() | faults()
    assert len(found) > 90
    assert {text: module for text, module in found.items() if text not in words} == {}


def reported() -> dict[str, str]:
    """Every text with figures that the report of a plan or of its comparison says, and the module that says it."""
    return {
        text: module
        for module, tree in modules(REPORTS)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for text in templates(node)
        if _WORDS.search(text) and text not in _PARTS
    }


def test_every_text_of_the_report_of_a_plan_is_said_in_chinese() -> None:
    """Went wrong: half of a plan's report was English in a Chinese window."""
    found = reported()
    assert len(found) > 20
    assert {text: module for text, module in found.items() if isinstance(note_in_words(text), str)} == {}


def test_no_text_is_said_by_two_catalogues() -> None:
    """Went wrong: of two wordings of one text the later catalogue's was shown, whichever was put right."""
    parts = [table("memplan.gui", f"data/{name}.json") for name in ("zh", "zh_errors", "zh_notes", "zh_reports")]
    assert sum(map(len, parts)) == len(catalogue("zh"))


def test_a_text_known_in_part_only_stays_as_it_is() -> None:
    """Went wrong: remedies that the catalogue has whole were taken apart at their semicolons."""
    assert note_in_words("gradient accumulation; ZeRO stage 2 or 1 instead of 3") == (
        "gradient accumulation; ZeRO stage 2 or 1 instead of 3"
    )


def test_notes_of_links_are_said_in_chinese() -> None:
    words = catalogue("zh")
    links = table("memplan.hardware", "links.json")
    told = {row["note"] for row in links["links"] if row.get("note")}
    assert told
    assert told - words.keys() == set()


def test_a_note_is_said_as_it_was_written_and_keeps_its_values() -> None:
    words = catalogue("zh")
    for template in (*table("memplan.gui", "data/zh_notes.json"), *table("memplan.gui", "data/zh_reports.json")):
        values = [f"V{number}-{number}" for number in range(template.count("{}"))]
        text = template.format(*values) if values else template
        note = note_in_words(text)
        assert str(note) == text
        assert not isinstance(note, str), text
        said = note.said(lambda word: words.get(word, word))
        assert _HAN.search(said)
        assert [value for value in values if value not in said] == [], text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "time of 12 ops (AllGather, AllReduce): mesh over hccs; up to 1.4 times as long, as another source has it",
            "12 个算子的时间（AllGather, AllReduce）：全互连（mesh），经 hccs；按另一来源，最多为 1.4 倍",
        ),
        (
            "op w/Adam (step 7) still writes tensor 3 (w) at 512, but tensor 5 is still on its way there, in the "
            "first run",
            "算子 w/Adam（第 7 步） 仍在写入 张量 3（w）（地址 512），但张量 5 仍在搬往那里（在第一次运行中）",
        ),
        ("written by hand: nothing that memplan says", None),
        ("", None),
    ],
)
def test_what_stands_within_a_note_is_said_too(text: str, said: str | None) -> None:
    words, note = catalogue("zh"), note_in_words(text)
    assert (note if isinstance(note, str) else note.said(lambda word: words.get(word, word))) == (said or text)
