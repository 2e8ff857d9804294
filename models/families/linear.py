"""Decoders that mix linear attention with full attention: Qwen3-Next, Qwen3.5, Kimi-Linear."""

from __future__ import annotations

from dataclasses import replace

from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, choose, divisor, head_dim, moe_layers, numbered_mtp
from memplan.models.families.grouped import qwen_sparse
from memplan.models.families.latent import latent_mixer
from memplan.models.feed_forward import DenseFfn, Ffn, MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm
from memplan.models.mixers.recurrent_mixers import GatedDeltaNet, KimiDelta


def _layer_kinds(fields: Fields, layers: int) -> list[str]:
    if fields.has("layer_types"):
        kinds = list(fields.list_of("layer_types", str, at_least=layers))
    else:
        if not fields.has("full_attention_interval"):
            raise fields.wrong(
                "layer_types", Sentence("is missing, and so is full_attention_interval, of {}", (fields.family,))
            )
        every = fields.count("full_attention_interval")
        kinds = ["linear_attention" if (index + 1) % every else "full_attention" for index in range(layers)]
    for number, kind in enumerate(kinds):
        if kind not in ("linear_attention", "full_attention"):
            raise fields.wrong(
                f"layer_types[{number}]", Sentence("{!r} is not an attention of {}", (kind, fields.family))
            )
    return kinds


def delta_net(fields: Fields) -> GatedDeltaNet:
    """Gated delta nets under Qwen's names."""
    return GatedDeltaNet(
        key_heads=fields.count("linear_num_key_heads"),
        value_heads=fields.count("linear_num_value_heads"),
        key_dim=fields.count("linear_key_head_dim"),
        value_dim=fields.count("linear_value_head_dim"),
        conv_kernel=fields.count("linear_conv_kernel_dim", least=2),
        state_dtype=fields.text_or_none("mamba_ssm_dtype") or "auto",
    )


def _qwen(fields: Fields) -> ModelConfig:
    layers = layer_count(fields)
    heads = fields.count("num_attention_heads")
    full = GroupedAttention(
        heads=heads,
        kv_heads=divisor(fields, "num_key_value_heads", heads, "num_attention_heads"),
        head_dim=fields.count("head_dim"),
        head_dim_v=fields.count("head_dim"),
        qk_norm=QkNorm.PER_HEAD,
        gated=fields.flag("attn_output_gate", True),
    )
    delta = delta_net(fields)
    ffns: list[Ffn]
    if fields.family == "qwen3_5_text":
        ffns = [DenseFfn(fields.count("intermediate_size"))] * layers
    else:
        expert = MoeFfn(
            experts=fields.count("num_experts"),
            per_token=fields.count("num_experts_per_tok"),
            intermediate=fields.count("moe_intermediate_size"),
            shared_intermediate=fields.count("shared_expert_intermediate_size", least=0),
            shared_gate=True,
        )
        ffns = choose(qwen_sparse(fields, layers), expert, None, fields)
    kinds = _layer_kinds(fields, layers)
    stack = [
        Layer(index, full if kind == "full_attention" else delta, ffn)
        for index, (kind, ffn) in enumerate(zip(kinds, ffns, strict=True))
    ]
    # Qwen3-Next's file doesn't name its one draft layer (vllm 0.23.0 models/qwen3_next_mtp.py takes 1).
    drafts = (
        fields.count_or("num_nextn_predict_layers", 1)
        if fields.family == "qwen3_next"
        else fields.count_or("mtp_num_hidden_layers", 0)
    )
    mtp = numbered_mtp(drafts, layers, Layer(layers, full, ffns[-1]))
    return assemble(fields, family=fields.family, layers=stack, tied=False, mtp_layers=mtp)


def qwen3_next(fields: Fields) -> ModelConfig:
    """Qwen3-Next: three layers of gated delta net to one of gated full attention, experts everywhere."""
    return _qwen(fields)


