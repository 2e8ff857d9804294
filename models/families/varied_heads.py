"""Decoders whose layers have several numbers of query heads and gate what each attends: Step-3.5 and 3.7, Laguna."""

from __future__ import annotations

from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, choose, moe_layers, named_moe_layers
from memplan.models.feed_forward import MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm


def _slides(fields: Fields, name: str, layers: int) -> list[bool]:
    """Which layers keep a window; none where the file does not list them."""
    if not fields.has(name):
        return [False] * layers
    kinds = fields.list_of(name, str, at_least=layers)
    for number, kind in enumerate(kinds):
        if kind not in ("full_attention", "sliding_attention"):
            raise fields.wrong(
                f"{name}[{number}]", Sentence("{!r:.40} is not an attention of {}", (kind, fields.family))
            )
    return [kind == "sliding_attention" for kind in kinds]


def _attention(
    fields: Fields, heads: int, kv_heads: int, dim: int, *, slides: bool, head_gates: bool, gated: bool
) -> GroupedAttention:
    if heads % kv_heads:
        raise fields.wrong(
            "num_key_value_heads", Sentence("{} does not divide the {} [head|heads] of a layer", (kv_heads, heads))
        )
    biased = fields.flag("attention_bias", False)
    return GroupedAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        head_dim_v=dim,
        window=fields.count("sliding_window") if slides else None,
        qk_norm=QkNorm.PER_HEAD,
        qkv_bias=biased,
        out_bias=biased,
        gated=gated,
        head_gates=head_gates,
    )


def _step_sparse(fields: Fields, layers: int) -> list[bool]:
    """Which layers hold experts: those `moe_layers_enum` names, else all from the fourth on."""
    named = named_moe_layers(fields, layers)
    given = fields.values.get("moe_layers_enum")
    if named is not None or given is None:
        return moe_layers(fields, layers, 3)
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, list) or not all(str(part).strip().isdecimal() for part in parts):
        raise fields.wrong("moe_layers_enum", Sentence("{!r:.40} is no list of layers", (given,)))
    found = {int(part) for part in parts}
    return [index in found for index in range(layers)]


def step3_flash(fields: Fields) -> ModelConfig:
    """Step-3.5-Flash and 3.7-Flash: layers with a window have heads of their own, the last ones in the lists draft."""
    decoder, drafts = layer_count(fields), fields.count_or("num_nextn_predict_layers", 0)
    every = fields.values.get("layer_types")
    drafting = drafts if isinstance(every, list) and len(every) >= decoder + drafts else 0
    slides = _slides(fields, "layer_types", decoder + drafting)
    if drafts and not drafting:
        listed = fields.has("mtp_layer_types")
        slides += _slides(fields, "mtp_layer_types", drafts) if listed else [False] * drafts
    heads, dim = fields.count("num_attention_heads"), fields.count("head_dim")
    kv_heads = fields.count_any("num_attention_groups", "num_key_value_heads")
    local = fields.count_or("num_sliding_attention_heads", heads, least=1)
    if not fields.has("num_sliding_attention_heads") and fields.has("attention_other_setting"):
        local = fields.within("attention_other_setting").count_or("num_attention_heads", heads, least=1)
    gates = fields.flag("use_head_wise_attn_gate", True)
    full, window = (
        _attention(
            fields, local if kept else heads, kv_heads, dim, slides=kept and any(slides), head_gates=gates, gated=False
        )
        for kept in (False, True)
    )
    expert = MoeFfn(
        experts=fields.count_any("moe_num_experts", "n_routed_experts", "num_local_experts"),
        per_token=fields.count_any("moe_top_k", "num_experts_per_tok"),
        intermediate=fields.count("moe_intermediate_size"),
        shared_intermediate=fields.count_any("share_expert_dim", "share_expert_dims"),
    )
    ffns = choose(_step_sparse(fields, decoder), expert, None, fields)
    mixers = [window if kept else full for kept in slides]
    stack = [Layer(index, mixer, ffn) for index, (mixer, ffn) in enumerate(zip(mixers, ffns, strict=False))]
    dense = choose([False], expert, None, fields)[0]
    mtp = [Layer(decoder + number, mixer, dense) for number, mixer in enumerate(mixers[decoder:])]
    return assemble(fields, family=fields.family, layers=stack, tied=False, mtp_layers=mtp)


def laguna(fields: Fields) -> ModelConfig:
    """Laguna: heads by layer, a gate by head or by element, experts beside a shared one behind the first layer."""
    layers = layer_count(fields)
    heads = [fields.count("num_attention_heads")] * layers
    if fields.has("num_attention_heads_per_layer"):
        heads = list(fields.list_of("num_attention_heads_per_layer", int, at_least=layers))
        for number, count in enumerate(heads):
            if count < 1:
                raise fields.wrong(
                    f"num_attention_heads_per_layer[{number}]", Sentence("{} is no number of heads", (count,))
                )
    gating = fields.values.get("gating", True)
    if gating not in (True, "per-head", "per-element"):
        raise fields.wrong("gating", Sentence("{!r:.40} is neither 'per-head' nor 'per-element'", (gating,)))
    kv_heads, dim = fields.count("num_key_value_heads"), fields.count("head_dim")
    whole = gating == "per-element"
    mixers = [
        _attention(fields, count, kv_heads, dim, slides=kept, head_gates=not whole, gated=whole)
        for count, kept in zip(heads, _slides(fields, "layer_types", layers), strict=True)
    ]
    expert = MoeFfn(
        experts=fields.count("num_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=fields.count("moe_intermediate_size"),
        shared_intermediate=fields.count("shared_expert_intermediate_size", least=0),
        router_biases=1,
    )
    ffns = choose(moe_layers(fields, layers, 1), expert, None, fields)
    stack = [Layer(index, mixer, ffn) for index, (mixer, ffn) in enumerate(zip(mixers, ffns, strict=True))]
    return assemble(fields, family=fields.family, layers=stack, tied=False)
