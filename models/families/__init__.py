"""The architecture families: `model_type` of a `config.json` to the function that reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from memplan.core.resources import table
from memplan.models.architecture import ModelConfig
from memplan.models.families import (
    block_sparse,
    compressed,
    described,
    gemma,
    granite,
    grouped,
    latent,
    linear,
    llama4,
    n_gram,
    nemotron,
    pooled,
    shared_compressed,
    state_space,
    varied_heads,
)
from memplan.models.fields import Fields

Builder = Callable[[Fields], ModelConfig]

BUILDERS: Mapping[str, Builder] = MappingProxyType(
    {
        **dict.fromkeys(described.described_families(), described.described),
        "llama": grouped.llama,
        "mistral": grouped.llama,
        "mimo": grouped.qwen2,
        "mimo_v2_flash": grouped.mimo_v2,
        "mimo_v2": grouped.mimo_v2,
        "qwen2": grouped.qwen2,
        "qwen3": grouped.qwen3,
        "qwen3_vl_text": grouped.qwen3,
        "mixtral": grouped.mixtral,
        "qwen2_moe": grouped.qwen2_moe,
        "qwen3_moe": grouped.qwen3_moe,
        "qwen3_omni_moe_text": grouped.qwen3_moe,
        "qwen3_vl_moe_text": grouped.qwen3_moe,
        "minimax_m3": block_sparse.minimax_m3,
        "minimax_m3_vl_text": block_sparse.minimax_m3,
        "minimax_m2": grouped.minimax_m2,
        "gpt_oss": grouped.gpt_oss,
        "glm4_moe": grouped.glm4_moe,
        "llama4_text": llama4.llama4,
        "gemma3_text": gemma.gemma3,
        "gemma3n_text": gemma.gemma3n,
        "gemma4_text": gemma.gemma4,
        "deepseek_v2": latent.deepseek,
        "deepseek_v3": latent.deepseek,
        "deepseek_v32": latent.deepseek_sparse,
        "kimi_k2": latent.deepseek,
        "longcat_flash": latent.longcat_flash,
        "step3p5": varied_heads.step3_flash,
        "laguna": varied_heads.laguna,
        "step3_text": grouped.step3,
        "glm5_next_text": pooled.glm5_next,
        "glm_moe_dsa": latent.deepseek_sparse,
        "pangu_ultra_moe": latent.pangu_ultra_moe,
        "deepseek_v4": compressed.deepseek_v4,
        "deepseek_v41_text": shared_compressed.deepseek_v41,
        "qwen3_next": linear.qwen3_next,
        "qwen3_5_text": linear.qwen3_5,
        "qwen3_5_moe_text": linear.qwen3_5,
        "qwen4_exp_text": n_gram.qwen4_exp,
        "olmo_hybrid": linear.olmo_hybrid,
        "kimi_linear": linear.kimi_linear,
        "granitemoehybrid": granite.granite_hybrid,
        "mamba": state_space.selective_mamba,
        "falcon_mamba": state_space.selective_mamba,
        "mamba2": state_space.mamba2,
        "jamba": state_space.jamba,
        "falcon_h1": state_space.falcon_h1,
        "lfm2": state_space.lfm2,
        "lfm2_moe": state_space.lfm2,
        "nemotron_h": nemotron.nemotron_h,
        "nemotron-nas": nemotron.nemotron_nas,
    }
)
"""Decoders by `model_type`."""

WRAPPERS: Mapping[str, Mapping[str, Any]] = table("memplan.models.families", "wrappers.json")["wrappers"]
"""
Models that hold a decoder: the `decoder` it is where its object does not say (by `versions` of the wrapper in some),
and the objects it stands `at`, of which the first counts that the file has (`text_config` where nothing is said).
"""

ARCHITECTURES: Mapping[str, str] = table("memplan.models.families", "wrappers.json")["architectures"]
"""`model_type` by the class that `architectures` names: for files whose own `model_type` says less, or nothing."""
