"""What offset assignment promises: valid, bounded, explained, repeatable answers on files and by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from memplan.core.errors import CancelledError, InputError
from memplan.placement.offsets import Assignment, Buffer, Limits, Pool, Problem, assign, validate
from memplan.placement.offsets.bounds import lift
from memplan.placement.offsets.formats import read_problem
from memplan.placement.offsets.spill import CappedPacking
from memplan.placement.offsets.svg import to_svg

MIB = 1_048_576


def stack(*sizes: int, capacity: int | None = None) -> Problem:
    """Buffers that are all alive together."""
    return Problem(tuple(Buffer(i, size, ((0, 1),)) for i, size in enumerate(sizes)), (Pool(0, "HBM", capacity),))


def test_an_empty_problem_has_an_answer() -> None:
    answer = assign(Problem(()))
    assert answer.placed == {}
    assert answer.pools[0].peak == 0
    assert answer.proven_optimal


def test_lifetimes_are_half_open() -> None:
    answer = assign(Problem((Buffer(0, 10, ((0, 3),)), Buffer(1, 10, ((3, 5),)))))
    assert answer.pools[0].peak == 10


def test_the_bound_counts_alignment() -> None:
    problem = Problem(tuple(Buffer(i, 100, ((0, 1),), alignment=512) for i in range(3)))
    result = assign(problem).pools[0]
    assert (result.peak, result.lower_bound) == (1124, 1124)


@pytest.mark.parametrize(
    ("live", "reserved", "expected"), [(0, ((0, 4),), 0), (3, ((0, 4),), 7), (3, ((1, 2),), 4), (3, ((3, 9),), 3)]
)
def test_reserved_ranges_lift_the_bound(live: int, reserved: tuple[tuple[int, int], ...], expected: int) -> None:
    assert lift(live, reserved) == expected


def test_conflicts_replace_lifetimes() -> None:
    problem = replace(stack(5, 6, 7), conflicts=frozenset({(0, 1)}))
    assert assign(problem).pools[0].peak == 11


def test_a_contiguous_group_moves_as_one() -> None:
    buffers = (Buffer(0, 8, ((0, 2),)), Buffer(1, 8, ((1, 3),)), Buffer(2, 8, ((0, 3),)))
    answer = assign(Problem(buffers, contiguous=((0, 1),)))
    assert answer.placed[1][1] == answer.placed[0][1] + 8
    assert answer.pools[0].peak == 24


def test_reuse_is_paid_only_when_it_must_be() -> None:
    buffers = tuple(Buffer(i, 4, ((i, i + 1),)) for i in range(3))
    penalties = {(0, 1): 5, (1, 2): 1, (0, 2): 2}
    roomy = assign(Problem(buffers, (Pool(0, "UB", 12),), reuse_penalties=penalties))
    tight = assign(Problem(buffers, (Pool(0, "UB", 8),), reuse_penalties=penalties))
    assert (roomy.reuse_cost, roomy.reuse_cost_bound) == (0, 0)
    assert (tight.reuse_cost, tight.reuse_cost_bound) == (1, 1)


def test_the_answer_repeats() -> None:
    problem = stack(*range(1, 30))
    varied = Problem(tuple(replace(b, intervals=((b.id % 7, b.id % 7 + 3),)) for b in problem.buffers))
    assert assign(varied, seed=3) == assign(varied, seed=3)


def test_a_capacity_that_can_not_be_met_is_explained() -> None:
    buffers = (*stack(50, 40, 30, 1).buffers, Buffer(9, 99, ((5, 6),), name="late"))
    answer = assign(Problem(buffers, (Pool(0, "HBM", 100),)))
    why = answer.infeasibility
    assert not answer.within_capacity
    assert answer.shortfall == 21
    assert why is not None
    assert why.proven
    assert why.irreducible
    assert why.step == 0
    assert why.buffers == (0, 1, 2)
    assert why.needed == 120
    assert any("raise the capacity" in remedy for remedy in why.remedies)


def test_an_infeasible_set_without_a_common_step_is_irreducible() -> None:
    # Every pair excludes the next one only, in a ring of five: two colours do not do.
    ring = frozenset((i, (i + 1) % 5) if i < 4 else (0, 4) for i in range(5))
    problem = Problem(tuple(Buffer(i, 1, ((0, 1),)) for i in range(5)), (Pool(0, "L1", 2),), conflicts=ring)
    answer = assign(problem)
    assert answer.pools[0].peak == answer.pools[0].lower_bound == 3
    assert answer.infeasibility is not None
    assert set(answer.infeasibility.buffers) == set(range(5))
    assert answer.infeasibility.irreducible


@pytest.mark.parametrize(
    "problem",
    [
        Problem((Buffer(0, 1, ()), Buffer(0, 1, ()))),
        Problem((Buffer(0, -1, ()),)),
        Problem((Buffer(0, 1, ((2, 1),)),)),
        Problem((Buffer(0, 1, (), pools=(7,)),)),
        Problem((Buffer(0, 1, (), alignment=4, pin=(0, 2)),)),
        Problem((Buffer(0, 1, ()),), separations=((0, 5),)),
        Problem((Buffer(0, 2, ()), Buffer(1, 2, ())), colocations=((0, 1),), contiguous=((0, 1),)),
        Problem((Buffer(0, 2, ((0, 1),), pin=(0, 0)), Buffer(1, 2, ((0, 1),), pin=(0, 1)))),
        Problem((Buffer(0, 2, ()), Buffer(1, 2, ())), colocations=((0, 1),), separations=((0, 1),)),
    ],
)
def test_contradictions_are_refused(problem: Problem) -> None:
    with pytest.raises(InputError):
        assign(problem)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({0: (0, 0), 1: (0, 4)}, "overlap"),
        ({0: (0, 0), 1: (0, 9)}, "alignment"),
        ({0: (0, 0)}, "complete"),
        ({0: (0, 0), 1: (1, 8)}, "pools"),
        ({0: (0, 0), 1: (0, 16)}, "peak"),
    ],
)
def test_the_validator_sees_every_fault(change: dict[int, tuple[int, int]], rule: str) -> None:
    problem = Problem((Buffer(0, 8, ((0, 2),)), Buffer(1, 8, ((1, 3),), alignment=4)))
    good = assign(problem)
    assert validate(problem, good) == ()
    bad = replace(good, placed=change)
    found = {violation.rule for violation in validate(problem, bad)}
    assert rule in found


def test_csv_with_every_column(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("id,lower,upper,size,alignment,hint,gaps\na,0,10,8,4,-1,2-4 6-8@2:5\nb,2,4,8,1,0,\nc,6,8,5,1,-1,\n")
    problem = read_problem(path, capacity=16)
    answer = assign(problem)
    assert validate(problem, answer) == ()
    by_name = {b.name: answer.placed[b.id][1] for b in problem.buffers}
    assert answer.pools[0].peak <= 10
    assert by_name["c"] + 5 <= by_name["a"] + 2 or by_name["c"] >= by_name["a"] + 5


def test_structured_problems_say_pools_pins_and_rules(tmp_path: Path) -> None:
    spans = [(0, 4), (2, 6), (2, 6), (8, 9)]
    buffers = [
        {"id": number, "name": f"b{number}", "size": 64, "alignment": 32, "allowed_pools": [int(number == 2)],
         "live_intervals": [{"lower": lower, "upper": upper}]}
        for number, (lower, upper) in enumerate(spans)
    ]  # fmt: skip
    rules = {"pinned_allocations": [{"buffer": 0, "pool": 0, "offset": 32, "exclusive_for_all_time": True}],
             "separations": [], "colocations": [{"first": 1, "second": 3}], "temporal_exclusions": []}  # fmt: skip
    pools = [
        {"id": 0, "name": "UB", "capacity": 192, "reserved_ranges": [{"begin": 0, "end": 32}]},
        {"id": 1, "name": "L1"},
    ]
    document = {"schema_version": 1, "problem": {"pools": pools, "buffers": buffers, "constraints": rules}}
    path = tmp_path / "onchip.json"
    path.write_text(json.dumps(document))
    problem = read_problem(path, capacities={"L1": 64})
    answer = assign(problem)
    assert validate(problem, answer) == ()
    assert answer.within_capacity
    assert answer.placed == {0: (0, 32), 1: (0, 96), 2: (1, 0), 3: (0, 96)}


def test_old_csv_headers_have_inclusive_ends(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("buffer,start,end,size\n0,0,3,5\n1,3,4,5\n")
    assert assign(read_problem(path)).pools[0].peak == 10


@pytest.mark.parametrize(
    "text",
    ["", "id,lower,upper\n1,2,3\n", "id,lower,upper,size\n1,2,3\n", "id,lower,upper,size\n1,5,3,1\n",
     "id,lower,upper,size\n1,0,3,x\n", "id,lower,upper,size\n1,0,3,1\n1,0,3,1\n", "{", '{"schema_version": 2}',
     '{"schema_version": 1, "problem": {}}', '{"schema_version": 1, "problem": {"pools": 3}}',
     "id,lower,upper,size,gaps\n1,0,9,1,5\n", '{"schema_version": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_problem(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_search_can_be_stopped() -> None:
    def stop(done: int, total: int, what: str) -> None:
        raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        assign(stack(1, 2, 3), progress=stop)


def test_a_drawing_names_every_buffer() -> None:
    problem = stack(3, 4)
    text = to_svg(problem, assign(problem))
    assert text.startswith("<svg")
    assert text.count("<title>") == 2


def test_the_command_packs_and_says_no(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,lower,upper,size\nx,0,2,60\ny,1,3,50\n")
    command = [sys.executable, "-c", "from memplan.cli import main; raise SystemExit(main())", "pack", str(path)]
    run = subprocess.run([*command, "--capacity", "100", "--json"], capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert json.loads(run.stdout)["infeasibility"]["names"] == ["x", "y"]


@pytest.mark.parametrize("seed", range(5))
def test_all_but_what_is_left_out_lies_below_the_capacity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, steps, capacity = 40, 30, 4096
    start, size = rng.integers(0, steps - 1, count), rng.integers(0, 10, count) * 64
    end = start + rng.integers(1, steps, count)
    fixed = np.full(count, -1)
    fixed[0], size[0] = 512, 64
    packing = CappedPacking(size, start, end, fixed, capacity, 64)
    found = packing.again(packing.greedy())
    live = [int(size[(start <= t) & (t < end)].sum()) for t in range(2 * steps)]
    assert found.offsets[0] == 512
    assert found.lost == int((size * (end - start))[found.out].sum())
    assert found.lost > 0 or max(live) <= capacity
    assert (found.offsets + size <= capacity)[~found.out].all()
    assert not (found.offsets % 64).any()
    for i, j in combinations(np.flatnonzero(size > 0).tolist(), 2):
        together = start[i] < end[j] and start[j] < end[i]
        apart = found.offsets[i] + size[i] <= found.offsets[j] or found.offsets[j] + size[j] <= found.offsets[i]
        assert apart or not together


def test_importing_the_problem_does_not_import_the_compiler() -> None:
    code = "import sys, memplan.placement.offsets.problem; raise SystemExit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", "BCEFGHIK")
def test_published_instances_fit(shared_data: Path, name: str) -> None:
    problem = read_problem(shared_data / f"dsa/minimalloc/{name}.1048576.csv", capacity=MIB)
    answer = assign(replace(problem, objective=("capacity_overflow",)), limits=Limits(work=1_000_000_000))
    assert answer.within_capacity
    assert validate(problem, answer) == ()


@pytest.mark.parametrize("name", "DJ")
def test_the_search_goes_below_the_published_capacity(shared_data: Path, name: str) -> None:
    problem = read_problem(shared_data / f"dsa/minimalloc/{name}.1048576.csv", capacity=1_039_360)
    answer = assign(replace(problem, objective=("capacity_overflow",)), limits=Limits(work=1_000_000_000))
    assert answer.within_capacity
    assert answer.pools[0].peak <= 1_039_360


@pytest.mark.parametrize("name", ["somas_tensors/resnet50", "iopddl/G_1"])
def test_real_graphs_reach_their_bound(shared_data: Path, name: str) -> None:
    answer = assign(read_problem(shared_data / f"dsa/idealloc/{name}.csv"))
    assert answer.proven_optimal


def test_onchip_problems_are_valid_and_bounded(shared_data: Path) -> None:
    paths = sorted((shared_data / "dsa/onchip").glob("p*/**/*.json"))[::29]
    assert paths
    for path in paths:
        problem = read_problem(path)
        answer: Assignment = assign(problem)
        assert validate(problem, answer) == ()
        assert answer.within_capacity or (answer.infeasibility is not None and answer.infeasibility.proven)
