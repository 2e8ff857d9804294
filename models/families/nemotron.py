"""Nemotron-H (Mamba-2, attention and feed-forward layers in turn) and Nemotron-NAS (Llama with layers pruned)."""

from __future__ import annotations

from collections.abc import Mapping

from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, divisor, numbered_mtp
from memplan.models.feed_forward import DenseFfn, Ffn, LinearFfn, MoeFfn
from memplan.models.fields import MOST_LAYERS, Fields, layer_count
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.grouped_attention import GroupedAttention, LinearMixer
from memplan.models.mixers.recurrent_mixers import Mamba2

_PATTERN: Mapping[str, str] = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}

_LATER_NAMES: Mapping[str, str] = {"linear_attention": "mamba", "full_attention": "attention"}
"""What transformers 5.20.2 NemotronHConfig writes for kinds of layers."""


def _listed(fields: Fields, name: str) -> list[str]:
    return [_LATER_NAMES.get(kind, kind) for kind in fields.whole_list(name, str)]


def _named_kinds(fields: Fields, prefix: str = "") -> tuple[str, list[str]]:
    """The kinds of layers that the file lists or writes as letters, and the field that does; none where none does."""
    name = f"{prefix}layers_block_type"
    if fields.has(name):
        kinds = _listed(fields, name)
    else:
        name = f"{prefix}hybrid_override_pattern"
        pattern = fields.text_or_none(name) or ""
        unknown = next((letter for letter in pattern if letter not in _PATTERN), None)
        if unknown is not None:
            raise fields.wrong(
                name, Sentence("{!r} is no kind of layer; the kinds are {}", (unknown, " ".join(_PATTERN)))
            )
        kinds = [_PATTERN[letter] for letter in pattern]
    for number, kind in enumerate(kinds):
        if kind not in _PATTERN.values():
            raise fields.wrong(f"{name}[{number}]", Sentence("{!r} is no kind of layer of {}", (kind, fields.family)))
    return name, kinds


def _kinds(fields: Fields) -> list[str]:
    name, kinds = _named_kinds(fields)
    if not kinds and not fields.has("layers_block_type"):
        raise fields.wrong(
            name, Sentence("is missing, and so is layers_block_type; the {} family needs one of them", (fields.family,))
        )
    if not 0 < len(kinds) <= MOST_LAYERS:
        raise fields.wrong(name, Sentence("describes {} [layer|layers]", (len(kinds),)))
    if fields.has("num_hidden_layers") and layer_count(fields) != len(kinds):
        raise fields.wrong(
            name, Sentence("describes {} [layer|layers], num_hidden_layers says {}", (len(kinds), layer_count(fields)))
        )
    return kinds


def _state_dtype(fields: Fields) -> str:
    given = fields.text_or_none("mamba_ssm_cache_dtype")
    if given is None:
        note = "mamba_ssm_cache_dtype = float32: not in the file, what vllm 0.23.0 sets for NemotronHForCausalLM"
        fields.noted[:] = [*(other for other in fields.noted if other != note), note]
    return given or "float32"


def _mamba(fields: Fields) -> Mamba2:
    return Mamba2(
        heads=fields.count("mamba_num_heads"),
        head_dim=fields.count("mamba_head_dim"),
        groups=fields.count("n_groups"),
        state=fields.count("ssm_state_size"),
        conv_kernel=fields.count("conv_kernel", least=2),
        conv_bias=fields.flag("use_conv_bias", True),
        proj_bias=fields.flag("mamba_proj_bias", False),
        state_dtype=_state_dtype(fields),
        chunk=fields.count_or("chunk_size", 128, least=1),
    )


def _attention(fields: Fields) -> GroupedAttention:
    heads = fields.count("num_attention_heads")
    dim = fields.count_any("attention_head_dim", "head_dim")
    bias = fields.flag("attention_bias", False)
    return GroupedAttention(
        heads=heads,
        kv_heads=divisor(fields, "num_key_value_heads", heads, "num_attention_heads"),
        head_dim=dim,
        head_dim_v=dim,
        qkv_bias=bias,
        out_bias=bias,
    )


