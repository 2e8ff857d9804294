"""Granite 4: Mamba-2 or attention in each layer, then a dense part alone or beside experts."""

from __future__ import annotations

from dataclasses import replace

from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, divisor, head_dim
from memplan.models.feed_forward import DenseFfn, MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.recurrent_mixers import Mamba2

_STATE_SPACE = ("mamba", "linear_attention")
_SOFTMAX = ("attention", "full_attention")


def granite_hybrid(fields: Fields) -> ModelConfig:
    """Granite 4 (granitemoehybrid): `layer_types` says which layers attend."""
    layers, heads = layer_count(fields), fields.count("num_attention_heads")
    dim, bias = head_dim(fields, computed=True), fields.flag("attention_bias", False)
    attention = GroupedAttention(
        heads=heads,
        kv_heads=divisor(fields, "num_key_value_heads", heads, "num_attention_heads"),
        head_dim=dim,
        head_dim_v=dim,
        qkv_bias=bias,
        out_bias=bias,
    )
    state_space = Mamba2(
        heads=fields.count("mamba_n_heads"),
        head_dim=fields.count("mamba_d_head"),
        groups=fields.count("mamba_n_groups"),
        state=fields.count("mamba_d_state"),
        conv_kernel=fields.count("mamba_d_conv", least=2),
        conv_bias=fields.flag("mamba_conv_bias", True),
        proj_bias=fields.flag("mamba_proj_bias", False),
        state_dtype=fields.text_or_none("mamba_ssm_cache_dtype") or "auto",
        chunk=fields.count_or("mamba_chunk_size", 256, least=1),
    )
    shared = fields.count("shared_intermediate_size")
    experts = fields.count_or("num_local_experts", 0)
    ffn = (
        MoeFfn(
            experts=experts,
            per_token=fields.count("num_experts_per_tok"),
            intermediate=fields.count("intermediate_size"),
            shared_intermediate=shared,
        )
        if experts
        else DenseFfn(shared)
    )
    stack = []
    name = "layers_block_type" if fields.has("layers_block_type") else "layer_types"
    for number, kind in enumerate(fields.list_of(name, str, at_least=layers)):
        if kind not in (*_STATE_SPACE, *_SOFTMAX):
            raise fields.wrong(f"{name}[{number}]", Sentence("{!r} is no kind of layer of {}", (kind, fields.family)))
        stack.append(Layer(number, attention if kind in _SOFTMAX else state_space, ffn))
    model = assemble(fields, family=fields.family, layers=stack, tied=False)
    attends = any(layer.mixer is attention for layer in stack)
    return model if attends else replace(model, unused_attention=attention.caches())
