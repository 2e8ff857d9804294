"""What a finding's title says can be said in any language: its values are figures and names, never phrases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from memplan.core.resources import table
from memplan.core.sentence import Sentence, Text
from memplan.findings import diagnose
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
    words = table("memplan.gui", "data/zh.json")
    found = diagnose(open_profile(path)).findings
    assert found
    for one in found:
        assert not [value for value in values(one.title) if _PHRASE.search(value) and "/" not in value], one.title
        assert not [text for text in templates(one.title) if text not in words], one.title
