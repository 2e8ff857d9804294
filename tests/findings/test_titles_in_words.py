"""What a finding's title says can be said in any language: its values are figures and names, never phrases."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

import memplan.findings
from memplan.core.sentence import Sentence, Text
from memplan.findings import diagnose
from memplan.findings.step_breakdown import IDLE_CAUSES
from memplan.gui.i18n import catalogue
from memplan.traces import open_profile

SAMPLE_PROFILE = Path(str(resources.files("memplan.samples"))) / "llama_train_profile"
_PHRASE = re.compile(r"[a-z]{3,} [a-z]{2,}")


def values(text: Text) -> Iterator[str]:
    if isinstance(text, Sentence):
        for value in text.values:
            yield from values(value) if isinstance(value, Sentence) else [str(value)]


def templates(text: Text) -> Iterator[str]:
    if isinstance(text, Sentence):
        yield text.text
        for value in text.values:
            yield from templates(value) if isinstance(value, Sentence) else ()


@pytest.mark.parametrize("folder", ["", "profiles/qwen3-0.6b-train-4rank", "snapshots"])
def test_titles_hold_no_english_phrases(folder: str, request: pytest.FixtureRequest) -> None:
    """Went wrong once: "计算的瓶颈：93% shorter than a launch, 5% bound by no pipe"."""
    path: Path = request.getfixturevalue("shared_data") / folder if folder else SAMPLE_PROFILE
    words = catalogue("zh")
    found = diagnose(open_profile(path)).findings
    assert found
    for one in found:
        assert not [value for value in values(one.title) if _PHRASE.search(value) and "/" not in value], one.title
        assert not [text for text in templates(one.title) if text not in words], one.title


def written(node: ast.expr) -> Iterator[str]:
    """The English words that an argument of a rule says, whichever of its branches is taken."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*written(node.body), *written(node.orelse))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Sentence":
        yield from written(node.args[0])
    elif isinstance(node, ast.JoinedStr):
        yield ast.unparse(node)  # figures within words can't be said in another language


def test_bounds_formulas_and_labels_of_all_rules_can_be_said_in_chinese() -> None:
    words = catalogue("zh")
    said = set(IDLE_CAUSES)
    for path in Path(memplan.findings.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in ("bound", "formula"):
                said |= set(written(node.value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Evidence":
                said |= set(written(node.args[0])) if node.args else set()
    assert len(said) > 100
    # Names of kernels, variables and shapes are the same in every language.
    names = {"f'  {item.label}'", "f\"{name}={value or 'not set'}\""} | {text for text in said if " x {words" in text}
    assert not {text for text in said if text and text not in words} - names