def _experts(fields: Fields) -> MoeFfn:
    shared = fields.count("moe_shared_expert_intermediate_size", least=0)
    return MoeFfn(
        experts=fields.count("n_routed_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=fields.count("moe_intermediate_size"),
        shared_intermediate=shared * fields.count("n_shared_experts", least=0),
        gated=False,
        latent=fields.count_or_none("moe_latent_size"),
    )


def _layer(fields: Fields, index: int, kind: str) -> Layer:
    if kind == "mamba":
        return Layer(index, _mamba(fields), None, norms=1)
    if kind == "attention":
        return Layer(index, _attention(fields), None, norms=1)
    if kind == "moe":
        return Layer(index, None, _experts(fields), norms=1)
    bias = fields.flag("mlp_bias", False)
    return Layer(index, None, DenseFfn(fields.count("intermediate_size"), gated=False, bias=bias), norms=1)


def nemotron_h(fields: Fields) -> ModelConfig:
    """Nemotron-H and Nemotron 3: every layer is one of Mamba-2, attention, dense or experts."""
    kinds = _kinds(fields)
    stack = [_layer(fields, index, kind) for index, kind in enumerate(kinds)]
    # One prediction runs through all of them (vllm 0.33.0 nemotron_h_mtp.py `NemotronHMultiTokenPredictor`).
    further = _named_kinds(fields, "mtp_")[1]
    run = [_layer(fields, len(stack) + number, kind) for number, kind in enumerate(further)]
    mtp = numbered_mtp(fields.count_or("num_nextn_predict_layers", 0), len(stack), *run)
    return assemble(fields, family="nemotron_h", layers=stack, tied=False, mtp_layers=mtp, mtp_span=max(1, len(run)))


def _nas_attention(block: Fields, fields: Fields, heads: int, dim: int) -> TokenMixer | None:
    if block.flag("no_op", False):
        return None
    if block.flag("replace_with_linear", False):
        return LinearMixer()
    if block.has("sparsify"):
        raise block.wrong("sparsify", "sparsified attention is not supported")
    per_group = block.count("n_heads_in_group")
    if heads % per_group:
        raise block.wrong(
            "n_heads_in_group", Sentence("{} does not divide num_attention_heads = {}", (per_group, heads))
        )
    bias = fields.flag("attention_bias", False)
    return GroupedAttention(
        heads=heads,
        kv_heads=heads // per_group,
        head_dim=dim,
        head_dim_v=dim,
        window=block.count_or_none("window_length"),
        qkv_bias=bias,
        out_bias=bias,
    )


def _nas_ffn(block: Fields, hidden: int, fields: Fields) -> Ffn | None:
    if block.flag("no_op", False):
        return None
    if block.flag("replace_with_linear", False):
        return LinearFfn()
    if block.has("sparsify"):
        raise block.wrong("sparsify", "a sparsified feed-forward layer is not supported")
    # The published rule: two thirds of the multiplied width, up to the next multiple of 256.
    width = int(2 * block.number("ffn_mult") * hidden / 3)
    return DenseFfn(-(-width // 256) * 256, bias=fields.flag("mlp_bias", False))


def nemotron_nas(fields: Fields) -> ModelConfig:
    """Llama-Nemotron: each layer of `block_configs` keeps, thins out, replaces or drops attention and feed-forward."""
    layers = layer_count(fields)
    hidden, heads = (
        fields.count("hidden_size"),
        divisor(fields, "num_attention_heads", fields.count("hidden_size"), "hidden_size"),
    )
    stack = []
    for index in range(len(fields.list_of("block_configs", dict, at_least=layers))):
        block = Fields(
            fields.values["block_configs"][index],
            family=fields.family,
            path=fields.path,
            prefix=f"{fields.prefix}block_configs[{index}].",
        )
        mixer = _nas_attention(block.within("attention"), fields, heads, hidden // heads)
        ffn = _nas_ffn(block.within("ffn"), hidden, fields)
        stack.append(Layer(index, mixer, ffn, norms=(mixer is not None) + (ffn is not None)))
    return assemble(fields, family="nemotron-nas", layers=stack, tied=False)
