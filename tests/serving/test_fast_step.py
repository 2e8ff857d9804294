"""Steps from a few layers of each kind, against the whole model's."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import step_time
from memplan.serving.fast_step import fast_step

MODELS = (
    "Qwen--Qwen3-32B",
    "deepseek-ai--DeepSeek-R1",
    "deepseek-ai--DeepSeek-V4-Flash",
    "Qwen--Qwen3-Next-80B-A3B-Instruct",
    "google--gemma-3-27b-it",
    "openai--gpt-oss-120b",
)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pipeline", [1, 2])
def test_few_layers_say_what_all_take(name: str, pipeline: int, shared_data: Path) -> None:
    found = sorted((shared_data / "configs").glob(f"{name}*.json"))
    if not found:
        pytest.skip("no such config")
    model, die = load_config(found[0]), chip("910C")
    layout = Layout(tensor=4, data=2, expert=8) if model.experts and pipeline == 1 else Layout(tensor=4)
    layout = Layout(layout.tensor, pipeline, layout.data, layout.expert)
    drafts = 1 if model.mtp_layers else 0
    for step in (
        ServedStep(Phase.DECODE, 48, 4096, speculative=drafts, precision="w8a8"),
        ServedStep(Phase.PREFILL, 2, 3000, precision="w8a8"),
    ):
        whole = step_time(model, layout, step, die, engine="vllm-ascend")
        point = fast_step(model, layout, step, die, acceptance=None, engine="vllm-ascend")
        assert point.duration_ns == pytest.approx(whole.duration_ns, rel=0.002 if pipeline == 1 else 0.03)
        if step.phase is Phase.DECODE:
            assert point.yielded == pytest.approx(whole.tokens_per_sequence)
            pace = step.batch * whole.tokens_per_sequence / whole.tokens_per_second * 1e9
            assert point.pace_ns == pytest.approx(pace, rel=0.002 if pipeline == 1 else 0.1)


@pytest.mark.parametrize("name", MODELS[:3])
def test_a_host_that_launches_kernels_launches_as_many(name: str, shared_data: Path) -> None:
    """Of a machine whose host takes three times as long as others."""
    model, die = load_config(next((shared_data / "configs").glob(f"{name}*.json"))), chip("910B3")
    layout = Layout(tensor=8, expert=8 if model.experts else 1)
    for step in (ServedStep(Phase.DECODE, 2, 1024), ServedStep(Phase.PREFILL, 1, 64)):
        whole = step_time(model, layout, step, die, engine="vllm-ascend-eager", host_factor=3.0)
        point = fast_step(
            model, layout, step, die, acceptance=None, engine="vllm-ascend-eager", host_factor=3.0
        )  # fmt: skip
        assert point.duration_ns == pytest.approx(whole.duration_ns, rel=0.002)
        assert point.launched_ns == pytest.approx(whole.duration_ns, rel=0.002)
