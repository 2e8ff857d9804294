"""Llama 4: local attention in chunks with every few layers full, experts in every layer or every other one."""

from __future__ import annotations

from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, divisor
from memplan.models.feed_forward import DenseFfn, Ffn, MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.grouped_attention import GroupedAttention

_FULL_EVERY = 4
"""`no_rope_layer_interval` of the published configuration class."""


def llama4(fields: Fields) -> ModelConfig:
    """Scout and Maverick: layers without rotary positions attend to everything, the others to their chunk."""
    layers = layer_count(fields)
    heads = fields.count("num_attention_heads")
    kv_heads = divisor(fields, "num_key_value_heads", heads, "num_attention_heads")
    dim = fields.count("head_dim")
    chunk = fields.count_or_none("attention_chunk_size")
    every = fields.count_or("no_rope_layer_interval", _FULL_EVERY, least=1)
    rope = [bool((index + 1) % every) for index in range(layers)]
    if fields.has("no_rope_layers") and fields.values["no_rope_layers"]:
        rope = [bool(flag) for flag in fields.list_of("no_rope_layers", int, at_least=layers)]
    bias = fields.flag("attention_bias", False)
    width = fields.count("intermediate_size")
    expert = MoeFfn(
        experts=fields.count("num_local_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=width,
        shared_intermediate=width,
    )
    step = fields.count("interleave_moe_layer_step")
    sparse = {index for index in range(layers) if (index + 1) % step == 0}
    if fields.has("moe_layers") and isinstance(fields.values["moe_layers"], list):
        sparse = set(fields.whole_list("moe_layers", int))
    dense: Ffn = DenseFfn(fields.count("intermediate_size_mlp")) if len(sparse) < layers else expert
    stack = [
        Layer(
            index,
            GroupedAttention(
                heads=heads,
                kv_heads=kv_heads,
                head_dim=dim,
                head_dim_v=dim,
                chunk=chunk if rope[index] else None,
                qkv_bias=bias,
                out_bias=bias,
            ),
            expert if index in sparse else dense,
        )
        for index in range(layers)
    ]
    return assemble(fields, family="llama4_text", layers=stack, tied=False)
