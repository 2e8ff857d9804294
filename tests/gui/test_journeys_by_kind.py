"""
The questions of the journeys, asked of every kind of document: how many actions lead to the answer.

Where a kind can't answer, the window does not offer to: there is no such figure, page or command.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from PySide6.QtWidgets import QTabBar

import memplan
from benchmarks.findings_fresh import as_left_by
from memplan.gui.views.cluster.cluster_view import ClusterView
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.memory.process_view import ProcessView
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.hardware import chip
from memplan.hardware.host import host_tier
from memplan.models import load_config
from memplan.models.training.step_recipe import Recipe
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.schema import Plan, Tier, load_plan
from memplan.simulator import Behaviour, chosen_fault, simulate, simulate_job
from tests.gui.conftest import SAMPLES
from tests.gui.hands import Hands

pytestmark = pytest.mark.gui

QUESTIONS = ("time", "peak", "outside", "slow rank", "deviates")
"""Where the time goes, what makes the peak, what is outside the allocator, which rank is slow, what deviates most."""

ACTIONS: dict[str, tuple[int | None, ...]] = {
    "a plan": (1, 2, None, None, 2),
    "a profile of torch_npu": (1, 2, 2, None, None),
    "a profile of torch_npu with its plan": (1, 2, 2, None, 2),
    "a profile of MindSpore": (1, None, None, None, None),
    "a profile of several ranks": (1, 2, 3, 2, None),
    "several ranks with their plan": (1, 2, 3, 2, 2),
    "a snapshot of an allocator": (None, 2, None, None, None),
    "a plan with moves to the host": (1, 2, None, None, 2),
    "ranks of MindSpore 2.10": (1, 2, 3, 2, None),
    "ranks of MindSpore 2.10 with their plan": (1, 2, 3, 2, 2),
}
"""
Actions from opening to the answer, the opening counted; `None` where the document does not tell.

