"""Every tiling is legal and moves what it says, none is below the bound, the best and the front are what they claim."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.cost import machine
from memplan.cost.kernel_report import traffic_bound
from memplan.cost.products import MatmulProblem, Search, Tiling, search_tilings
from memplan.cost.products import given as with_tiling
from memplan.cost.products.tile_times import evaluate
from memplan.hardware import chip

B1 = machine(chip("910B1"))
PR = machine(chip("Ascend950PR_9589"))
sizes = st.integers(1, 3000)


def reference_traffic(problem: MatmulProblem, tiling: Tiling) -> float:
    """GM reads of one core, counted tile by tile."""
    total = 0.0
    for row in range(0, problem.m, tiling.m):
        m = min(tiling.m, problem.m - row)
        if tiling.resident == "A":
            total += m * problem.k * problem.a_bytes
        for column in range(0, problem.n, tiling.n):
            n = min(tiling.n, problem.n - column)
            total += 0 if tiling.resident == "A" else m * problem.k * problem.a_bytes
            total += 0 if tiling.resident == "B" else n * problem.k * problem.b_bytes
    if tiling.resident == "B":
        total += problem.b_total
    return total


@settings(max_examples=25)
@given(sizes, sizes, sizes)
def test_traffic_of_one_core_is_what_its_loops_load(m: int, n: int, k: int) -> None:
    problem = MatmulProblem(m=m, n=n, k=k)
    found = search_tilings(problem, B1, cores=1)
    for index in {0, len(found) // 2, found.best(), found.best("gm_bytes")}:
        tiling = found.tiling(index)
        if tiling.splits == 1:
            assert found.columns["gm_read"][index] == pytest.approx(reference_traffic(problem, tiling), rel=1e-9)


@settings(max_examples=25)
@given(sizes, sizes, sizes, st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.sampled_from([B1, PR]))
def test_every_tiling_fits_every_buffer(m: int, n: int, k: int, width: float, core: object) -> None:
    assert isinstance(core, type(B1))
    found = search_tilings(MatmulProblem(m=m, n=n, k=k, a_bytes=width, b_bytes=width), core)
    for name, room in (
        ("l1_bytes", core.l1),
        ("l0a_bytes", core.l0a),
        ("l0b_bytes", core.l0b),
        ("l0c_bytes", core.l0c),
    ):
        assert (found.columns[name] <= room).all()
    assert (found.columns["m"] % 16 == 0).all()
    assert (found.columns["n"] % 16 == 0).all()


@settings(max_examples=25)
@given(sizes, sizes, sizes)
def test_no_tiling_beats_the_bound_or_the_operands_themselves(m: int, n: int, k: int) -> None:
    problem = MatmulProblem(m=m, n=n, k=k)
    found = search_tilings(problem, B1, cores=1)
    assert found.columns["gm_bytes"].min() >= traffic_bound(problem, B1) * (1 - 1e-9)
    assert found.columns["gm_read"].min() >= problem.a_total + problem.b_total - 1e-6


def test_the_enumeration_is_complete() -> None:
    problem = MatmulProblem(m=96, n=64, k=128)
    found = search_tilings(problem, B1, cores=1)
    seen = {(t.m, t.n, t.resident) for t in map(found.tiling, range(len(found)))}
    assert seen == {(m, n, r) for m in range(16, 97, 16) for n in range(16, 65, 16) for r in ("none", "A", "B")}


def test_a_panel_in_l1_saves_re_reading_it() -> None:
    problem = MatmulProblem(m=1024, n=1024, k=1024)
    found = search_tilings(problem, B1, cores=1)
    best = found.best("gm_bytes")
    # 208 rows of A stay in L1: B is read ceil(1024 / 208) = 5 times.
    assert found.columns["gm_bytes"][best] / 2 == 1024 * 1024 * (1 + ceil(1024 / 208) + 1)
    assert found.tiling(best).resident != "none"


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    found = search_tilings(MatmulProblem(m=2048, n=1000, k=3000), B1)
    size = found.columns["l1_bytes"] + found.columns["l0c_bytes"]
    traffic = found.columns["gm_bytes"]
    for index in found.pareto():
        better = (size <= size[index]) & (traffic < traffic[index])
        assert not better.any()


def test_the_best_is_the_fastest_and_a_known_tiling_costs_the_same_as_in_the_search() -> None:
    found = search_tilings(MatmulProblem(m=4096, n=4096, k=4096), B1)
    best = found.best()
    assert found.columns["time"][best] == found.columns["time"].min()
    alone = with_tiling(found.problem, B1, found.tiling(best))
    for name, values in alone.columns.items():
        assert values[0] == pytest.approx(found.columns[name][best]), name


@pytest.mark.parametrize(("m", "n", "k", "run"), [(16, 5120, 1600, "nz"), (16, 3072, 1536, "nz"), (8, 5120, 2048, "k")])
def test_what_cores_take_to_start_spares_none_of_them(m: int, n: int, k: int, run: str) -> None:
    found = search_tilings(MatmulProblem(m=m, n=n, k=k, b_run=run), B1)
    best, chosen = found.best(), found.chosen(B1)
    assert found.columns["blocks"][chosen] > found.columns["blocks"][best]
    assert found.columns["time"][chosen] >= found.columns["time"][best]
    spared = found.columns["time"] - found.columns["starts"]
    assert spared[chosen] == spared.min()


def test_what_cores_take_to_start_is_weighed_where_the_library_is_another() -> None:
    older = machine(chip("910A"))
    found = search_tilings(MatmulProblem(m=16, n=5120, k=1600), older)
    assert found.chosen(older) == found.best()


def test_thin_products_split_their_depth_over_idle_cores() -> None:
    problem = MatmulProblem(m=64, n=64, k=65536)
    assert search_tilings(problem, B1).tiling(search_tilings(problem, B1).best()).splits > 1


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
@settings(max_examples=20)
def test_more_work_never_takes_less_time(m: int, n: int, k: int) -> None:
    def time(problem: MatmulProblem, tiling: Tiling) -> float:
        return float(with_tiling(problem, B1, tiling).columns["time"][0])

    tiling = Tiling(128, 256, 64, 256)
    one = MatmulProblem(m=m * 128, n=n * 256, k=k * 256)
    twice = MatmulProblem(m=m * 128, n=n * 256, k=k * 512)
    assert time(twice, tiling) > time(one, tiling)


def test_unaligned_rows_cost_more_than_aligned_ones() -> None:
    tiling = Tiling(128, 256, 64, 256)
    aligned = with_tiling(MatmulProblem(m=4096, n=4096, k=12288), B1, tiling)
    crooked = with_tiling(MatmulProblem(m=4096, n=4096, k=12287), B1, tiling)
    assert crooked.columns["mte2"][0] > 1.2 * aligned.columns["mte2"][0]


def test_candidates_are_evaluated_independently() -> None:
    problem = MatmulProblem(m=500, n=700, k=900)
    found = search_tilings(problem, B1)
    some = {
        name: found.columns[name][5:6]
        for name in ("m", "n", "k", "k_l1", "resident", "splits", "l0c_buffers", "l1_buffers")
    }
    again = evaluate(problem, B1, some, B1.cubes)
    assert all(np.allclose(again[name][0], found.columns[name][5]) for name in again)
    assert isinstance(found, Search)


def test_a_tile_that_fills_l0c_is_drained_before_the_next_one() -> None:
    """Shallow products of large tiles take what the cube and FixPipe take together, deep ones hide the latter."""
    shallow, deep = MatmulProblem(m=4096, n=4096, k=256), MatmulProblem(m=4096, n=4096, k=4096)
    for problem, exposed in ((shallow, 0.4), (deep, 0.0)):
        columns = with_tiling(problem, B1, Tiling(128, 256, 64, 256, l0c_buffers=1)).columns
        half = with_tiling(problem, B1, Tiling(128, 256, 64, 256, l0c_buffers=2)).columns
        assert columns["time"][0] >= columns["cube"][0] + columns["fixpipe"][0]
        assert columns["time"][0] - half["time"][0] >= exposed * columns["fixpipe"][0]
        newer = [
            with_tiling(problem, PR, Tiling(256, 256, 64, 256, l0c_buffers=buffers)).columns["time"][0]
            for buffers in (1, 2)
        ]
        assert newer[0] == newer[1], "FixPipe of 3510 takes what is summed while the cube goes on"
