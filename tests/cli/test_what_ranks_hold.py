"""What `memplan profile` says of shares, and of ranks without kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.reports.profile_report import profile_report, rank_facts
from memplan.reports.renderers.render_console import render_console
from memplan.traces import open_profile


@pytest.mark.parametrize("top", [1, 2, 9])
def test_shares_are_of_all_device_time(tmp_path: Path, top: int) -> None:
    rows = "".join(f"m{i},Type{i},{1_760_000_000_000_000 + 100 * i},{10 * (i + 1)}\n" for i in range(4))
    (tmp_path / "kernel_details.csv").write_text(f"Name,Type,Start Time(us),Duration(us)\n{rows}")
    profile = open_profile(tmp_path)
    shown = render_console(profile_report(profile, [rank_facts(profile.rank(0), top)]))
    assert "40.0%" in shown
    assert ("30.0%" in shown) == (top > 1)


def test_a_rank_without_kernels_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "step_trace_time.csv").write_text(
        "Step,Computing,Communication(Not Overlapped),Overlapped,Communication,Free\n1,100,0,0,0,5\n"
    )
    profile = open_profile(tmp_path)
    shown = render_console(profile_report(profile, [rank_facts(profile.rank(0), 5)]))
    assert "no kernels and no timeline, only steps" in shown
    assert "over 0 ns" not in shown
