"""The same questions of other runs: real ones of several frameworks, and simulated ones whose answer is planted."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

import memplan
from memplan.core.units import format_bytes, format_duration
from memplan.gui.model.session.session import OpRef, SpansRef
from memplan.gui.views.cluster.cluster_view import ClusterView
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Tier, load_plan
from memplan.simulator import Behaviour, chosen_fault, simulate, simulate_job
from memplan.traces import open_profile
from tests.gui.conftest import PLAN
from tests.gui.hands import Hands

pytestmark = pytest.mark.gui


def told_by_the_vendor(folder: Path) -> tuple[float, float]:
    """Exposed communication and idle time as shares of the steps, from the `step_trace_time.csv` below `folder`."""
    with next(folder.rglob("step_trace_time.csv")).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    exposed, idle = (sum(float(row[name]) for row in rows) for name in ("Communication(Not Overlapped)", "Free"))
    whole = exposed + idle + sum(float(row["Computing"]) for row in rows)
    return exposed / whole * 100, idle / whole * 100


@pytest.mark.parametrize(
    ("profile", "rank"),
    [
        ("alexnet-ddp-2rank/text/level2", ""),
        ("gpt3-2023-handcut", "test_rank_0"),
        ("qwen3-0.6b-train-4rank", "rank_0_ascend_pt"),
    ],
)
def test_where_the_time_goes_is_what_the_vendor_says(
    profile: str,
    rank: str,
    hands: Hands,
    shared_data: Path,
) -> None:
    folder = shared_data / "profiles" / profile
    hands.drop(folder)
    shown = hands.window.session.document.rank
    assert shown is not None
    found = [path for path in sorted(folder.rglob("step_trace_time.csv")) if not rank or rank in str(path)]
    exposed, idle = told_by_the_vendor(found[0].parent)
    figures = hands.figures()
    assert float(figures["Exposed communication"][0].rstrip("%").lstrip("<")) == pytest.approx(exposed, abs=3)
    assert float(figures["Idle"][0].rstrip("%").lstrip("<")) == pytest.approx(idle, abs=3)
    assert hands.actions == 1


def test_where_the_time_of_a_run_without_a_table_of_steps_goes(hands: Hands, shared_data: Path) -> None:
    hands.drop(shared_data / "profiles" / "mindspore-alexnet-2023")
    assert hands.figures()["Step time"][1] == "median of 10 steps"
    assert "idles" in hands.findings()[0]
    assert hands.actions == 1


@pytest.mark.parametrize(
    "source",
    ["profiles/alexnet-ddp-2rank/text/level2", "profiles/gpt3-2023-handcut", "snapshots/snapshot_with_empty_cache.pkl"],
)
def test_what_makes_the_peak_of_other_runs(source: str, hands: Hands, shared_data: Path) -> None:
    hands.drop(shared_data / source)
    hands.tile("Memory peak")
    session = hands.window.session
    assert hands.window.pages.current == "memory"
    assert session.blocks is not None
    blocks = session.blocks
    alive = (blocks.start_ns <= blocks.peak_ns) & (blocks.peak_ns < blocks.end_ns)
    held = format_bytes(int((blocks.high - blocks.low)[alive].sum()))
    assert f"The peak is {held}" in hands.details() or f"Why PTA peaks\nheld\n{held}" in hands.details()
    assert hands.actions == 2


def test_a_snapshot_among_others_is_the_one_that_is_shown(hands: Hands, shared_data: Path) -> None:
    """Went wrong once: whichever was dropped, the first one of its folder was shown."""
    for path in sorted((shared_data / "snapshots").glob("*.pkl")):
        hands.actions = 0
        hands.drop(path)
        hands.tile("Memory peak")
        rank = open_profile(path).rank(0)
        curve = next(curve for name in rank.memory_components() if (curve := rank.memory(name)) is not None)
        blocks, shown = hands.window.session.blocks, hands.window.session.document.profile
        assert shown is not None
        assert shown.path == path
        assert blocks is not None
        assert curve.allocated is not None
        alive = (blocks.start_ns <= blocks.peak_ns) & (blocks.peak_ns < blocks.end_ns)
        assert int((blocks.high - blocks.low)[alive].sum()) == pytest.approx(int(curve.allocated.max()), rel=1e-3)
        assert hands.actions == 2


@pytest.mark.parametrize(("ranks", "seed"), [(3, 11), (5, 12), (8, 13)])
def test_a_slow_rank_that_was_planted_is_named(
    ranks: int,
    seed: int,
    hands: Hands,
    tmp_path: Path,
) -> None:
    plan = load_plan(PLAN)
    hands.drop(simulate_job(plan, tmp_path / "job", fault=chosen_fault("slow-rank"), ranks=ranks, steps=2, seed=seed))
    hands.click(hands.window.rail.buttons["cluster"])
    view = hands.window.docks.view(ClusterView)
    assert view.verdict.text().startswith("Rank 1 is slow")
    assert hands.actions == 2


@pytest.mark.parametrize("seed", [21, 22])
def test_what_deviates_most_in_other_runs(seed: int, hands: Hands, tmp_path: Path) -> None:
    plan = load_plan(PLAN)
    run = simulate(plan, tmp_path / "run", behaviour=Behaviour(), seed=seed)
    hands.drop(PLAN, run)
    hands.key("costliest")
    session = hands.window.session
    found = session.document.comparison
    assert found is not None
    dearest = max(found.deviations, key=lambda one: one.cost)
    assert isinstance(session.selected, SpansRef if dearest.op is None else OpRef)
    if isinstance(session.selected, OpRef):
        assert session.selected.op == dearest.op
    assert hands.window.pages.current == "plan"
    assert hands.actions == 2


@pytest.mark.parametrize("profile", ["alexnet-ddp-2rank/text/level2", "gpt3-2023-handcut"])
def test_what_is_outside_the_allocator_of_other_runs(
    profile: str,
    hands: Hands,
    shared_data: Path,
) -> None:
    hands.drop(shared_data / "profiles" / profile)
    row = next(row for row, text in enumerate(hands.findings()) if "outside of the allocator" in text)
    table = hands.window.docks.view(OverviewView).findings
    table.table.scrollTo(table.sorted.index(row, 0))
    hands.click(table.table.viewport(), table.table.visualRect(table.sorted.index(row, 0)).center())
    assert "outside of the allocator" in hands.details()
    assert hands.actions == 2


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The plan of a step of a mixture of experts, and the profile of its job on eight ranks: rank 1 is slow."""
    folder = tmp_path_factory.mktemp("experts")
    config = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "hidden_size": 768, "vocab_size": 8000}
    config |= {"num_hidden_layers": 3, "num_attention_heads": 12, "num_key_value_heads": 4, "intermediate_size": 1536}
    config |= {"num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 4096}
    config |= {"torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    layout, recipe = Layout(data=8, expert=8), Recipe(512, 1, 1)
    step = memplan.plan(load_config(folder / "config.json"), chip="910B3", phase="train", layout=layout, recipe=recipe)
    step.save(folder / "experts.plan.json")
    fault = chosen_fault("slow-rank")
    job = simulate_job(step, folder / "job", fault=fault, ranks=8, steps=2, seed=31, layout="expert")
    return folder / "experts.plan.json", job


def test_the_time_of_a_mixture_of_experts_is_what_the_vendor_says(experts: tuple[Path, Path], hands: Hands) -> None:
    hands.drop(*experts)
    rank = hands.window.session.document.rank
    assert rank is not None
    tables = {path: path.parent for path in sorted(experts[1].rglob("step_trace_time.csv"))}
    assert len(tables) == 8
    exposed, idle = told_by_the_vendor(list(tables.values())[rank.rank])
    figures = hands.figures()
    assert float(figures["Exposed communication"][0].rstrip("%")) == pytest.approx(exposed, abs=1)
    assert float(figures["Idle"][0].rstrip("%")) == pytest.approx(idle, abs=1)
    assert hands.findings()[0].startswith("Rank 1 computes")
    assert hands.actions == 1


def test_the_peak_of_a_mixture_of_experts_is_explained(experts: tuple[Path, Path], hands: Hands) -> None:
    hands.drop(*experts)
    hands.tile("Memory peak")
    tier = load_plan(experts[0]).tier(Tier.HBM)
    assert tier is not None
    assert f"Why HBM peaks\nalive\n{format_bytes(tier.peak)}" in hands.details()
    assert hands.actions == 2


def test_the_slow_rank_of_a_mixture_of_experts_is_named(experts: tuple[Path, Path], hands: Hands) -> None:
    hands.drop(*experts)
    hands.click(hands.window.rail.buttons["cluster"])
    assert hands.window.docks.view(ClusterView).verdict.text().startswith("Rank 1 is slow")
    assert hands.actions == 2


def test_what_deviates_most_in_a_mixture_of_experts(experts: tuple[Path, Path], hands: Hands) -> None:
    hands.drop(*experts)
    hands.key("costliest")
    session = hands.window.session
    found = session.document.comparison
    assert found is not None
    dearest = max(found.deviations, key=lambda one: one.cost)
    assert isinstance(session.selected, SpansRef if dearest.op is None else OpRef)
    assert hands.window.pages.current == "plan"
    assert hands.actions == 2


def test_where_the_time_of_a_plan_alone_goes(hands: Hands) -> None:
    hands.drop(PLAN)
    plan = load_plan(PLAN)
    spent: Counter[str] = Counter()
    for op in plan.ops:
        spent[op.type] += op.duration_ns if op.launches else 0
    assert hands.figures()["Step time"] == (format_duration(738_567), "as planned")
    types = hands.window.docks.view(OverviewView).types
    assert types.row_at(types.sorted.index(0, 0)).cells[0] == spent.most_common(1)[0][0]
    assert hands.actions == 1
