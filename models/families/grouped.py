"""Decoders with grouped-query attention in every layer, dense or with experts."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, choose, divisor, expert_ffn, head_dim, moe_layers, numbered_mtp
from memplan.models.feed_forward import DenseFfn, Ffn, MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm


def _attention(
    fields: Fields,
    *,
    computed_head_dim: bool,
    qk_norm: QkNorm = QkNorm.NONE,
    qkv_bias: bool = False,
    out_bias: bool = False,
    window: int | None = None,
    sinks: bool = False,
) -> GroupedAttention:
    heads = fields.count("num_attention_heads")
    dim = head_dim(fields, computed=computed_head_dim)
    return GroupedAttention(
        heads=heads,
        kv_heads=divisor(fields, "num_key_value_heads", heads, "num_attention_heads"),
        head_dim=dim,
        head_dim_v=dim,
        window=window,
        qk_norm=qk_norm,
        qkv_bias=qkv_bias,
        out_bias=out_bias,
        sinks=sinks,
    )


def _stack(attention: Sequence[GroupedAttention], ffns: Sequence[Ffn]) -> list[Layer]:
    return [Layer(index, mixer, ffn) for index, (mixer, ffn) in enumerate(zip(attention, ffns, strict=True))]


def _sliding(fields: Fields, layers: int) -> list[int | None]:
    """Window of every layer of a Qwen-style decoder, whose `sliding_window` counts only when it is switched on."""
    if not fields.flag("use_sliding_window", False) or not fields.has("sliding_window"):
        return [None] * layers
    window = fields.count("sliding_window")
    if fields.has("layer_types"):
        kinds = fields.list_of("layer_types", str, at_least=layers)
        return [window if kind == "sliding_attention" else None for kind in kinds]
    first = fields.count("max_window_layers", least=0)
    return [window if index >= first else None for index in range(layers)]


def llama(fields: Fields) -> ModelConfig:
    """Llama 2 and 3, Mistral: dense, no query/key norm, a window in all layers where the file has one."""
    layers = layer_count(fields)
    window = None if "layer_types" in fields.values else fields.count_or("sliding_window", 0) or None
    bias = fields.flag("attention_bias", False)
    attention = _attention(fields, computed_head_dim=True, qkv_bias=bias, out_bias=bias, window=window)
    ffn = DenseFfn(fields.count("intermediate_size"), bias=fields.flag("mlp_bias", False))
    return assemble(fields, family="llama", layers=_stack([attention] * layers, [ffn] * layers), tied=False)


def qwen2(fields: Fields) -> ModelConfig:
    """Qwen2 and MiMo: dense, with biases on queries, keys and values."""
    layers = layer_count(fields)
    attention = [
        _attention(fields, computed_head_dim=True, qkv_bias=True, window=window) for window in _sliding(fields, layers)
    ]
    ffn = DenseFfn(fields.count("intermediate_size"))
    stack = _stack(attention, [ffn] * layers)
    mtp = fields.count_or("num_nextn_predict_layers", 0)
    return assemble(
        fields, family=fields.family, layers=stack, tied=False, mtp_layers=numbered_mtp(mtp, layers, stack[-1])
    )


def _qwen3_attention(fields: Fields, layers: int, *, computed: bool) -> list[GroupedAttention]:
    bias = fields.flag("attention_bias", False)
    return [
        _attention(
            fields,
            computed_head_dim=computed,
            qk_norm=QkNorm.PER_HEAD,
            qkv_bias=bias,
            out_bias=bias,
            window=window,
        )
        for window in _sliding(fields, layers)
    ]


def qwen3(fields: Fields) -> ModelConfig:
    """Qwen3: dense, with a norm on the queries and keys of each head."""
    layers = layer_count(fields)
    ffn = DenseFfn(fields.count("intermediate_size"))
    attention = _qwen3_attention(fields, layers, computed=False)
    return assemble(fields, family="qwen3", layers=_stack(attention, [ffn] * layers), tied=False)


def qwen_sparse(fields: Fields, layers: int) -> list[bool]:
    """Which layers of a Qwen decoder hold experts."""
    step = fields.count_or("decoder_sparse_step", 1, least=1)
    dense = set(fields.whole_list("mlp_only_layers", int))
    return [index not in dense and (index + 1) % step == 0 for index in range(layers)]


def qwen3_moe(fields: Fields) -> ModelConfig:
    """Qwen3-MoE: Qwen3 attention, experts in every `decoder_sparse_step`-th layer."""
    layers = layer_count(fields)
    expert = MoeFfn(
        experts=fields.count_any("num_experts", "num_local_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=fields.count("moe_intermediate_size"),
    )
    ffns = choose(qwen_sparse(fields, layers), expert, None, fields)
    attention = _qwen3_attention(fields, layers, computed=True)
    return assemble(fields, family="qwen3_moe", layers=_stack(attention, ffns), tied=False)


def qwen2_moe(fields: Fields) -> ModelConfig:
    """Qwen2-MoE: biases on queries, keys and values; a gated shared expert."""
    layers = layer_count(fields)
    bias = fields.flag("qkv_bias", True)
    attention = [
        _attention(fields, computed_head_dim=True, qkv_bias=bias, window=window) for window in _sliding(fields, layers)
    ]
    expert = MoeFfn(
        experts=fields.count("num_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=fields.count("moe_intermediate_size"),
        shared_intermediate=fields.count("shared_expert_intermediate_size"),
        shared_gate=True,
    )
    ffns = choose(qwen_sparse(fields, layers), expert, None, fields)
    return assemble(fields, family="qwen2_moe", layers=_stack(attention, ffns), tied=False)


def mixtral(fields: Fields) -> ModelConfig:
    """Mixtral: experts in every layer."""
    layers = layer_count(fields)
    attention = _attention(fields, computed_head_dim=True, window=fields.count_or_none("sliding_window"))
    expert = MoeFfn(
        experts=fields.count("num_local_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=fields.count("intermediate_size"),
    )
    return assemble(fields, family="mixtral", layers=_stack([attention] * layers, [expert] * layers), tied=False)


def minimax_m2(fields: Fields) -> ModelConfig:
    """MiniMax-M2: experts in every layer, one norm over the queries and keys of all heads."""
    layers = layer_count(fields)
    if fields.has("attn_type_list"):
        kinds = fields.list_of("attn_type_list", int, at_least=layers)
        for number, kind in enumerate(kinds):
            if kind != 1:
                raise fields.wrong(
                    f"attn_type_list[{number}]", Sentence("attention type {} is not supported, only 1 (full)", (kind,))
                )
    norm = QkNorm.ALL_HEADS if fields.flag("use_qk_norm", True) else QkNorm.NONE
    kind_of_norm = fields.text_or_none("qk_norm_type")
    if norm is QkNorm.ALL_HEADS and kind_of_norm not in (None, "per_layer"):
        raise fields.wrong("qk_norm_type", Sentence("{!r} is not supported, only 'per_layer'", (kind_of_norm,)))
    attention = _attention(fields, computed_head_dim=False, qk_norm=norm)
    expert = MoeFfn(
        experts=fields.count("num_local_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=fields.count("intermediate_size"),
        shared_intermediate=fields.count_or("shared_intermediate_size", 0),
    )
    stack = _stack([attention] * layers, [expert] * layers)
    modules = fields.count_or("num_mtp_modules", 0) if fields.flag("use_mtp", False) else 0
    mtp = modules * fields.count_or("mtp_transformer_layers", 1)
    return assemble(
        fields, family="minimax_m2", layers=stack, tied=False, mtp_layers=numbered_mtp(mtp, layers, stack[-1])
    )


def gpt_oss(fields: Fields) -> ModelConfig:
    """gpt-oss: alternating sliding and full attention with sinks, biases everywhere."""
    layers = layer_count(fields)
    window = fields.count("sliding_window")
    attention = []
    for number, kind in enumerate(fields.list_of("layer_types", str, at_least=layers)):
        if kind not in ("sliding_attention", "full_attention"):
            raise fields.wrong(f"layer_types[{number}]", Sentence("{!r} is not an attention of gpt_oss", (kind,)))
        attention.append(
            _attention(
                fields,
                computed_head_dim=False,
                qkv_bias=fields.flag("attention_bias", True),
                out_bias=fields.flag("attention_bias", True),
                window=window if kind == "sliding_attention" else None,
                sinks=True,
            )
        )
    expert = MoeFfn(
        experts=fields.count("num_local_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=fields.count("intermediate_size"),
        router_biases=1,
        expert_bias=True,
    )
    return assemble(fields, family="gpt_oss", layers=_stack(attention, [expert] * layers), tied=False)


def glm4_moe(fields: Fields) -> ModelConfig:
    """GLM-4.5 and later with grouped-query attention: first layers dense, then experts beside a shared one."""
    layers = layer_count(fields)
    attention = _attention(
        fields,
        computed_head_dim=True,
        qk_norm=QkNorm.PER_HEAD if fields.flag("use_qk_norm", False) else QkNorm.NONE,
        qkv_bias=fields.flag("attention_bias", False),
    )
    expert = expert_ffn(fields, fields.count("n_shared_experts", least=0))
    sparse = moe_layers(fields, layers, fields.count("first_k_dense_replace", least=0))
    stack = _stack([attention] * layers, choose(sparse, expert, None, fields))
    mtp = fields.count_or("num_nextn_predict_layers", 0)
    return assemble(
        fields, family="glm4_moe", layers=stack, tied=False, mtp_layers=numbered_mtp(mtp, layers, stack[-1])
    )


def mimo_v2(fields: Fields) -> ModelConfig:
    """MiMo-V2-Flash: sliding layers with key/value heads and sinks of their own, values narrower than keys."""
    layers = layer_count(fields)
    sliding = [flag == 1 for flag in fields.list_of("hybrid_layer_pattern", int, at_least=layers)]
    sparse = [flag == 1 for flag in fields.list_of("moe_layer_freq", int, at_least=layers)]
    attention = []
    for is_sliding in sliding:
        prefix = "swa_" if is_sliding else ""
        heads = fields.count(f"{prefix}num_attention_heads")
        attention.append(
            GroupedAttention(
                heads=heads,
                kv_heads=divisor(fields, f"{prefix}num_key_value_heads", heads, f"{prefix}num_attention_heads"),
                head_dim=fields.count(f"{prefix}head_dim"),
                head_dim_v=fields.count(f"{prefix}v_head_dim"),
                window=fields.count("sliding_window") if is_sliding else None,
                sinks=fields.flag(
                    "add_swa_attention_sink_bias" if is_sliding else "add_full_attention_sink_bias", False
                ),
                qkv_bias=fields.flag("attention_bias", False),
            )
        )
    expert = expert_ffn(fields, fields.count_or("n_shared_experts", 0))
    stack = _stack(attention, choose(sparse, expert, None, fields))
    return assemble(fields, family="mimo_v2_flash", layers=stack, tied=False)


def step3(fields: Fields) -> ModelConfig:
    """Step-3: one key/value head, queries of low rank, experts in the layers that `moe_layers_enum` names."""
    layers, heads, dim = layer_count(fields), fields.count("num_attention_heads"), fields.count("head_dim")
    attention = GroupedAttention(
        heads=heads,
        kv_heads=fields.count_or("num_attention_groups", 1, least=1),
        head_dim=dim,
        head_dim_v=dim,
        q_rank=fields.count_or("share_q_dim", dim, least=1),
    )
    expert = MoeFfn(
        experts=fields.count("moe_num_experts"),
        per_token=fields.count("moe_top_k"),
        intermediate=fields.count("moe_intermediate_size"),
        shared_intermediate=fields.count("share_expert_dim", least=0),
    )
    named = (
        fields.text_or_none("moe_layers_enum") if not isinstance(fields.values.get("moe_layers_enum"), list) else None
    )
    if named is not None:
        try:
            held = {int(number) for number in named.split(",")}
        except ValueError:
            raise fields.wrong(
                "moe_layers_enum", Sentence("must be numbers between commas, found {!r:.40}", (named,))
            ) from None
    elif fields.has("moe_layers_enum"):
        held = set(fields.whole_list("moe_layers_enum", int))
    else:
        held = set(range(4, 60))
        fields.noted.append("moe_layers_enum = 4 to 59: not in the file, default of Step3TextConfig in vllm 0.33.0")
    ffns = choose([index in held for index in range(layers)], expert, None, fields)
    return assemble(
        fields,
        family=fields.family,
        layers=_stack([attention] * layers, ffns),
        tied=False,
        positions=("max_position_embedding", "max_position_embeddings"),
    )
