"""
Models and ways to write them drawn at random, for fits and checks on many kinds: `sampled_run(seed)` is one `TorchRun`.

Families, sizes and styles are drawn apart from one another, so that a check on other seeds is one on other kinds.
`python -m tests.align.torch_samples FOLDER FIRST LAST` records them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.align.torch_configs import Norms, TorchRun

Config = dict[str, Any]
_BIASED = frozenset({"qkv", "o", "ffn", "norm"})


def sampled_run(seed: int) -> TorchRun:
    """The run of that number; equal numbers give equal runs."""
    chance = random.Random(seed)
    make = chance.choice(list(_FAMILIES.values()))
    run = make(chance, _sizes(chance))
    sequence = chance.choice([40, 64, 72, 88, 100, 112, 128, 144, 160, 192])
    if not run.trains:
        return replace(run, batch=chance.choice([1, 2, 3]), sequence=sequence, micro_batches=1)
    return replace(
        run,
        batch=chance.choice([1, 2, 3]),
        sequence=sequence,
        micro_batches=chance.choice([1, 2, 2, 3]),
        optimizer=chance.choice(["apart", "apart", "apart", "foreach", "fused", "sgd"]),
        clips=chance.random() < 0.7,
        checkpoints=chance.random() < 0.2,
        spelt_attention=chance.random() < 0.4,
        norms_last=chance.random() < 0.5,
        cut=0.4 * chance.random() if chance.random() < 0.25 else 0.0,
    )


def _sizes(chance: random.Random) -> Config:
    heads = chance.choice([4, 5, 6, 7, 8, 10])
    groups = [count for count in range(1, heads + 1) if heads % count == 0]
    return {
        "hidden_size": heads * 32,
        "intermediate_size": chance.randrange(20, 60) * 16,
        "num_attention_heads": heads,
        "num_key_value_heads": chance.choice(groups),
        "vocab_size": chance.randrange(100, 250) * 10,
        "rope_theta": 10000.0,
        "max_position_embeddings": 512,
        "tie_word_embeddings": chance.random() < 0.3,
        "torch_dtype": "bfloat16" if chance.random() < 0.2 else "float32",
        "hidden_act": "silu",
        "num_hidden_layers": chance.randrange(2, 7),
        "rms_norm_eps": 1e-6,
    }


def _norm(chance: random.Random) -> Norms:
    return chance.choice([Norms.WRITTEN, Norms.WRITTEN, Norms.FUSED])


def _dense(chance: random.Random, sizes: Config) -> TorchRun:
    kind, architecture = chance.choice(
        [("llama", "LlamaForCausalLM"), ("qwen2", "Qwen2ForCausalLM"), ("mistral", "MistralForCausalLM")]
    )
    config = {**sizes, "architectures": [architecture], "model_type": kind}
    if kind == "mistral":
        config["sliding_window"] = 32
    bias = frozenset({"qkv"}) if kind == "qwen2" else frozenset[str]()
    return TorchRun(config, norm=_norm(chance), joined=chance.random() < 0.4, bias=bias)


def _served(chance: random.Random, sizes: Config) -> TorchRun:
    config = {**sizes, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
    return TorchRun(config, norm=_norm(chance), trains=False, spelt_attention=chance.random() < 0.5)


def _sandwich(chance: random.Random, sizes: Config) -> TorchRun:
    layers = sizes["num_hidden_layers"]
    config = {
        **sizes, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "head_dim": 32,
        "sliding_window": 24, "query_pre_attn_scalar": 32, "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": [chance.choice(["sliding_attention", "full_attention"]) for _ in range(layers)],
        "tie_word_embeddings": True,
    }  # fmt: skip
    return TorchRun(config, norm=_norm(chance), norms=4, gelu=True)


def _parallel(chance: random.Random, sizes: Config) -> TorchRun:
    config = {
        **sizes, "architectures": ["CohereForCausalLM"], "model_type": "cohere", "tie_word_embeddings": True,
        "logit_scale": 1.0, "layer_norm_eps": 1e-5,
    }  # fmt: skip
    return TorchRun(config, norm=Norms.LAYER, norms=1)


def _biased(chance: random.Random, sizes: Config) -> TorchRun:
    hidden, layers, heads = (sizes[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    joined = chance.random() < 0.7
    run = partial(TorchRun, norm=Norms.LAYER, gated=False, gelu=True, bias=_BIASED, joined=joined)
    if chance.random() < 0.5:
        config = {
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "hidden_size": hidden, "n_embd": hidden,
            "n_layer": layers, "num_hidden_layers": layers, "n_head": heads, "num_attention_heads": heads,
            "n_positions": 512, "max_position_embeddings": 512, "n_inner": 4 * hidden,
            "intermediate_size": 4 * hidden, "vocab_size": sizes["vocab_size"], "tie_word_embeddings": True,
            "torch_dtype": sizes["torch_dtype"], "activation_function": "gelu",
        }  # fmt: skip
        return run(config, learnt_positions=True)
    config = {
        **sizes, "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "num_key_value_heads": heads,
        "layer_norm_eps": 1e-5, "rotary_pct": 1.0, "use_parallel_residual": False, "tie_word_embeddings": False,
    }  # fmt: skip
    return run(config)


def _routing(chance: random.Random) -> Mapping[str, Any]:
    return {"routing": chance.choice(["every", "hits", "sorted", "added"]), "experts_apart": chance.random() < 0.5}


def _experts(chance: random.Random) -> Config:
    return {
        "moe_intermediate_size": chance.randrange(4, 20) * 16,
        "num_experts_per_tok": chance.randrange(1, 5),
        "norm_topk_prob": True,
    }


def _moe(chance: random.Random, sizes: Config) -> TorchRun:
    config = {
        **sizes, **_experts(chance), "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
        "head_dim": 32, "num_experts": chance.randrange(5, 33), "decoder_sparse_step": chance.choice([1, 1, 2]),
        "mlp_only_layers": [], "num_hidden_layers": chance.randrange(2, 4),
    }  # fmt: skip
    return TorchRun(config, norm=_norm(chance), trains=chance.random() < 0.85, **_routing(chance))


def _shared(chance: random.Random, sizes: Config) -> TorchRun:
    config = {**sizes, **_experts(chance), "num_hidden_layers": chance.randrange(2, 4)}
    count = chance.randrange(5, 25)
    if chance.random() < 0.4:
        config |= {
            "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "num_experts": count,
            "shared_expert_intermediate_size": chance.randrange(10, 30) * 16, "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }  # fmt: skip
        return TorchRun(config, norm=_norm(chance), bias=frozenset({"qkv"}), shared_gate=True, **_routing(chance))
    config |= {
        "architectures": ["DeepseekForCausalLM"], "model_type": "deepseek", "n_routed_experts": count,
        "n_shared_experts": chance.randrange(1, 3), "first_k_dense_replace": 1, "moe_layer_freq": 1,
        "scoring_func": "softmax",
    }  # fmt: skip
    return TorchRun(config, norm=_norm(chance), **_routing(chance))


def _latent(chance: random.Random, sizes: Config) -> TorchRun:
    config = {
        **sizes, **_experts(chance), "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "q_lora_rank": chance.randrange(4, 9) * 16, "kv_lora_rank": chance.randrange(3, 7) * 16,
        "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": chance.choice([24, 32, 48]),
        "num_key_value_heads": sizes["num_attention_heads"], "n_routed_experts": chance.randrange(5, 17),
        "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "scoring_func": "sigmoid",
        "topk_method": "noaux_tc", "routed_scaling_factor": 1.0, "num_hidden_layers": chance.randrange(2, 4),
        "tie_word_embeddings": False,
    }  # fmt: skip
    return TorchRun(config, norm=_norm(chance), **_routing(chance))


_FAMILIES: Mapping[str, Callable[[random.Random, Config], TorchRun]] = {
    "dense": _dense,
    "served": _served,
    "sandwich": _sandwich,
    "parallel": _parallel,
    "biased": _biased,
    "moe": _moe,
    "shared": _shared,
    "latent": _latent,
}


if __name__ == "__main__":
    from tests.align.torch_runs import record

    for number in range(int(sys.argv[2]), int(sys.argv[3]) + 1):
        record(sampled_run(number), Path(sys.argv[1]) / f"{number}.csv.gz")
