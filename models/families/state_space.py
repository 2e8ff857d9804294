"""Decoders of state spaces and convolutions: Mamba, Mamba-2, Falcon-Mamba, Jamba, Falcon-H1, LFM2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, choose, divisor, head_dim
from memplan.models.feed_forward import DenseFfn, Ffn, MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm
from memplan.models.mixers.parallel_mixer import ParallelMixer
from memplan.models.mixers.recurrent_mixers import Mamba1, Mamba2, ShortConvolution


def _state_dtype(fields: Fields) -> str:
    return fields.text_or_none("mamba_ssm_cache_dtype") or "auto"


def _step_rank(fields: Fields, name: str) -> int:
    """The rank of the step; `auto` is a sixteenth of the width, as in the configuration classes."""
    if fields.has(name) and fields.values[name] != "auto":
        return fields.count(name)
    return -(-fields.count("hidden_size") // 16)


def _stacked(fields: Fields, mixer: TokenMixer, *, tied: bool) -> ModelConfig:
    """A stack of one mixer, each behind a norm, without feed-forward parts."""
    layers = [Layer(index, mixer, None, norms=1) for index in range(layer_count(fields))]
    return assemble(fields, family=fields.family, layers=layers, tied=tied)


def selective_mamba(fields: Fields) -> ModelConfig:
    """Mamba and Falcon-Mamba; the norms of the latter's steps have no weights."""
    given = fields.count_or("intermediate_size", 0)
    mixer = Mamba1(
        inner=given or fields.count_or("expand", 2, least=1) * fields.count("hidden_size"),
        state=fields.count("state_size"),
        step_rank=_step_rank(fields, "time_step_rank"),
        conv_kernel=fields.count_or("conv_kernel", 4, least=2),
        conv_bias=fields.flag("use_conv_bias", True),
        proj_bias=fields.flag("use_bias", False),
        state_dtype=_state_dtype(fields),
    )
    return _stacked(fields, mixer, tied=True)


def mamba2(fields: Fields) -> ModelConfig:
    """Mamba-2."""
    mixer = Mamba2(
        heads=fields.count("num_heads"),
        head_dim=fields.count("head_dim"),
        groups=fields.count("n_groups"),
        state=fields.count("state_size"),
        conv_kernel=fields.count_or("conv_kernel", 4, least=2),
        conv_bias=fields.flag("use_conv_bias", True),
        proj_bias=fields.flag("use_bias", False),
        state_dtype=_state_dtype(fields),
        chunk=fields.count_or("chunk_size", 256, least=1),
    )
    return _stacked(fields, mixer, tied=False)


def _grouped(fields: Fields, *, bias: bool, qk_norm: QkNorm = QkNorm.NONE) -> GroupedAttention:
    heads, dim = fields.count("num_attention_heads"), head_dim(fields, computed=True)
    kv_heads = divisor(fields, "num_key_value_heads", heads, "num_attention_heads")
    return GroupedAttention(heads, kv_heads, dim, dim, qk_norm=qk_norm, qkv_bias=bias, out_bias=bias)


def _every(fields: Fields, layers: int, kind: str, *, period: int, offset: int) -> list[bool]:
    """Whether each layer is one of `kind`, of which there is one in every period."""
    step = fields.count_or(f"{kind}_layer_period", period, least=1)
    start = fields.count_or(f"{kind}_layer_offset", offset)
    return [index % step == start for index in range(layers)]


def jamba(fields: Fields) -> ModelConfig:
    """Jamba: attention in one layer of eight, Mamba in the others, experts in every second one."""
    layers = layer_count(fields)
    state_space = Mamba1(
        inner=fields.count_or("mamba_expand", 2, least=1) * fields.count("hidden_size"),
        state=fields.count("mamba_d_state"),
        step_rank=_step_rank(fields, "mamba_dt_rank"),
        conv_kernel=fields.count("mamba_d_conv", least=2),
        conv_bias=fields.flag("mamba_conv_bias", True),
        proj_bias=fields.flag("mamba_proj_bias", False),
        state_dtype=_state_dtype(fields),
        small_norms=True,
    )
    attention, dense = _grouped(fields, bias=False), DenseFfn(fields.count("intermediate_size"))
    experts = fields.count_or("num_experts", 16, least=1)
    expert: Ffn = dense
    if experts > 1:
        expert = MoeFfn(experts, fields.count("num_experts_per_tok"), fields.count("intermediate_size"))
    ffns = choose(_every(fields, layers, "expert", period=2, offset=1), expert, dense, fields)
    attends = _every(fields, layers, "attn", period=8, offset=4)
    stack = [
        Layer(index, attention if here else state_space, ffn)
        for index, (here, ffn) in enumerate(zip(attends, ffns, strict=True))
    ]
    return assemble(fields, family=fields.family, layers=stack, tied=False)


