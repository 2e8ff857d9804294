"""Decoders with multi-head latent attention (MLA), with or without an indexer that picks the tokens (DSA)."""

from __future__ import annotations

from dataclasses import replace

from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, choose, expert_ffn, moe_layers, numbered_mtp
from memplan.models.feed_forward import DenseFfn, MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.latent_attention import Indexer, LatentAttention


def _build(fields: Fields, mixers: list[LatentAttention], drafting: LatentAttention | None = None) -> ModelConfig:
    layers = len(mixers)
    frequency = fields.count_or("moe_layer_freq", 1, least=1)
    sparse = moe_layers(fields, layers, fields.count("first_k_dense_replace", least=0), frequency)
    ffns = choose(sparse, expert_ffn(fields, fields.count_or("n_shared_experts", 0)), None, fields)
    stack = [Layer(index, mixer, ffn) for index, (mixer, ffn) in enumerate(zip(mixers, ffns, strict=True))]
    last = stack[-1] if drafting is None else replace(stack[-1], mixer=drafting)
    mtp = numbered_mtp(fields.count_or("num_nextn_predict_layers", 0), layers, last)
    return assemble(fields, family=fields.family, layers=stack, tied=False, mtp_layers=mtp)


def latent_mixer(fields: Fields, indexer: Indexer | None = None, shared: Indexer | None = None) -> LatentAttention:
    """Latent attention under DeepSeek's names."""
    return LatentAttention(
        heads=fields.count("num_attention_heads"),
        q_lora_rank=fields.count_or_none("q_lora_rank"),
        kv_lora_rank=fields.count("kv_lora_rank"),
        nope_dim=fields.count("qk_nope_head_dim"),
        rope_dim=fields.count("qk_rope_head_dim", least=0),
        v_dim=fields.count("v_head_dim"),
        indexer=indexer,
        shared_indexer=shared,
        bias=fields.flag("attention_bias", False),
    )


def deepseek(fields: Fields) -> ModelConfig:
    """DeepSeek-V2, V3 and R1, Kimi-K2: latent attention, first layers dense, then experts."""
    return _build(fields, [latent_mixer(fields)] * layer_count(fields))


def deepseek_sparse(fields: Fields) -> ModelConfig:
    """DeepSeek-V3.2 and GLM-5: latent attention over the tokens an indexer picks, shared between layers in GLM-5.2."""
    layers = layer_count(fields)
    fields.count("q_lora_rank")
    indexer = Indexer(fields.count("index_n_heads"), fields.count("index_head_dim"), fields.count("index_topk"))
    kinds = ["full"] * layers
    if fields.has("indexer_types"):
        kinds = list(fields.list_of("indexer_types", str, at_least=layers))
        for number, kind in enumerate(kinds):
            if kind not in ("full", "shared"):
                raise fields.wrong(f"indexer_types[{number}]", Sentence("{!r} is neither 'full' nor 'shared'", (kind,)))
        if kinds[0] == "shared":
            raise fields.wrong("indexer_types[0]", "the first layer has no earlier indexer to share")
    full, sharing = latent_mixer(fields, indexer), latent_mixer(fields, None, indexer)
    mixers = [full if kind == "full" else sharing for kind in kinds]
    # Layers of multi-token prediction pick tokens themselves, whatever the decoder's last layer shares.
    return _build(fields, mixers, drafting=full)


def pangu_ultra_moe(fields: Fields) -> ModelConfig:
    """openPangu-Ultra-MoE-718B: latent attention, in older files under names of its own."""
    layers = layer_count(fields)
    attention = LatentAttention(
        heads=fields.count("num_attention_heads"),
        q_lora_rank=fields.count_any("attention_q_lora_dim", "q_lora_rank"),
        kv_lora_rank=fields.count_any("attention_kv_lora_dim", "kv_lora_rank"),
        nope_dim=fields.count_any("attention_qk_dim", "qk_nope_head_dim"),
        rope_dim=fields.count_any("attention_qk_rope_dim", "qk_rope_head_dim"),
        v_dim=fields.count_any("attention_v_dim", "v_head_dim"),
    )
    intermediate = fields.count("moe_intermediate_size")
    expert = MoeFfn(
        experts=fields.count_any("num_routed_experts", "n_routed_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=intermediate,
        shared_intermediate=intermediate * fields.count_any("num_shared_experts", "n_shared_experts", least=0),
    )
    dense = fields.count_any("num_dense_layers", "first_k_dense_replace", least=0)
    ffns = choose(moe_layers(fields, layers, dense), expert, None, fields)
    norms = 4 if fields.flag("sandwich_norm", False) else 2
    stack = [Layer(index, attention, ffn, norms) for index, ffn in enumerate(ffns)]
    drafts = fields.count_or("num_mtp_layers", 0) or fields.count_or("num_nextn_predict_layers", 0)
    mtp = numbered_mtp(drafts, layers, stack[-1])
    return assemble(fields, family="pangu_ultra_moe", layers=stack, tied=False, mtp_layers=mtp)


def longcat_flash(fields: Fields) -> ModelConfig:
    """
    LongCat-Flash: two attentions and two dense parts a layer, experts beside the second, some of which do nothing.

    Each half of a layer is a layer here, with its cache.
    """
    attention, dense = latent_mixer(fields), DenseFfn(fields.count("ffn_hidden_size"))
    expert = MoeFfn(
        experts=fields.count("n_routed_experts"),
        per_token=fields.count("moe_topk"),
        intermediate=fields.count("expert_ffn_hidden_size"),
        dense_intermediate=dense.intermediate,
        idle_experts=fields.count("zero_expert_num", least=0),
    )
    halves = 2 * layer_count(fields, "num_layers" if fields.has("num_layers") else "num_hidden_layers")
    stack = [Layer(index, attention, expert if index % 2 else dense) for index in range(halves)]
    # What predicts further tokens is one attention and one dense part (arXiv 2509.01322, section 2.3).
    mtp = numbered_mtp(fields.count_or("num_nextn_predict_layers", 0), halves, Layer(halves, attention, dense))
    return assemble(fields, family=fields.family, layers=stack, tied=False, mtp_layers=mtp)
