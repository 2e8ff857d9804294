"""What is said of one thing is said in the singular, wherever a sentence counts."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import memplan
from memplan.core.sentence import Sentence

TOP = Path(memplan.__file__).parents[1]
VERBS = {
    "allows", "carries", "comes", "computes", "costs", "does", "exceeds", "fits", "has", "holds",
    "is", "its", "keeps", "lacks", "leaves", "less", "lies", "makes", "moves", "needs", "occurs",
    "peaks", "reads", "runs", "safetensors", "takes", "this", "times", "waits", "was",
}  # fmt: skip
"""Words with an s that may follow a number which stands for one thing, such as a rank or a length of time."""
PLACE = re.compile(r"\{[^{}]*\}")
COUNTED = re.compile(r"(?<![\w.,%])1 (?!moving |in |of )(?:[a-z-]+ )?([a-z]{2,}s)\b")


def templates() -> list[str]:
    """Every English template of a sentence in the code."""
    found = []
    for folder in ("memplan", "gui", "traces", "models"):
        for file in (TOP / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Sentence" and node.args:
                    parts = (part for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant))
                    found += [part.value for part in parts if isinstance(part.value, str) and PLACE.search(part.value)]
    return sorted(set(found))


def test_no_sentence_counts_one_in_the_plural() -> None:
    said = {text: str(Sentence(plain, ("1",) * plain.count("{}"))) for text in templates()
            for plain in [PLACE.sub("{}", text)]}  # fmt: skip
    assert len(said) > 200
    wrong = {text: word for text, one in said.items() for word in COUNTED.findall(one) if word not in VERBS}
    assert not wrong


@pytest.mark.parametrize(
    ("count", "said"),
    [("1", "1 kernel takes 5 µs"), ("2", "2 kernels take 5 µs"), ("1,001", "1,001 kernels take 5 µs")],
)
def test_the_wording_goes_by_the_number_before_it(count: str, said: str) -> None:
    assert str(Sentence("{} [kernel takes|kernels take] {}", (count, "5 µs"))) == said


def test_two_numbers_have_a_wording_each_and_names_are_left_alone() -> None:
    said = Sentence("{}: {} [group|groups] of {} [cache|caches]", ("a [b|c] 1", "1", "3"))
    assert str(said) == "a [b|c] 1: 1 group of 3 caches"


@given(st.text(alphabet="[]|{} ab1"))
def test_whatever_a_name_holds_is_said_as_it_is(name: str) -> None:
    assert str(Sentence("{} [is|are]", (name,))).startswith(name)
