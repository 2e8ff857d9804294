"""What the busiest rank of an expert-parallel group gets, and which experts get any rows, if nobody balanced them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memplan.core.resources import table
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.routing import _told, busiest_rank, share_hit
from memplan.models.steps import Phase, ServedStep, step_graph

_PUBLISHED = 2.564
"""Times the mean of 1,024 rows that the busiest of 32 ranks of eight experts gets: DeepSeek-R1, TensorRT-LLM."""


_POPULARITY_VARIANCE = 2.49
"""Of how often an expert is chosen, by its mean squared: that of the published run."""


def drawn(ranks: int, experts: int, rows: int, *, steps: int = 400) -> tuple[float, float]:
    """Of log-normal popularities, drawn: times the mean that the busiest rank gets, share of experts with a row."""
    draw = np.random.default_rng(11)
    busiest, hit = [], []
    for _ in range(steps):
        popular = draw.lognormal(sigma=np.sqrt(np.log1p(_POPULARITY_VARIANCE)), size=ranks * experts)
        got = draw.multinomial(rows * ranks, popular / popular.sum())
        busiest.append(got.reshape(ranks, experts).sum(axis=1).max() / rows)
        hit.append((got > 0).mean())
    return float(np.mean(busiest)), float(np.mean(hit))


def test_the_published_run_is_met() -> None:
    assert busiest_rank(32, 8, 1024) == pytest.approx(_PUBLISHED, rel=0.02)


def test_models_tell_the_widths_with_which_their_figures_are_met() -> None:
    """Shares drawn with a width that a figure tells have that figure again."""
    draw = np.random.default_rng(5)
    told = table("memplan.models", "routing.json")["models"]
    assert len(told) >= 4
    for figure in (item for items in told.values() for item in items):
        if "max_over_mean" in figure:
            continue
        share = draw.lognormal(sigma=np.sqrt(np.log1p(_told(figure))), size=(200, 4096))
        share /= share.sum(axis=1, keepdims=True)
        if "busier_half" in figure:
            found = np.sort(share, axis=1)[:, 2048:].sum(axis=1).mean()
            assert found == pytest.approx(figure["busier_half"], abs=0.01)
        else:
            lacking = np.log(4096) + (share * np.log(share)).sum(axis=1).mean()
            assert lacking / np.log(figure["experts"]) == pytest.approx(figure["missing_entropy"], abs=0.01)


@pytest.mark.parametrize(("ranks", "experts", "rows"), [(4, 32, 64), (16, 8, 512), (16, 16, 64), (32, 8, 16)])
def test_the_busiest_rank_and_the_experts_hit_are_as_drawn(ranks: int, experts: int, rows: int) -> None:
    busiest, hit = drawn(ranks, experts, rows)
    assert busiest_rank(ranks, experts, rows) == pytest.approx(busiest, rel=0.16)
    assert share_hit(1 / (ranks * experts), rows * ranks) == pytest.approx(hit, rel=0.08)


def test_one_rank_and_no_rows_are_even() -> None:
    assert busiest_rank(1, 8, 100) == 1
    assert busiest_rank(8, 8, 0) == 1
    assert busiest_rank(2, 1, 0.01) <= 2
    assert share_hit(0.1, 0) == share_hit(0, 10) == 0
    assert share_hit(0.1, 10**6) == pytest.approx(1)


@pytest.mark.parametrize(("chosen", "experts"), [(8, 128), (8, 256), (10, 512)])
def test_one_token_hits_as_many_experts_as_it_chooses(chosen: int, experts: int) -> None:
    """Went wrong once: as if it could choose one twice, so that a sequence alone read the weights of seven of eight."""
    assert experts * share_hit(chosen / experts, 1) == pytest.approx(chosen, rel=0.02)


def test_more_ranks_and_fewer_experts_each_are_less_even() -> None:
    assert busiest_rank(8, 32, 256) < busiest_rank(16, 16, 256) < busiest_rank(32, 8, 256) < busiest_rank(64, 4, 256)


def rows_of(model: ModelConfig, layout: Layout, step: ServedStep) -> tuple[int, int]:
    """Rows that a rank gets for its experts, and tokens that it sends."""
    graph = step_graph(model, layout, step)
    dispatch = next(op for op in graph.ops if op.type == "MoeDistributeDispatch")
    return graph.tensors[dispatch.outputs[0]].shape[0], graph.tensors[dispatch.inputs[0]].shape[0]


def test_a_step_waits_for_the_rank_with_most_rows(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-R1.json")
    layout, step = Layout(data=32, expert=32), ServedStep(Phase.DECODE, 32 * 128, 4096)
    even, sent = rows_of(model, layout, replace(step, even_routing=True))
    most, as_many = rows_of(model, layout, step)
    assert (even, sent, as_many) == (1024, 128, 128)
    assert most == pytest.approx(_PUBLISHED * even, rel=0.02)


def test_ranks_beyond_the_experts_hold_copies_and_are_even(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-R1.json")
    step = ServedStep(Phase.DECODE, 288 * 4, 4096)
    assert rows_of(model, Layout(data=288, expert=288), step) == (32, 4)


def test_every_drafts_state_is_written(shared_data: Path) -> None:
    """A recurrence reads one state of a sequence and writes as many as tokens are verified."""
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-Next-80B-A3B-Instruct.json")
    for drafts in (0, 1, 3):
        graph = step_graph(model, Layout(), ServedStep(Phase.DECODE, 4, 256, speculative=drafts))
        op = next(op for op in graph.ops if op.type == "RecurrentGatedDeltaRule")
        read, written = (graph.tensors[index].nbytes for index in (op.inputs[3], op.outputs[1]))
        assert written == (1 + drafts) * read
