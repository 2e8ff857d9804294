"""What an engine's log or a service's tables tell of its KV cache."""

from __future__ import annotations

from pathlib import Path

import pytest

import memplan
from memplan.core.units import GIB
from memplan.findings import Finding, diagnose

_START = "INFO 06-01 10:00:00 [kv_cache_utils.py:829] "
_EVERY = "INFO 06-01 10:01:00 [loggers.py:118] Engine 000: Avg generation throughput: 10.5 tokens/s, "
_ROOM = (
    f"{_START}Available KV cache memory: 20.00 GiB",
    f"{_START}GPU KV cache size: 100,000 tokens",
)


def _found(tmp_path: Path, *lines: str) -> list[Finding]:
    path = tmp_path / "serve.log"
    path.write_text("\n".join((*_ROOM, *lines)), encoding="utf-8")
    return list(diagnose(memplan.open_profile(path)).findings)


def test_sequences_thrown_out_are_counted_over_the_log(tmp_path: Path) -> None:
    (found,) = _found(
        tmp_path,
        f"{_EVERY}Running: 30 reqs, Waiting: 2 reqs, Preemptions: 4, GPU KV cache usage: 99.8%",
        f"{_EVERY}Running: 31 reqs, Waiting: 9 reqs, Preemptions: 3, GPU KV cache usage: 99.9%",
    )
    told = {item.label: item.value for item in found.evidence}
    assert found.kind == "kv.preemption"
    assert (told["sequences thrown out"], told["sequences waiting, at most"]) == (7, 9)
    assert told["memory of the cache"] == 20 * GIB
    assert found.remedies


def test_sequences_thrown_out_cost_their_tokens_again(tmp_path: Path) -> None:
    line = "Avg prompt throughput: {} tokens/s, Running: 20 reqs, Waiting: 9 reqs, Preemptions: {}, "
    (found,) = _found(
        tmp_path,
        f"{_EVERY}{line.format('2,000.0', 4)}GPU KV cache usage: 98.0%",
        f"{_EVERY}{line.format('1000.0', 6)}GPU KV cache usage: 80.0%",
    )
    told = {item.label: item.value for item in found.evidence}
    # 98 % of 100,000 tokens are those of 20 sequences, and 10 were computed again.
    assert told["tokens computed again, about"] == 49_000
    assert found.cost_ns == 24_500_000_000


def test_the_older_engine_counts_by_itself(tmp_path: Path) -> None:
    (found,) = _found(tmp_path, "WARNING Sequence group 7 is preempted ... total_num_cumulative_preemption=51")
    assert "51 sequences" in str(found.title)


@pytest.mark.parametrize(("usage", "waiting", "full"), [("99.9", 5, True), ("99.9", 0, False), ("60.0", 5, False)])
def test_a_cache_is_full_where_somebody_waits_for_it(tmp_path: Path, usage: str, waiting: int, full: bool) -> None:
    line = f"{_EVERY}Running: 30 reqs, Waiting: {waiting} reqs, GPU KV cache usage: {usage}%"
    assert [one.kind for one in _found(tmp_path, line)] == (["kv.full"] if full else [])


@pytest.mark.parametrize(("tokens", "told"), [(2096, True), (128, False)])
def test_large_pages_are_half_empty_at_each_end(tmp_path: Path, tokens: int, told: bool) -> None:
    found = _found(
        tmp_path,
        f"{_START}Setting attention block size to {tokens} tokens to ensure that attention page size is >= mamba page.",
        f"{_EVERY}Running: 20 reqs, Waiting: 0 reqs, GPU KV cache usage: 70.0%",
    )
    assert [one.kind for one in found] == (["kv.pages"] if told else [])
    if told:
        assert found[0].cost_bytes == pytest.approx(20 * GIB * 20 * tokens / 2 / 100_000, rel=1e-6)


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("Padding mamba page size by 300.00% to ensure that they are exactly equal.", 0.75),
        ("Add 2 padding layers, may waste at most 20.00% KV cache memory", 0.2),
        ("Padding mamba page size by 0.19% to ensure that they are exactly equal.", None),
    ],
)
def test_padding_is_told_with_its_bytes(tmp_path: Path, line: str, share: float | None) -> None:
    found = _found(tmp_path, f"{_START}{line}")
    assert [one.cost_bytes for one in found] == ([] if share is None else [round(share * 20 * GIB)])


def test_tables_of_a_service_tell_it_too(tmp_path: Path) -> None:
    (tmp_path / "kvcache.csv").write_text("timestamp(ms),total_blocks,used_blocks\n1,100,0\n2,100,100\n", "utf-8")
    (tmp_path / "serve.log").write_text("INFO Running: 3 reqs, Waiting: 4 reqs", encoding="utf-8")
    facts = diagnose(memplan.open_profile(tmp_path)).job.ranks[0].case.profile.cache_use()
    assert facts is not None
    assert (facts.blocks, facts.usage) == (100, 1.0)
