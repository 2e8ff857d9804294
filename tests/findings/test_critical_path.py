"""The chain of work and waiting that a job's length is made of, over streams, the host and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.core.intervals import interval_union
from memplan.findings import diagnose
from memplan.findings.critical_path import NOT_SEEN, CriticalPath, critical_path
from memplan.findings.exposed_communication import exposed_communications
from memplan.findings.meetings import clock_offsets, meetings_of
from memplan.findings.rank_case import NOTHING, RankCase, StepWindow
from memplan.findings.stall_waits import bare_transfers
from memplan.simulator.faults.plain_faults import drained
from memplan.simulator.job_program import Doing, Item, RankProgram, computing_ns, scaled_kernels, spread_out
from memplan.traces.notes import Notebook
from memplan.traces.profile import Kernels
from memplan.traces.rank import RankProfile, RankReader
from tests.findings.planted_runs import diagnosed, named, unchanged

US = 1000


def _case(rows: Sequence[tuple[int, int, int, int]], synchronised: Sequence[tuple[int, int]] = ()) -> RankCase:
    """Kernels given as (start, end, stream, launch) in us; the host waited for the device in `synchronised`."""
    table = np.array(rows, dtype=np.int64) * US
    start, end, stream, launch = table.T
    nothing = np.full(len(rows), -1, dtype=np.int64)
    texts = ["MatMul"] * len(rows)
    kernels = Kernels(start, end - start, nothing, nothing, stream, nothing, *(texts,) * 7, {})
    calls = np.array(synchronised, dtype=np.int64).reshape(-1, 2).T * US
    return RankCase(
        0, RankProfile(0, lambda _: RankReader(Notebook(Path()))), kernels, np.arange(len(rows)), launch, [],
        [StepWindow(1, int(start.min()), int(end.max()), int(end.max()))], interval_union(start, end), NOTHING, NOTHING,
        [], {"synchronise": (calls[0], calls[1])}, True,
    )  # fmt: skip


def _path(case: RankCase) -> CriticalPath:
    exposed = {0: exposed_communications(case)}
    found = critical_path({0: case}, exposed, meetings_of(exposed))
    assert found is not None
    return found


def test_the_path_crosses_streams_and_leaves_out_what_ran_beside_it() -> None:
    #        on the path      beside            waits for the second stream
    rows = [(0, 100, 1, 0), (100, 150, 1, 0), (102, 400, 2, 0), (420, 500, 1, 0)]
    path = _path(_case(rows))
    assert path.kernels[0].tolist() == [0, 2, 3]
    assert path.composition["computing"] == (100 + 298 + 80) * US
    assert path.length_ns == 500 * US


def test_a_late_launch_leads_back_to_when_the_host_last_waited() -> None:
    # The host synchronised with the first kernel and took until 300 to launch the third; the second delays nothing.
    rows = [(0, 100, 1, 0), (110, 200, 1, 105), (310, 400, 1, 300)]
    path = _path(_case(rows, [(50, 101)]))
    assert path.kernels[0].tolist() == [0, 2]
    assert path.composition["computing"] == 190 * US
    assert path.composition["host, while the device works"] == 90 * US
    assert sum(path.composition.values()) == path.length_ns == 400 * US


def test_a_kernel_that_was_launched_early_waited_for_the_device() -> None:
    rows = [(0, 100, 1, 0), (101, 200, 1, 1), (201, 400, 1, 2)]
    path = _path(_case(rows, [(-10, -5)]))
    assert path.kernels[0].tolist() == [0, 1, 2]


def test_the_path_goes_through_the_slow_rank(tmp_path: Path) -> None:
    found = diagnosed(tmp_path / "run", lambda program: scaled_kernels(program, 1.3), ranks=4, only=2)
    path = found.job.path
    assert path is not None
    by_rank = {rank: sum(parts.values()) for rank, parts in path.parts.items()}
    assert by_rank[2] > 0.95 * path.length_ns
    (slow,) = named(found, "rank.slow")
    assert slow.path_ns is not None
    assert slow.cost_ns is not None
    assert slow.path_ns == pytest.approx(slow.cost_ns, rel=0.05)


def test_work_of_a_rank_that_nobody_waits_for_is_not_on_the_path(tmp_path: Path) -> None:
    def change(program: RankProgram) -> RankProgram:
        quiet = Item(Doing.SYNCHRONISE, "drained", "quiet", 0)
        return (*program[:2], quiet, _host(program, "enumerate(DataLoader)#__next__", 0.2), *program[2:])

    alone = diagnosed(tmp_path / "alone", change, ranks=2, only=1)
    (loader,) = named(alone, "idle.dataloader")
    assert loader.path_ns == pytest.approx(loader.cost_ns, rel=0.02)

    def slower(program: RankProgram) -> RankProgram:
        return scaled_kernels(program, 1.5)

    hidden = diagnosed(tmp_path / "hidden", change, ranks=2, only=1, others=slower)
    (loader,) = named(hidden, "idle.dataloader")
    assert loader.cost_ns is not None
    assert loader.path_ns is not None
    assert loader.path_ns < 0.05 * loader.cost_ns


def _host(program: RankProgram, name: str, share: float) -> Item:
    return Item(Doing.HOST, name, "", round(share * computing_ns(program)))


def test_a_rank_that_comes_late_is_named_with_the_reason(tmp_path: Path) -> None:
    def change(program: RankProgram) -> RankProgram:
        length = round(0.2 * computing_ns(program))
        return spread_out(program, Item(Doing.COPY, "MEMCPY_ASYNC", "host to device", length), 1)

    found = diagnosed(tmp_path / "run", change, ranks=4, only=2)
    (late,) = named(found, "rank.late")
    assert late.places[0].ranks == (2,)
    assert late.rank is not None
    waits = sum(step.waiting_ns or 0 for step in found.job.ranks[late.rank].steps)
    assert late.cost_ns == pytest.approx(waits, rel=0.02)  # nobody else keeps it waiting
    assert late.path_ns == 0  # to wait less would make nothing shorter: what the late rank does is on the path
    assert {late.rank, *(rank for rank, _ in late.waits_ns)} == {0, 1, 3}
    assert "more than the others: copies" in {str(item.label) for item in late.evidence}
    everyone = diagnosed(tmp_path / "all", change, ranks=4)
    assert not named(everyone, "rank.late")


def test_waiting_for_a_host_that_stalls_is_charged_to_the_stall(tmp_path: Path) -> None:
    def change(program: RankProgram) -> RankProgram:
        return drained(spread_out(program, _host(program, "save_checkpoint", 0.2), 1), 1)

    found = diagnosed(tmp_path / "run", change, ranks=4, only=2)
    (stall,) = named(found, "idle.checkpoint")
    assert stall.rank == 2
    for rank, length in stall.waits_ns:
        steps = found.job.ranks[rank].steps
        waits, bare = sum(step.waiting_ns or 0 for step in steps), sum(bare_transfers(steps))
        # Transfers that come late with the stalled rank find nothing left to compute beside them.
        assert length == pytest.approx(waits + bare, rel=0.05)
        assert length <= (stall.cost_ns or 0)
    assert {rank for rank, _ in stall.waits_ns} == {0, 1, 3}
    assert not named(found, "rank.late")
    assert not named(found, "communication.waiting")
    everyone = diagnosed(tmp_path / "all", change, ranks=4)
    assert all(sum(length for _, length in one.waits_ns) < 0.02 * (one.cost_ns or 0)
               for one in named(everyone, "idle.checkpoint"))  # fmt: skip


def test_clocks_are_aligned_through_ranks_that_met_both() -> None:
    ends = [{0: 1000, 1: 1500}, {0: 3000, 1: 3500}, {1: 5500, 3: 7500}, {4: 10}]
    assert clock_offsets(ends, [0, 1, 3, 4]) == {0: 0, 1: 500, 3: 2500, 4: 0}


def test_communications_of_one_name_are_put_together_in_their_order(tmp_path: Path) -> None:
    found = diagnosed(tmp_path / "run", unchanged, ranks=3, steps=3)
    meetings = found.job.meetings
    assert len(meetings.all) == 3 * 4  # four buckets a step
    assert all(set(one.place) == {0, 1, 2} for one in meetings.all)
    assert meetings.residual_ns == 0


def test_the_path_of_a_real_job_adds_up_and_says_what_it_can_not_see(shared_data: Path) -> None:
    found = diagnose(memplan.open_profile(shared_data / "profiles/qwen3-0.6b-train-4rank"))
    path = found.job.path
    assert path is not None
    assert path.length_ns == pytest.approx(810_022_360, rel=0.001)  # step_trace_time.csv of rank 0
    composition = path.composition
    assert next(iter(composition)) == "bubble"
    assert composition[NOT_SEEN] > 0  # ranks without kernels lie on it
    assert found.job.meetings.residual_ns < 10_000
    for one in found.findings:
        if one.path_ns is not None and one.cost_ns is not None:
            assert 0 <= one.path_ns <= one.cost_ns + sum(length for _, length in one.waits_ns)
