"""Copies between host and device are read from a trace with their bytes; a plan takes its link's rates from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.requests.plan_request import PlanRequest
from memplan.traces import open_profile
from memplan.traces.host_copies import host_copies

SIZES = (("host to device", 64 << 20, 3200.0), ("device to host", 8 << 20, 800.0), ("device to device", 1 << 20, 4.0))


def traced(folder: Path) -> Path:
    """A profile of one rank whose trace has one copy of each of `SIZES` and two small ones."""
    output = folder / "rank0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    events: list[dict[str, object]] = [
        {"name": "process_name", "ph": "M", "pid": 8, "tid": 0, "args": {"name": "Ascend Hardware"}},
        {"name": "process_labels", "ph": "M", "pid": 8, "tid": 0, "args": {"labels": "NPU"}},
        {"name": "thread_name", "ph": "M", "pid": 8, "tid": 2, "args": {"name": "Stream 2"}},
    ]
    small = (("host to device", 256, 2.5), ("device to host", 1024, 2.5))
    for number, (direction, size, length) in enumerate((*SIZES, *small)):
        arguments = {"Task Type": "PCIE_DMA_SQE", "data size(Byte)": size, "memcpy direction": direction}
        events.append(
            {"name": "MEMCPY_ASYNC", "ph": "X", "pid": 8, "tid": 2, "ts": f"{1736412474000000 + number * 10000}.125",
             "dur": length, "args": arguments}
        )  # fmt: skip
    (output / "trace_view.json").write_text(json.dumps(events))
    return folder / "rank0_ascend_pt"


def test_copies_of_both_directions_are_found(tmp_path: Path) -> None:
    profile = open_profile(traced(tmp_path))
    found = host_copies(profile.rank(profile.ranks[0]))
    assert sorted((copy.direction, copy.nbytes, copy.duration_ns) for copy in found) == [
        ("d2h", 1024, 2500.0),
        ("d2h", 8 << 20, 800_000.0),
        ("h2d", 256, 2500.0),
        ("h2d", 64 << 20, 3_200_000.0),
    ]


def test_a_plan_takes_its_link_from_them(tmp_path: Path) -> None:
    tier = PlanRequest("graph.mindir", rates_from=str(traced(tmp_path))).host_tier(chip("910B3"))
    assert tier.in_link.bytes_per_second == pytest.approx((64 << 20) / 3_197_500 * 1e9)
    assert tier.out_link.bytes_per_second == pytest.approx((8 << 20) / 797_500 * 1e9)
    assert tier.in_link.latency_ns == 2500
    assert "rank0_ascend_pt" in tier.in_link.source


def test_two_sources_of_rates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give one of them"):
        PlanRequest("graph.mindir", rates_from="a", link_rates="b").host_tier(chip("910B3"))


def test_a_real_trace_tells_its_one_large_copy(shared_data: Path) -> None:
    profile = open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2/rank0_ascend_pt")
    found = host_copies(profile.rank(profile.ranks[0]))
    assert max(copy.nbytes for copy in found) == 19_267_584
    tier = PlanRequest("graph.mindir", rates_from=str(profile.path)).host_tier(chip("910B3"))
    assert tier.in_link.bytes_per_second == pytest.approx(23.3e9, rel=0.01)