def falcon_h1(fields: Fields) -> ModelConfig:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    hidden, heads = fields.count("hidden_size"), fields.count("mamba_n_heads")
    # A null is the multiplied width, nothing said the configuration class's default.
    widened = fields.count_or("mamba_expand", 2, least=1) * hidden
    inner = fields.count_or("mamba_d_ssm", widened if "mamba_d_ssm" in fields.values else 1024, least=1)
    if inner % heads:
        raise fields.wrong(
            "mamba_n_heads", Sentence("{} does not divide the width of the state space, {}", (heads, inner))
        )
    mixer = ParallelMixer(
        _grouped(fields, bias=fields.flag("attention_bias", False)),
        Mamba2(
            heads=heads,
            head_dim=inner // heads,
            groups=fields.count("mamba_n_groups"),
            state=fields.count("mamba_d_state"),
            conv_kernel=fields.count("mamba_d_conv", least=2),
            conv_bias=fields.flag("mamba_conv_bias", True),
            proj_bias=fields.flag("mamba_proj_bias", False),
            state_dtype=_state_dtype(fields),
            out_bias=fields.flag("projectors_bias", False),
            normed=fields.flag("mamba_rms_norm", False),
            chunk=fields.count_or("mamba_chunk_size", 256, least=1),
        ),
    )
    ffn = DenseFfn(fields.count("intermediate_size"), bias=fields.flag("mlp_bias", False))
    stack = [Layer(index, mixer, ffn) for index in range(layer_count(fields))]
    return assemble(fields, family=fields.family, layers=stack, tied=False)


def _lfm2_width(fields: Fields) -> int:
    """The width of feed-forward parts: that of the file, or what its rule makes of it (Lfm2MLP)."""
    width = fields.count_any("block_ff_dim", "intermediate_size")
    if not fields.flag("block_auto_adjust_ff_dim", True):
        return width
    times = fields.number("block_ffn_dim_multiplier") if fields.has("block_ffn_dim_multiplier") else 1.0
    step = fields.count_or("block_multiple_of", 256, least=1)
    return -(-int(times * int(2 * width / 3)) // step) * step


def _lfm2_kinds(fields: Fields, layers: int) -> Sequence[str]:
    if fields.has("layer_types"):
        kinds = fields.list_of("layer_types", str, at_least=layers)
        for number, kind in enumerate(kinds):
            if kind not in ("conv", "full_attention"):
                raise fields.wrong(
                    f"layer_types[{number}]", Sentence("{!r:.40} is no kind of layer of {}", (kind, fields.family))
                )
        return kinds
    attends = set(fields.whole_list("full_attn_idxs", int)) if fields.has("full_attn_idxs") else set(range(layers))
    return ["full_attention" if index in attends else "conv" for index in range(layers)]


def lfm2(fields: Fields) -> ModelConfig:
    """LFM2, dense or with experts behind the first layers: gated short convolutions with full attention between."""
    layers = layer_count(fields)
    attention = _grouped(fields, bias=False, qk_norm=QkNorm.PER_HEAD)
    width = fields.count("hidden_size")
    convolution = ShortConvolution(width, fields.count("conv_L_cache", least=2), fields.flag("conv_bias", False))
    if fields.family == "lfm2_moe":
        expert = MoeFfn(
            fields.count("num_experts"), fields.count("num_experts_per_tok"), fields.count("moe_intermediate_size")
        )
        first = fields.count("num_dense_layers", least=0)
        ffns = choose([index >= first for index in range(layers)], expert, None, fields)
    else:
        ffns = [DenseFfn(_lfm2_width(fields))] * layers
    stack = [
        Layer(index, attention if kind == "full_attention" else convolution, ffn)
        for index, (kind, ffn) in enumerate(zip(_lfm2_kinds(fields, layers), ffns, strict=True))
    ]
    model = assemble(fields, family=fields.family, layers=stack, tied=True)
    return replace(model, tied_embeddings=fields.flag("tie_embedding", model.tied_embeddings))
