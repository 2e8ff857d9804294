"""What weights take once they are loaded, beside what public start logs of vLLM say."""

from __future__ import annotations

import pytest

from memplan.core.units import GIB, MIB
from memplan.kv import engine
from memplan.kv.loaded_weights import AllocatorRules, MxExpertRules, loaded_weights
from memplan.models import load_config
from memplan.models.parallel import Layout, rank_weight_bytes
from memplan.models.precision import PUBLISHED, precision

GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "max_position_embeddings": 131072,
    "num_experts_per_tok": 4, "sliding_window": 128, "tie_word_embeddings": False, "attention_bias": True,
    "torch_dtype": "bfloat16", "hidden_act": "silu", "rope_theta": 150000, "quantization_config": {
        "quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]
    },
}  # fmt: skip
ALLOCATOR = AllocatorRules(10 * MIB, 2 * MIB, MIB)


def gpt_oss(layers: int, experts: int) -> dict[str, object]:
    """A config of the family with alternating windows."""
    kinds = ["sliding_attention", "full_attention"] * (layers // 2)
    return GPT_OSS | {"num_hidden_layers": layers, "num_local_experts": experts, "layer_types": kinds}


def on_rank(values: dict[str, object], rules: MxExpertRules | None, layout: Layout | None = None) -> float:
    """GiB of the weights on a rank."""
    model = load_config(values)
    scheme, span, layout = precision(PUBLISHED, model), range(len(model.layers)), layout or Layout()
    own = rank_weight_bytes(model, layout, scheme, span)
    more = loaded_weights(model, layout, scheme, span, ALLOCATOR, rules, mtp=False)
    return (sum(own.values()) + sum(more.values())) / GIB


def test_blocks_keep_a_rest_that_is_too_small_to_be_split_off() -> None:
    assert [ALLOCATOR.rest(round(size * MIB)) for size in (9.5, 35, 67.5, 24.5, 224)] == [0, MIB, MIB // 2, 0, 0]


def test_experts_on_hopper_take_what_a_public_log_says() -> None:
    """gpt-oss-120b on H100, Triton: "Model loading took 64.38 GiB" (vllm-project/vllm#33155)."""
    held = engine("vllm-0.23.0").held
    assert held is not None
    assert on_rank(gpt_oss(36, 128), held.experts) == pytest.approx(64.38, rel=0.002)


def test_experts_of_the_marlin_kernel_take_what_a_public_log_says() -> None:
    """gpt-oss-20b on A100, vLLM 0.19.0: "Model loading took 13.72 GiB" (myoceane.fr, ai-vllm-a100-gemma-4)."""
    marlin = MxExpertRules(width=128, hidden=256, scale_rows=1, scales_twice=False, bias_bytes=2)
    assert on_rank(gpt_oss(24, 32), marlin) == pytest.approx(13.72, rel=0.005)


def test_narrow_shards_of_experts_are_padded() -> None:
    rules = MxExpertRules(width=64, hidden=1, scale_rows=1, scales_twice=False, bias_bytes=2)
    whole, shard = on_rank(gpt_oss(24, 32), rules), on_rank(gpt_oss(24, 32), rules, Layout(tensor=8))
    assert shard > whole / 8 + (384 - 360) / 360 * 9 / 8
    ep = on_rank(gpt_oss(24, 32), rules, Layout(tensor=8, expert=8))
    assert ep < shard


def test_rests_of_blocks_are_what_a_log_has_beside_the_parameters() -> None:
    """R1-Distill-Qwen-14B on two ranks: 13.9476 GiB (vllm-project/vllm#13061), of which parameters are 13.755."""
    values = {
        "model_type": "qwen2", "hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40,
        "num_key_value_heads": 8, "intermediate_size": 13824, "vocab_size": 152064, "torch_dtype": "bfloat16",
        "max_position_embeddings": 131072, "tie_word_embeddings": False, "rope_theta": 1000000,
    }  # fmt: skip
    model, layout, span = load_config(values), Layout(tensor=2), range(48)
    scheme = precision(PUBLISHED, model)
    own = sum(rank_weight_bytes(model, layout, scheme, span).values())
    assert own / GIB == pytest.approx(13.755, abs=0.002)
    more = loaded_weights(model, layout, scheme, span, ALLOCATOR, None, mtp=False)
    # Beside them are tables of rotary positions, 32 MiB.
    assert (own + sum(more.values())) / GIB + 0.031 == pytest.approx(13.9476, rel=0.001)
