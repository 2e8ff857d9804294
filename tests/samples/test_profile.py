"""The bundled profile is what the simulator makes of the bundled plan, and says that it is simulated."""

from __future__ import annotations

import filecmp
import hashlib
from pathlib import Path

import pytest

import memplan
from memplan.compare import compare
from memplan.schema import load_plan
from memplan.simulator import Behaviour, simulate

SAMPLES = Path(memplan.__file__).parent / "samples"
PLAN = SAMPLES / "llama_train.plan.json"
PROFILE = SAMPLES / "llama_train_profile"


def test_the_simulator_writes_the_bundled_profile_again_byte_for_byte(tmp_path: Path) -> None:
    """If this fails after a change of the simulator or the graph: `make samples`."""
    simulate(load_plan(PLAN), tmp_path / PROFILE.name, seed=12)
    made, bundled = (
        sorted(path.relative_to(top) for path in top.rglob("*") if path.is_file())
        for top in (tmp_path / PROFILE.name, PROFILE)
    )
    assert made == bundled
    names = [str(path) for path in made]
    _, different, broken = filecmp.cmpfiles(tmp_path / PROFILE.name, PROFILE, names, shallow=False)
    assert (different, broken) == ([], [])


def test_the_bundled_plan_is_of_the_bundled_graph() -> None:
    """If this fails after a change of the graph: `make samples`."""
    graph = SAMPLES / "llama_train.mindir"
    assert load_plan(PLAN).origin.sha256 == hashlib.sha256(graph.read_bytes()).hexdigest()


def test_the_bundled_profile_is_small_and_marked() -> None:
    sizes = [path.stat().st_size for path in PROFILE.rglob("*") if path.is_file()]
    assert max(sizes) < 512_000
    assert sum(sizes) < 1_000_000
    assert memplan.open_profile(PROFILE).simulated


def test_a_plan_made_today_is_found_in_the_bundled_profile_op_by_op() -> None:
    plan = memplan.plan(SAMPLES / "llama_train.mindir", chip="910B3")
    result = compare(plan, memplan.open_profile(PROFILE))
    assert result.summary.matched_by_name == result.summary.planned_ops > 300
    assert result.summary.measured_coverage == 1.0
    assert result.unmatched_kernels == ()


@pytest.mark.parametrize(("hbm", "quick"), [(None, False), (4_000_000, True), (2_600_000, False)])
def test_a_plan_run_exactly_deviates_nowhere_moves_and_stalls_included(
    tmp_path: Path, hbm: int | None, quick: bool
) -> None:
    """Of the first plan that fits and of the one that a search for a shorter step ends with."""
    plan = memplan.plan(SAMPLES / "llama_train.mindir", chip="910B3", hbm=hbm, quick=quick)
    assert bool(plan.transfers) == (hbm is not None)
    profile = memplan.open_profile(simulate(plan, tmp_path / "run", behaviour=Behaviour.exact()))
    result = compare(plan, profile)
    assert result.deviations == ()
    assert not result.deviates
    assert result.summary.measured_makespan_ns == result.summary.planned_makespan_ns