def qwen3_5(fields: Fields) -> ModelConfig:
    """Qwen3.5, dense or with experts."""
    return _qwen(fields)


def _kimi_layers(fields: Fields, layers: int) -> tuple[set[int], KimiDelta]:
    """The layers with latent attention, counted from 0, and the mixer of the others."""
    if not fields.has("linear_attn_config"):
        kinds = _layer_kinds(fields, layers)
        delta = KimiDelta(
            heads=fields.count("linear_num_heads"),
            head_dim=fields.count("linear_head_dim"),
            conv_kernel=fields.count("linear_conv_kernel_dim", least=2),
            state_dtype="float32",
        )
        return {index for index, kind in enumerate(kinds) if kind == "full_attention"}, delta
    linear = fields.within("linear_attn_config")
    full = linear.whole_list("full_attn_layers", int, required=True)
    delta = KimiDelta(
        heads=linear.count("num_heads"),
        head_dim=linear.count("head_dim"),
        conv_kernel=linear.count("short_conv_kernel_size", least=2),
        state_dtype="float32",
        full_rank_gate=linear.flag("use_full_rank_gate", False),
    )
    return {number - 1 for number in full}, delta


def kimi_linear(fields: Fields) -> ModelConfig:
    """
    Kimi-Linear and Kimi-K3: Kimi delta attention, latent attention in the layers `linear_attn_config` names.

    K3 adds gates of full rank, experts in a narrower space and residuals over blocks of layers.
    """
    layers = layer_count(fields)
    full_layers, delta = _kimi_layers(fields, layers)
    latent = replace(latent_mixer(fields), bias=False, gated=fields.flag("mla_use_output_gate", False))
    intermediate = fields.count("moe_intermediate_size")
    expert = MoeFfn(
        experts=fields.count_any("num_experts", "n_routed_experts", "num_local_experts"),
        per_token=fields.count_any("num_experts_per_token", "num_experts_per_tok"),
        intermediate=intermediate,
        shared_intermediate=intermediate * fields.count_any("num_shared_experts", "n_shared_experts", least=0),
        latent=fields.count_or_none("routed_expert_hidden_size"),
        latent_norm=fields.flag("latent_moe_use_norm", False),
    )
    first_dense = 0 if fields.has("mlp_layer_types") else fields.count("first_k_dense_replace", least=0)
    sparse = moe_layers(fields, layers, first_dense, fields.count_or("moe_layer_freq", 1, least=1))
    ffns = choose(sparse, expert, None, fields)
    stack = [Layer(index, latent if index in full_layers else delta, ffn) for index, ffn in enumerate(ffns)]
    mtp = numbered_mtp(fields.count_or("num_nextn_predict_layers", 0), layers, stack[-1])
    model = assemble(
        fields,
        family="kimi_linear",
        layers=stack,
        tied=False,
        mtp_layers=mtp,
        positions=("max_position_embeddings", "model_max_length"),
    )
    return replace(model, attention_residuals=fields.has("attn_res_block_size"))


def olmo_hybrid(fields: Fields) -> ModelConfig:
    """OLMo Hybrid: gated delta net with full attention between, its queries and keys normalised over all heads."""
    layers, heads = layer_count(fields), fields.count("num_attention_heads")
    bias = fields.flag("attention_bias", False)
    dim = head_dim(fields, computed=True)
    full = GroupedAttention(
        heads=heads,
        kv_heads=divisor(fields, "num_key_value_heads", heads, "num_attention_heads"),
        head_dim=dim,
        head_dim_v=dim,
        qk_norm=QkNorm.ALL_HEADS,
        qkv_bias=bias,
        out_bias=bias,
    )
    delta = delta_net(fields)
    ffn = DenseFfn(fields.count("intermediate_size"))
    stack = [
        Layer(index, full if kind == "full_attention" else delta, ffn)
        for index, kind in enumerate(_layer_kinds(fields, layers))
    ]
    return assemble(fields, family=fields.family, layers=stack, tied=False)