What is outside the allocator is a finding where it is much, and a sentence of the memory page where it is little.
"""


def snapshot() -> dict[str, object]:
    """Blocks of three layers that come and go, as `torch_npu.npu.memory._snapshot` gives them."""
    events: list[dict[str, object]] = []
    frames = [[{"name": f"layer{i}", "filename": "model.py", "line": 10 * i}] for i in range(3)]
    for i in range(60):
        block = {"addr": 4096 + (i % 20) * (1 << 20), "size": 512 * (1 + i % 7), "stream": 0, "frames": frames[i % 3]}
        events.append({"action": "alloc", "time_us": 1_700_000_000_000_000 + 10 * i, **block})
        if i % 3 != 1:
            events.append({"action": "free_completed", "time_us": 1_700_000_000_000_007 + 10 * i, **block})
    return {"segments": [], "device_traces": [events], "allocator_settings": {}}


def trained(folder: Path) -> Plan:
    """A training step of a small decoder in less memory than it needs: some of what it keeps moves to the host."""
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024, "head_dim": 128}
    config |= {"num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 3072}
    config |= {"vocab_size": 32_000, "max_position_embeddings": 4096, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model, recipe = load_config(folder / "config.json"), Recipe(1024, 1, 1)
    whole = memplan.plan(model, chip="910B4", phase="train", recipe=recipe)
    tier = whole.tier(Tier.HBM)
    assert tier is not None
    step = memplan.plan(
        model,
        chip="910B4",
        phase="train",
        recipe=recipe,
        hbm=tier.peak * 7 // 8,
        host=host_tier(chip("910B4")),
        recompute=RecomputePolicy.NEVER,
    )
    assert step.transfers
    return step


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    """The files of each kind that can be made here."""
    folder = tmp_path_factory.mktemp("kinds")
    plan = folder / "cnn.plan.json"
    memplan.plan(SAMPLES / "cnn.mindir", chip="910B2").save(plan)
    run = simulate(load_plan(plan), folder / "run", behaviour=Behaviour(), seed=41)
    job = simulate_job(load_plan(plan), folder / "job", fault=chosen_fault("slow-rank"), ranks=4, steps=2, seed=42)
    (folder / "history.pkl").write_bytes(pickle.dumps(snapshot()))
    moving = folder / "moving.plan.json"
    step = trained(folder)
    step.save(moving)
    fault = chosen_fault("slow-rank:strong")
    simulate_job(step, folder / "mindspore", fault=fault, ranks=3, steps=2, seed=43)
    as_left_by(folder / "mindspore", "mindspore")
    return {
        "a plan": (plan,),
        "a profile of torch_npu": (run,),
        "a profile of torch_npu with its plan": (plan, run),
        "a profile of several ranks": (job,),
        "several ranks with their plan": (plan, job),
        "a snapshot of an allocator": (folder / "history.pkl",),
        "a plan with moves to the host": (moving,),
        "ranks of MindSpore 2.10": (folder / "mindspore",),
        "ranks of MindSpore 2.10 with their plan": (moving, folder / "mindspore"),
    }


def ask(hands: Hands, question: str) -> bool:
    """Do what a user does to get the answer; false where the window offers no way to it."""
    window = hands.window
    if question == "time":
        return "Step time" in hands.figures() and (
            bool(hands.findings()) or window.docks.view(OverviewView).types.sorted.rowCount() > 0
        )
    if question == "peak":
        if "Memory peak" not in hands.figures():
            return False
        hands.tile("Memory peak")
        return window.pages.current == "memory" and any(word in hands.details() for word in ("Why ", "The peak is"))
    if question == "outside":
        stack = window.session.curves.process
        if stack is None:
            return False
        rows = [row for row, text in enumerate(hands.findings()) if "outside of the allocator" in text]
        if rows:
            table = window.docks.view(OverviewView).findings
            table.table.scrollTo(table.sorted.index(rows[0], 0))
            hands.click(table.table.viewport(), table.table.visualRect(table.sorted.index(rows[0], 0)).center())
            return window.pages.current == "memory" and "outside of the allocator" in hands.details()
        hands.click(window.rail.buttons["memory"])
        # Qt keeps bars of tabs it no longer needs below what is shown.
        bars = [bar for bar in window.findChildren(QTabBar) if not bar.visibleRegion().isEmpty()]
        tabs = ((bar, tab) for bar in bars for tab in range(bar.count()) if bar.tabText(tab) == "Process to allocator")
        bar, tab = next(tabs)
        hands.click(bar, bar.tabRect(tab).center())
        areas = window.docks.view(ProcessView)
        return not areas.visibleRegion().isEmpty() and "outside of" in str(stack.told)
    if question == "slow rank":
        if not window.rail.buttons["cluster"].isVisible():
            return False
        hands.click(window.rail.buttons["cluster"])
        return window.docks.view(ClusterView).verdict.text().startswith("Rank 1 is slow")
    if not window.rail.buttons["plan"].isVisible() or window.session.document.plan is None:
        return False
    hands.key("costliest")
    view = window.docks.view(DeviationsView)
    return window.pages.current == "plan" and view.isVisible() and window.session.selected is not None


@pytest.mark.parametrize("kind", list(ACTIONS))
@pytest.mark.parametrize("question", QUESTIONS)
def test_few_actions_lead_to_the_answer(
    kind: str, question: str, documents: dict[str, tuple[Path, ...]], hands: Hands, request: pytest.FixtureRequest
) -> None:
    paths = documents.get(kind)
    if paths is None:
        paths = (request.getfixturevalue("shared_data") / "profiles" / "mindspore-alexnet-2023",)
    hands.drop(*paths)
    expected = ACTIONS[kind][QUESTIONS.index(question)]
    assert ask(hands, question) == (expected is not None)
    assert hands.actions == (expected or 1)


def test_the_questions_take_three_actions_at_most() -> None:
    assert max(actions or 0 for row in ACTIONS.values() for actions in row) <= 3
