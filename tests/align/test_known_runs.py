"""Runs whose truth is known and whose names are hidden: MindSpore's, PyTorch's, and a real profile told by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.align import align
from tests.align.alexnet_run import alexnet_kernels, alexnet_outcome, alexnet_plan
from tests.align.known_runs import aligned, recorded_run
from tests.align.mindspore_runs import SAMPLES_RUN, mindspore_run
from tests.align.torch_configs import RUNS
from tests.align.torch_runs import record

LIVE_RUNS = [
    # Kernels of a few microseconds each: on a busy machine the times of training steps, and with them the share, waver.
    pytest.param(name, marks=pytest.mark.slow) if name in ("mlp_train", "llama_train") else name
    for name in SAMPLES_RUN
]


@pytest.mark.mindspore
@pytest.mark.parametrize("name", LIVE_RUNS)
def test_a_run_of_a_mindir_is_matched_with_its_plan(name: str, tmp_path: Path) -> None:
    """The least that a busy machine leaves; benchmarks/alignment.md has the figures of a quiet one."""
    pytest.importorskip("mindspore")
    found = aligned(mindspore_run(name, tmp_path))
    assert found.time_right >= (0.93 if name.endswith("_train") else 0.95)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("llama", 0.97), ("moe", 0.97), ("llama_grouped", 0.97), ("moe_top4", 0.965), ("mixtral", 0.97),
        ("moe_top2_16", 0.97), ("moe_hits", 0.97), ("deepseek", 0.97), ("moe_prefill", 0.97), ("moe_24", 0.97),
        ("moe_mixed", 0.97), ("gpt2", 0.97), ("cohere", 0.97), ("gpt_neox", 0.97), ("qwen2_again", 0.97),
        ("sample_1000", 0.97),
    ],
)  # fmt: skip
def test_a_run_in_pytorch_is_matched_with_the_plan_of_its_config(name: str, least: float, tmp_path: Path) -> None:
    """Norms, rotary embeddings, routing and the optimiser written out; weights apart that the plan has as one."""
    run = recorded_run(name, tmp_path)
    assert len(run.kernels) > 800
    assert aligned(run).time_right >= least


def test_kernels_of_a_recorded_run_have_no_names(tmp_path: Path) -> None:
    run = recorded_run("llama", tmp_path)
    assert set(run.kernels.name) == {""}
    assert {name for truth in run.truth for name in truth if not name.startswith("-")} > {
        "micro_batch.0.layers.0.o_proj.dw", "micro_batch.1.lm_head", "layers.3.down_proj.adam",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_new_run_in_pytorch_is_recorded(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    record(RUNS[name], tmp_path / "run.csv.gz")
    assert aligned(recorded_run(name, tmp_path, tmp_path / "run.csv.gz")).time_right > 0.8


def test_alexnet_by_torch_npu_is_matched_with_a_plan_from_mindspore(shared_data: Path, tmp_path: Path) -> None:
    """Every layer's way forth and back; the optimiser is three kernels over all weights."""
    plan, kernels = alexnet_plan(tmp_path), alexnet_kernels(shared_data)
    assert alexnet_outcome(plan, kernels, align(plan, kernels)).time_right >= 0.9
