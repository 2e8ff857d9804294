"""Damaged and hostile files: an answer with notes or one clear error, soon, and the file stays as it was."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.traces import open_profile
from memplan.traces.notes import Notebook
from tests.traces.mutants import check, mutant, originals

MUTANTS = 500


@pytest.mark.parametrize("part", range(5))
def test_mutants_of_real_files(shared_data: Path, tmp_path: Path, part: int) -> None:
    rng = random.Random(part)
    files = originals(shared_data)
    outcomes: Counter[str] = Counter()
    for number in range(MUTANTS // 5):
        one = mutant(rng, files)
        try:
            outcomes[check(one, tmp_path)] += 1
        except Exception as error:
            kept = tmp_path / "failed" / one.name
            kept.parent.mkdir()
            kept.write_bytes(one.content)
            raise AssertionError(f"mutant {part}/{number} of {one.name}, kept as {kept}: {error!r}") from error
    assert outcomes["noted"] > outcomes.total() // 3, outcomes


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    with pytest.raises(InputError, match="no CANN profile"):
        open_profile(tmp_path)


def test_a_rank_number_beyond_reason_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "profiler_info.json").write_text('{"rank_id": "99999999999999999999"}')
    (tmp_path / "kernel_details.csv").write_text("Name,Start Time(us),Duration(us)\na,1,1\n")
    assert open_profile(tmp_path).ranks == [0]


def test_notes_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "kernel_details.csv").write_text("Name,Start Time(us),Duration(us)\na,1,1\n")
    for number in range(1500):
        (tmp_path / f"strange{number}.xyz").write_text("")
    notes = open_profile(tmp_path).notes
    assert len(notes) == 1001
    assert "more notes" in notes[-1].text


@pytest.mark.parametrize("limit", [1_000, 20_000])
def test_events_that_never_end_are_given_up(limit: int, tmp_path: Path) -> None:
    """Each attempt goes as deep as the interpreter allows, and some library may have let it go deeper."""
    (tmp_path / "trace_view.json").write_text("[" + '{"x":[{},' * 300_000)
    before = sys.getrecursionlimit()
    for small in (1 << 40, 10):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("memplan.traces.readers.trace_file.SMALL", small)
            sys.setrecursionlimit(max(limit, 1_000))
            try:
                began = time.process_time()
                profile = open_profile(tmp_path, cache=tmp_path / "cache")
                assert profile.rank(0).tracks == []
                assert time.process_time() - began < 20
            finally:
                sys.setrecursionlimit(before)
            assert any("damaged" in note.text for note in profile.notes)


def test_a_table_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    from memplan.traces.tables import gzip_files

    monkeypatch.setattr(gzip_files, "_HARMLESS", 1 << 20)
    rows = b"a,1.000,1\n" * 400_000
    (tmp_path / "kernel_details.csv.gz").write_bytes(gzip.compress(b"Name,Start Time(us),Duration(us)\n" + rows))
    with pytest.raises(InputError, match="unpacks to far more"):
        open_profile(tmp_path).rank(0).kernels()


def test_notes_hold_no_errors_and_are_plain_json(tmp_path: Path) -> None:
    """A note with an error in it would hold on to whatever the reader held, and be no JSON."""
    notes = Notebook(tmp_path)
    notes.add(tmp_path / "a.csv", Sentence("stopped after {} [row|rows]: {}", (3, ValueError("broken"))))
    note = notes.notes[0]
    assert note.text == "stopped after 3 rows: broken"
    assert note.sentence.values == (3, "broken")
    assert json.loads(json.dumps(note.plain)) == {"file": "a.csv", "text": note.text, "severity": "warning"}
