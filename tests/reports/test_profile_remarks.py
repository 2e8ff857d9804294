"""What reports say of files that could not be read whole: gravely, and by the files' own names."""

from __future__ import annotations

from pathlib import Path

import memplan
from memplan.reports.profile_report import profile_remarks
from memplan.reports.report import Severity
from memplan.traces.notes import Notebook
from tests.traces import excerpts

KERNELS = """Name,Type,Start Time(us),Duration(us)
MatMul1,MatMulV2,1000.0,10.0
MatMul2,MatMulV2,not a time,10.0
"""


def test_what_is_lost_is_a_warning_and_comes_first(tmp_path: Path) -> None:
    """Went wrong once: `diagnose` and `diff` called rows that they skipped mere notes, `profile` warnings."""
    folder = tmp_path / "rank_0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    folder.mkdir(parents=True)
    (folder / "kernel_details.csv").write_text(KERNELS, encoding="utf-8")
    profile = memplan.open_profile(tmp_path)
    kernels = profile.rank(profile.ranks[0]).kernels()
    assert kernels is not None
    assert kernels.name == ["MatMul1"]
    remarks = profile_remarks(profile, profile)
    assert "skipped" in str(remarks[0].text)
    assert remarks[0].severity is Severity.WARNING
    assert len({str(remark.text) for remark in remarks}) == len(remarks)


def test_a_lone_file_is_called_by_its_name(tmp_path: Path) -> None:
    """Went wrong once: `memplan ranks` called it `.`."""
    path = excerpts.snapshot(tmp_path)
    notes = Notebook(path)
    notes.add(path, "lost")
    notes.add(tmp_path, "somewhere else")
    assert [note.file for note in notes.notes] == [path.name, tmp_path.name]
