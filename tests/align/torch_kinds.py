"""Recorded runs of other kinds of models than `torch_configs` has, and all of them by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.align.torch_configs import FRESH_RUNS, LLAMA, RUNS, SEEN_RUNS, Norms, TorchRun
from tests.align.torch_samples import sampled_run

_BIASED = frozenset({"qkv", "o", "ffn", "norm"})
GPT2: Mapping[str, object] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "hidden_size": 256,
    "n_embd": 256,
    "n_layer": 4,
    "num_hidden_layers": 4,
    "n_head": 8,
    "num_attention_heads": 8,
    "n_positions": 512,
    "max_position_embeddings": 512,
    "n_inner": 1024,
    "intermediate_size": 1024,
    "vocab_size": 1900,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "activation_function": "gelu",
}
COHERE: Mapping[str, object] = {
    **LLAMA,
    "architectures": ["CohereForCausalLM"],
    "model_type": "cohere",
    "tie_word_embeddings": True,
    "logit_scale": 1.0,
    "layer_norm_eps": 1e-5,
}
GPT_NEOX: Mapping[str, object] = {
    **LLAMA,
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "num_key_value_heads": 8,
    "intermediate_size": 1024,
    "layer_norm_eps": 1e-5,
    "rotary_pct": 1.0,
    "use_parallel_residual": False,
}
QWEN2: Mapping[str, object] = {
    **LLAMA,
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "tie_word_embeddings": True,
    "num_hidden_layers": 5,
    "intermediate_size": 688,
    "rms_norm_eps": 1e-6,
}
SEEN_KINDS: Mapping[str, TorchRun] = {
    "gpt2": TorchRun(
        GPT2, 2, 128, 2, norm=Norms.LAYER, joined=True, gated=False, gelu=True, bias=_BIASED, learnt_positions=True,
        optimizer="foreach",
    ),
    "cohere": TorchRun(COHERE, 2, 144, 2, norm=Norms.LAYER, norms=1),
    "gpt_neox": TorchRun(
        GPT_NEOX, 2, 128, 1, norm=Norms.LAYER, joined=True, gated=False, gelu=True, bias=_BIASED, optimizer="fused",
        clips=False,
    ),
    "qwen2_again": TorchRun(QWEN2, 2, 128, 2, bias=frozenset({"qkv"}), checkpoints=True, optimizer="sgd"),
}  # fmt: skip
"""Runs that the alignment was mended with in view, in no fit of probabilities."""
FRESH_SAMPLES: Mapping[str, TorchRun] = {f"sample_{seed}": sampled_run(seed) for seed in range(1000, 1004)}
"""The first of the models drawn at random that nothing was chosen after."""
ALL_RUNS: Mapping[str, TorchRun] = {**RUNS, **SEEN_RUNS, **SEEN_KINDS, **FRESH_RUNS, **FRESH_SAMPLES}
