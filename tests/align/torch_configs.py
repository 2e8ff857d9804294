"""Small Llamas and small mixtures of experts: their sizes, the shape of a step, and how each is written in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

_SIZES: Mapping[str, object] = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 2000,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "hidden_act": "silu",
}
LLAMA: Mapping[str, object] = {
    **_SIZES,
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 4,
    "rms_norm_eps": 1e-5,
}
MOE: Mapping[str, object] = {
    **_SIZES,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-6,
    "head_dim": 32,
    "moe_intermediate_size": 192,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
LLAMA_GROUPED: Mapping[str, object] = {
    **LLAMA,
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 1200,
    "num_hidden_layers": 5,
}
MOE_TOP4: Mapping[str, object] = {
    **MOE,
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "vocab_size": 1600,
    "num_hidden_layers": 2,
    "moe_intermediate_size": 96,
    "num_experts": 12,
    "num_experts_per_tok": 4,
}
MIXTRAL: Mapping[str, object] = {
    **_SIZES,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-5,
    "intermediate_size": 320,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 320,
}

LLAMA_WIDE: Mapping[str, object] = {
    **LLAMA,
    "hidden_size": 320,
    "intermediate_size": 832,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "vocab_size": 1500,
    "num_hidden_layers": 3,
}
LLAMA_SHORT: Mapping[str, object] = {
    **LLAMA,
    "hidden_size": 288,
    "intermediate_size": 640,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 1800,
    "num_hidden_layers": 2,
}
MOE_TOP2_OF_16: Mapping[str, object] = {
    **MOE,
    "hidden_size": 224,
    "intermediate_size": 512,
    "num_attention_heads": 7,
    "num_key_value_heads": 7,
    "vocab_size": 1400,
    "num_hidden_layers": 2,
    "moe_intermediate_size": 144,
    "num_experts": 16,
    "num_experts_per_tok": 2,
}
MOE_HITS: Mapping[str, object] = {
    **MOE,
    "hidden_size": 192,
    "intermediate_size": 416,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 1300,
    "moe_intermediate_size": 112,
    "num_experts": 10,
    "num_experts_per_tok": 3,
    "mlp_only_layers": [0],
}
DEEPSEEK: Mapping[str, object] = {
    **_SIZES,
    "architectures": ["DeepseekForCausalLM"],
    "model_type": "deepseek",
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-6,
    "intermediate_size": 512,
    "moe_intermediate_size": 96,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "norm_topk_prob": True,
    "scoring_func": "softmax",
}
MOE_PREFILL: Mapping[str, object] = {
    **MOE,
    "hidden_size": 224,
    "num_attention_heads": 7,
    "num_key_value_heads": 7,
    "vocab_size": 1700,
    "num_hidden_layers": 4,
    "moe_intermediate_size": 80,
    "num_experts": 24,
    "num_experts_per_tok": 4,
}
MOE_24: Mapping[str, object] = {
    **DEEPSEEK,
    "hidden_size": 320,
    "num_attention_heads": 10,
    "num_key_value_heads": 5,
    "vocab_size": 1100,
    "intermediate_size": 704,
    "moe_intermediate_size": 72,
    "n_routed_experts": 24,
    "num_experts_per_tok": 6,
    "n_shared_experts": 1,
}
DEEPSEEK_HITS: Mapping[str, object] = {
    **DEEPSEEK,
    "hidden_size": 224,
    "num_attention_heads": 7,
    "num_key_value_heads": 7,
    "vocab_size": 1250,
    "intermediate_size": 480,
    "moe_intermediate_size": 120,
    "n_routed_experts": 14,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
}
MOE_40: Mapping[str, object] = {
    **MOE,
    "hidden_size": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1900,
    "num_hidden_layers": 2,
    "moe_intermediate_size": 64,
    "num_experts": 40,
    "num_experts_per_tok": 8,
}
MOE_MIXED: Mapping[str, object] = {
    **MOE,
    "hidden_size": 160,
    "intermediate_size": 608,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "vocab_size": 2200,
    "num_hidden_layers": 4,
    "moe_intermediate_size": 304,
    "num_experts": 6,
    "num_experts_per_tok": 1,
    "decoder_sparse_step": 2,
}
DEEPSEEK_PREFILL: Mapping[str, object] = {
    **DEEPSEEK,
    "hidden_size": 192,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "vocab_size": 1500,
    "num_hidden_layers": 5,
    "moe_intermediate_size": 128,
    "n_routed_experts": 16,
    "num_experts_per_tok": 2,
}


class Norms(Enum):
    """How norms are written: root mean squares in several ops or in one, or PyTorch's layer norm."""

    WRITTEN = "written"
    FUSED = "fused"
    LAYER = "layer"


