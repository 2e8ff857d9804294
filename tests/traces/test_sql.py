"""SQL over the same columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.sql import query

pytest.importorskip("duckdb")


def test_sums_agree_with_the_profile(shared_data: Path) -> None:
    rank = open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2").rank(0)
    found = query(
        rank,
        "SELECT type, count(*) AS n, sum(duration_ns)::BIGINT AS t FROM kernels GROUP BY type ORDER BY t DESC LIMIT 5",
    )
    rows = [(row["type"], row["n"], row["t"]) for row in found.to_pylist()]
    assert rows == [(op.type, op.count, op.total_ns) for op in rank.top_ops(5)]
    (busy,) = query(
        rank,
        "SELECT sum(duration_ns)::BIGINT AS t FROM slices JOIN tracks ON track = id "
        "WHERE kind = 'overlap' AND thread = 'Computing'",
    ).to_pylist()
    overlap = rank.overlap()
    assert overlap is not None
    assert busy["t"] == overlap.computing_ns
    (peak,) = query(rank, "SELECT max(reserved) AS peak FROM memory WHERE component = 'PTA'").to_pylist()
    assert peak["peak"] == 1452 * 2**20
    assert query(rank, "SELECT count(*) AS n FROM allocations").to_pylist() == [{"n": 184}]


def test_a_query_reaches_no_files(shared_data: Path, tmp_path: Path) -> None:
    rank = open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2").rank(0)
    for text in (
        f"COPY kernels TO '{tmp_path / 'out.csv'}'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT nothing",
    ):
        with pytest.raises(InputError, match="refused"):
            query(rank, text)
    assert list(tmp_path.iterdir()) == []
