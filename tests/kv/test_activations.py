"""Activations of a serving step: the peak of its op graph, and short cuts that must not change it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.core.units import GIB
from memplan.kv.activations import activation_peak, transient_peak
from memplan.kv.engine import ProfileRules
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph

PLAIN = ProfileRules()


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama--Meta-Llama-3.1-8B",
        "Qwen--Qwen3-Next-80B-A3B-Instruct",
        "deepseek-ai--DeepSeek-V3.2",
        "deepseek-ai--DeepSeek-V4-Flash",
        "google--gemma-3-27b-it",
        "nvidia--Llama-3_3-Nemotron-Super-49B-v1",
    ],
)
def test_one_layer_of_every_kind_has_the_peak_of_the_whole_stack(shared_data: Path, name: str) -> None:
    model = load_config(shared_data / "configs" / f"{name}.json")
    whole = step_graph(model, Layout(), ServedStep(Phase.PREFILL, batch=1, context=2048, precision="bf16"))
    assert activation_peak(model, Layout(), "bf16", 2048, 1, PLAIN) == transient_peak(whole)


def test_more_tokens_take_more_and_more_ranks_less(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "meta-llama--Meta-Llama-3.1-70B.json")
    one, four = (activation_peak(model, Layout(), "bf16", tokens, 1, PLAIN) for tokens in (2048, 8192))
    assert four == pytest.approx(4 * one, rel=0.01)
    assert activation_peak(model, Layout(tensor=8), "bf16", 2048, 1, PLAIN) < one


def test_logits_of_many_sequences_outgrow_the_layers(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "meta-llama--Meta-Llama-3.1-8B.json")
    assert activation_peak(model, Layout(), "bf16", 16, 1024, PLAIN) == 1024 * model.vocab_size * 6
    rules = ProfileRules(logit_bytes=14, vocabulary_bytes=528, hidden_copies=1)
    peak = activation_peak(model, Layout(), "bf16", 16, 1024, rules)
    assert peak == model.vocab_size * (1024 * 14 + 528) + 16 * model.hidden_size * 2


def test_frames_hold_inputs_and_first_products() -> None:
    """Llama-3.1-8B, 20,000 tokens, release 0.6 without compilation: 2.07 GiB (vllm-project/vllm#10517)."""
    model = load_config(
        {
            "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "torch_dtype": "bfloat16",
            "max_position_embeddings": 131072, "rope_theta": 500000.0, "tie_word_embeddings": False,
        }
    )  # fmt: skip
    eager = activation_peak(model, Layout(), "published", 20_000, 1, PLAIN, eager=True)
    assert eager / GIB == pytest.approx(2.07, abs=0.015)
    # The product of gate and up, the part's input and residual, what is activated, the result.
    assert eager == 20_000 * 2 * (3 * 14336 + 3 * 4096)
    assert eager > activation_peak(model, Layout(), "published", 20_000, 1, PLAIN)