@dataclass(frozen=True, slots=True)
class TorchRun:
    """
    A run to record: the model, the shape of a step, and how the model is written.

    `norms_last` is whether a layer registers its norms behind its matrices, `spelt_attention` whether attention is
    two products with a softmax between, `experts_apart` whether each expert is a module of its own. `routing` says how
    tokens come to experts: `every` expert takes its own in turn, those with `hits` alone do, tokens are `sorted` by
    expert and back, or sorted and `added` to where they came from, or every expert takes all of them, `batched`.
    `trains` is whether a step goes back.

    A layer has `norms` of them: one before attention and the feed-forward part side by side, two, or four. Weights of
    queries, keys and values, of gate and up may be `joined`; `bias` names what has one: `qkv`, `o`, `ffn`, `norm`.
    `checkpoints` is whether layers run again on the way back. `optimizer` is `apart` (AdamW weight by weight),
    `foreach`, `fused` or `sgd`; `clips` is whether gradients are clipped. The profile begins that share `cut` of its
    ops late.
    """

    config: Mapping[str, Any]
    batch: int = 2
    sequence: int = 160
    micro_batches: int = 2
    norms_last: bool = False
    spelt_attention: bool = False
    experts_apart: bool = False
    routing: str = "every"
    trains: bool = True
    norm: Norms = Norms.WRITTEN
    norms: int = 2
    joined: bool = False
    gated: bool = True
    gelu: bool = False
    bias: frozenset[str] = frozenset()
    shared_gate: bool = False
    learnt_positions: bool = False
    checkpoints: bool = False
    optimizer: str = "apart"
    clips: bool = True
    cut: float = 0.0

    @property
    def small_norms(self) -> bool:
        """Whether queries and keys have norms of their own."""
        return self.config["model_type"] in ("qwen3", "qwen3_moe", "gemma3_text")


RUNS: Mapping[str, TorchRun] = {"llama": TorchRun(LLAMA), "moe": TorchRun(MOE)}
"""Runs that were at hand while the alignment was built."""
SEEN_RUNS: Mapping[str, TorchRun] = {
    "llama_grouped": TorchRun(LLAMA_GROUPED, 3, 112, 1, norms_last=True, spelt_attention=True),
    "moe_top4": TorchRun(MOE_TOP4, 2, 64, 3, norms_last=True, experts_apart=True),
    "mixtral": TorchRun(MIXTRAL, 1, 224, 1, norms_last=True, experts_apart=True),
    "moe_top2_16": TorchRun(MOE_TOP2_OF_16, 2, 96, 2, experts_apart=True),
    "moe_hits": TorchRun(MOE_HITS, 2, 72, 2, routing="hits"),
    "deepseek": TorchRun(DEEPSEEK, 1, 144, 2, experts_apart=True, routing="sorted"),
    "moe_prefill": TorchRun(MOE_PREFILL, 1, 40, 1, routing="hits", trains=False),
    "moe_24": TorchRun(MOE_24, 2, 88, 2, norms_last=True, spelt_attention=True, routing="added"),
}
"""Runs of other models that the alignment was mended with in view."""
FRESH_RUNS: Mapping[str, TorchRun] = {
    "llama_wide": TorchRun(LLAMA_WIDE, 1, 192, 2),
    "llama_short": TorchRun(LLAMA_SHORT, 2, 80, 4, norms_last=True, spelt_attention=True),
    "moe_mixed": TorchRun(MOE_MIXED, 3, 56, 1, experts_apart=True, routing="hits"),
    "deepseek_hits": TorchRun(DEEPSEEK_HITS, 1, 100, 2, norms_last=True, routing="hits"),
    "moe_40": TorchRun(MOE_40, 1, 120, 1, experts_apart=True, spelt_attention=True, routing="sorted"),
    "deepseek_prefill": TorchRun(DEEPSEEK_PREFILL, 2, 48, 1, experts_apart=True, trains=False),
}
"""Runs that nothing was chosen after."""
