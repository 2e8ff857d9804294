"""Communications that only `communication.json` tells of: their waiting and traffic, in `profile` and `ranks`."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.reports.profile_report import profile_report, rank_facts
from memplan.reports.ranks_report import ranks_report
from memplan.reports.renderers.render_console import render_console
from memplan.traces import open_profile
from memplan.traces.summaries import summarise_ranks


def op(number: int, elapsed: int, wait: int, transport: str, size: int) -> tuple[str, dict[str, object]]:
    """A communication of so many ms, `wait` of them waiting, that moves `size` MB over links of 10 GB/s."""
    times = {
        "Start Timestamp(us)": 1_760_000_000_000_000 + 10_000 * number, "Elapse Time(ms)": elapsed,
        "Transit Time(ms)": elapsed - wait, "Wait Time(ms)": wait, "Synchronization Time(ms)": 0,
    }  # fmt: skip
    links = {transport: {"Transit Size(MB)": size, "Transit Time(ms)": size / 10, "Size Distribution": {}}}
    links["SDMA"] = links[transport]
    name = f"hcom_allReduce__{number}_0_1@77"
    return name, {"Communication Time Info": times, "Communication Bandwidth Info": links}


@settings(max_examples=25)
@given(
    told=st.lists(
        st.tuples(st.integers(5, 9), st.integers(0, 4), st.sampled_from(["HCCS", "RDMA"]), st.integers(1, 50)),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_waiting_and_traffic_are_summed_up(told: list[tuple[int, int, str, int]]) -> None:
    ops = dict(op(number, *one) for number, one in enumerate(told))
    with TemporaryDirectory() as folder:
        output = Path(folder) / "ASCEND_PROFILER_OUTPUT"
        output.mkdir()
        (output / "communication.json").write_text(json.dumps({"step1": {"p2p": {}, "collective": ops}}))
        facts = rank_facts(open_profile(folder).rank(0), 5)
        elapsed, wait, size = (sum(int(one[place]) for one in told) for place in (0, 1, 3))
        assert facts["communications"] == [
            {
                "type": "hcom_allReduce", "count": len(told), "elapsed_ns": elapsed * 10**6,
                "transit_ns": (elapsed - wait) * 10**6, "wait_ns": wait * 10**6, "size": size * 10**6,
            }
        ]  # fmt: skip
        by_transport = {one["transport"]: (one["size"], one["bytes_per_second"]) for one in facts["transports"]}
        assert by_transport == {
            transport: (10**6 * sum(one[3] for one in told if one[2] == transport), pytest.approx(1e10, rel=1e-6))
            for transport in {one[2] for one in told}
        }
        (summary,) = summarise_ranks(folder, workers=1)
        assert sum(total.wait_ns for total in summary.communications) == wait * 10**6


def test_both_commands_show_them(tmp_path: Path) -> None:
    (tmp_path / "communication.json").write_text(
        json.dumps({"step1": {"collective": dict([op(0, 5, 4, "HCCS", 100)])}})
    )
    profile = open_profile(tmp_path)
    for report in (
        profile_report(profile, [rank_facts(profile.rank(0), 5)]),
        ranks_report(summarise_ranks(tmp_path, workers=1)),
    ):
        shown = render_console(report)
        assert "5.000 ms" in shown
        assert "4.000 ms" in shown
        assert "HCCS" in shown
        assert "10 GB/s" in shown


def test_moving_time_that_the_profiler_left_out_is_unknown(tmp_path: Path) -> None:
    name, entry = op(0, 5, 5, "HCCS", 100)
    (tmp_path / "communication.json").write_text(json.dumps({"step1": {"collective": {name: entry}}}))
    (total,) = rank_facts(open_profile(tmp_path).rank(0), 5)["communications"]
    assert total["transit_ns"] is None
