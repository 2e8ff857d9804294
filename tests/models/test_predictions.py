"""Predictions of further tokens that run through several layers: Nemotron 3's attention and experts behind it."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.models import load_config
from memplan.models.drafts import with_draft
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph
from memplan.models.training.step_recipe import Recipe
from memplan.models.training.trained_model import trained_model
from memplan.models.weights import weights

NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 256,
    "hybrid_override_pattern": "ME*E", "num_nextn_predict_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 1,
    "ssm_state_size": 16, "conv_kernel": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 32, "n_shared_experts": 1,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
}  # fmt: skip
WRITTEN = ({"mtp_hybrid_override_pattern": "*E"}, {"mtp_layers_block_type": ["attention", "moe"]})


@pytest.mark.parametrize("written", WRITTEN)
def test_one_prediction_runs_through_all_its_layers(written: dict[str, object]) -> None:
    """Went wrong once: the published pattern was not read, and each layer of the list was a prediction of its own."""
    model = load_config({**NEMOTRON, **written})
    ((attention, experts),) = model.predictions
    assert attention.mixer is not None
    assert experts.ffn is not None
    joins = [item.name for item in weights(model, mtp=True) if "eh_proj" in item.name or "mtp_norm" in item.name]
    assert joins == ["layers.4.eh_proj", *(f"layers.4.mtp_norm.{number}" for number in range(3))]


@pytest.mark.parametrize("drafts", [1, 3])
def test_each_draft_token_takes_attention_and_experts(drafts: int) -> None:
    model = load_config({**NEMOTRON, **WRITTEN[0]})
    graph = step_graph(model, Layout(), ServedStep(Phase.DECODE, batch=2, context=256, speculative=drafts))
    of_layers = [op.scope.layer for op in graph.ops if op.scope is not None and (op.scope.layer or 0) >= 4]
    runs = [layer for layer, before in zip(of_layers, [None, *of_layers], strict=False) if layer != before]
    assert runs == [4, 5] * drafts


DENSE: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 4096, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(("own", "words"), [({"draft_vocab_size": 512}, 256), ({}, 2048)])
def test_drafts_are_chosen_by_their_own_head(own: dict[str, int], words: int) -> None:
    """Went wrong once: each draft of EAGLE's third kind read the target's head, where it has one for fewer words."""
    draft = load_config({**DENSE, "architectures": ["LlamaForCausalLMEagle3"], "num_hidden_layers": 1, **own})
    model = with_draft(load_config(DENSE), draft, "eagle3")
    graph = step_graph(model, Layout(tensor=2), ServedStep(Phase.DECODE, batch=2, context=256, speculative=3))
    heads = [graph.tensors[op.inputs[1]] for op in graph.ops if op.scope is not None and op.scope.part == "lm_head"]
    assert [head.shape for head in heads] == [(2048, 64), *[(words, 64)] * 3]
    assert len({head.index for head in heads}) == (2 if own else 1)


def test_training_adds_whole_predictions() -> None:
    model = load_config({**NEMOTRON, **WRITTEN[0]})
    trained = trained_model(model, Recipe(256, mtp_layers=2))
    assert [[layer.index for layer in run] for run in trained.predictions] == [[4, 5], [6, 7]]


def test_a_letter_that_is_no_layer_is_named() -> None:
    with pytest.raises(InputError, match="mtp_hybrid_override_pattern"):
        load_config({**NEMOTRON, "mtp_hybrid_override_pattern": "W*E"})
