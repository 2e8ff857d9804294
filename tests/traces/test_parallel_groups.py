"""What a profile's metadata tells of the ranks that work together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import memplan
from memplan.traces.parallel_groups import parallel_groups

METADATA = {
    "distributed_args": {"tensor_model_parallel_size": 4, "data_parallel_size": 2, "sequence_parallel": True},
    "parallel_group_info": {
        "a": {"group_name": "default_group", "group_rank": 5, "global_ranks": list(range(8))},
        "b": {"group_name": "tp", "group_rank": 1, "global_ranks": [4, 5, 6, 7]},
        "c": {"group_name": "dp_cp", "group_rank": 1, "global_ranks": [1, 5]},
        "d": {"group_name": "exp", "group_rank": 9, "global_ranks": [1, 5]},
    },
}


def test_sizes_and_groups_are_told() -> None:
    found = parallel_groups(METADATA)
    assert found.sizes == {"tp": 4, "dp": 2}
    assert found.world == 8
    assert found.sequence_parallel is True
    group = found.of("tp")
    assert group is not None
    assert (group.ranks, group.place) == ((4, 5, 6, 7), 1)
    assert found.of("dp_cp") is not None
    assert found.of("pp") is None
    assert [item.place for item in found.groups] == [5, 1, 1, None]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"distributed_args": 3, "parallel_group_info": []},
        {"distributed_args": {"tensor_model_parallel_size": "4"}, "parallel_group_info": {"a": 1}},
        {"parallel_group_info": {"a": {"group_name": "tp", "global_ranks": "0,1"}}},
        {"parallel_group_info": {"a": {"group_name": "tp", "global_ranks": [True, -1]}}},
    ],
)
def test_what_tells_nothing_is_nothing(metadata: dict[str, object]) -> None:
    found = parallel_groups(metadata)
    assert not found
    assert found.world is None
    assert found.sequence_parallel is None


def test_a_profile_gives_each_rank_its_groups(tmp_path: Path) -> None:
    output = tmp_path / "ASCEND_PROFILER_OUTPUT"
    output.mkdir()
    (output / "step_trace_time.csv").write_text("Device_id,Step,Computing\n0,1,1\n", encoding="utf-8")
    (tmp_path / "profiler_info_5.json").write_text('{"config": {}, "rank_id": 5}', encoding="utf-8")
    (tmp_path / "profiler_metadata.json").write_text(json.dumps(METADATA), encoding="utf-8")
    assert memplan.open_profile(tmp_path).rank(5).groups.sizes == {"tp": 4, "dp": 2}
