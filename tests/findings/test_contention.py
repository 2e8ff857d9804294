"""Transfers beside computing that run at less than the rate of those alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.simulator.job_program import Doing, Item, RankProgram, collective
from tests.findings.planted_runs import Change, diagnosed, named

AWAIT = Item(Doing.AWAIT, "await", "", 0)
SIZE = 20_000_000


def _sent(name: str, length_ns: int) -> Item:
    return replace(collective(name, length_ns, packet=SIZE), size=SIZE)


def _with(beside_ns: int) -> Change:
    def change(program: RankProgram) -> RankProgram:
        bare = [item for item in program if item.doing is Doing.KERNEL]
        alone = _sent("hcom_allGather__2_1_1", 1_000_000)
        return (*bare[:20], _sent("hcom_allReduce__1_1_1", beside_ns), *bare[20:], AWAIT, alone, AWAIT)

    return change


def test_a_transfer_beside_computing_that_is_slow_costs_what_is_exposed_of_it(tmp_path: Path) -> None:
    """Went wrong once: transports are called HCCS, PCIE and SIO in profiles, and the rule looked for SDMA alone."""
    found = diagnosed(tmp_path / "slow", _with(9_000_000), ranks=2)
    first, _ = named(found, "communication.contention")
    # 20 MB take 9 ms, of which 40 kernels hide 8; alone they take 1 ms, and would be hidden.
    assert first.cost_ns is not None
    assert 3 * 700_000 < first.cost_ns < 3 * 1_300_000
    assert first.remedies


def test_a_transfer_beside_computing_as_fast_as_alone_is_let_be(tmp_path: Path) -> None:
    found = diagnosed(tmp_path / "fair", _with(1_000_000), ranks=2)
    assert not named(found, "communication.contention")


def test_small_packets_beside_computing_are_not_held_against_large_ones_alone(tmp_path: Path) -> None:
    """Went wrong once: gradients reduced one by one, slow for their latency, were told as slowed by computing."""

    def change(program: RankProgram) -> RankProgram:
        bare = [item for item in program if item.doing is Doing.KERNEL]
        small = replace(collective("hcom_allReduce__1_1_1", 2_000_000, packet=500_000), size=500_000)
        alone = _sent("hcom_allGather__2_1_1", 1_000_000)
        return (*bare[:20], small, *bare[20:], AWAIT, alone, AWAIT)

    assert not named(diagnosed(tmp_path / "small", change, ranks=2), "communication.contention")
