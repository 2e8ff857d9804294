"""Damage never loses a row in silence: what was read is held against what the whole file held."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.traces import open_profile
from memplan.traces.rank import RankProfile
from tests.traces.lost_rows import Known, Row, known_files, outcome, try_many


@pytest.mark.parametrize("known", known_files(), ids=lambda known: known.name)
def test_whole_files_are_read_without_a_warning(tmp_path: Path, known: Known) -> None:
    assert outcome(known, known.content, tmp_path) == "read"


@pytest.mark.parametrize("seed", range(4))
def test_what_damage_loses_is_noted(tmp_path: Path, seed: int) -> None:
    """`make fuzz-profiles` tries 100,000."""
    found = try_many(500, seed, tmp_path)
    assert found["read"] > 50, "the checker has something to compare"
    assert found["noted"] > 100


def test_the_checker_sees_a_lost_and_a_changed_row(tmp_path: Path) -> None:
    known = known_files()[0]
    words = list(known.values)

    def without_last(rank: RankProfile) -> Iterator[Row]:
        return ((word, row) for word, row in known.read(rank) if word != words[-1])

    def changed(rank: RankProfile) -> Iterator[Row]:
        return ((word, (*row[:-1], "other")) for word, row in known.read(rank))

    for read, told in ((without_last, "but not read"), (changed, "other")):
        with pytest.raises(AssertionError, match=told):
            outcome(replace(known, read=read), known.content, tmp_path)


@pytest.mark.parametrize(
    ("text", "told"), [("Name,Type,Start Time(us1,MatMul,AI_", True), ("Name,Type,Start Time(us)\n", False)]
)
def test_a_table_cut_in_its_first_line_says_so(text: str, told: bool, tmp_path: Path) -> None:
    output = tmp_path / "ASCEND_PROFILER_OUTPUT"
    output.mkdir()
    (output / "kernel_details.csv").write_text(text)
    profile = open_profile(tmp_path)
    assert not profile.rank(profile.ranks[0]).kernels()
    assert any("ends within its first line" in note.text for note in profile.notes) == told


def test_links_that_fell_into_another_link_are_told(tmp_path: Path) -> None:
    """A piece lost between two names leaves a file that is well formed."""
    (known,) = (known for known in known_files() if known.name == "communication_matrix.json")
    document = json.loads(known.content)
    ops = document["step1"]["collective"]
    first, second, *_ = ops
    (link,) = ops[first].values()
    link["Bandwidth(1z@7"] = ops.pop(second)
    assert outcome(known, json.dumps(document).encode(), tmp_path) == "noted"
