"""Qwen3.8-Flash-Next: gated delta nets, attention over pooled blocks, n-gram tables, low-rank hyper-connections."""

from __future__ import annotations

from dataclasses import replace

from memplan.core.sentence import Sentence
from memplan.models.architecture import HyperConnections, Layer, LookupTable, ModelConfig
from memplan.models.families.common import assemble, divisor, indexed_layers, numbered_mtp
from memplan.models.families.linear import delta_net
from memplan.models.feed_forward import MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm
from memplan.models.mixers.latent_attention import Indexer

_INDEXER = ("indexer_n_heads", "indexer_head_dim", "indexer_budget", "indexer_compress_ratio")


def _is_prime(value: int) -> bool:
    return value > 1 and all(value % divisor for divisor in range(2, int(value**0.5) + 1))


def _rows(base: int, hashes: int, tables: int, padded_to: int) -> list[int]:
    """
    Rows of each table: every hash of every table has a prime of its own from `base` on (vllm 0.33.0
    models/qwen4_exp/common/ngram_embedding.py).
    """
    found: list[int] = []
    value = base
    while len(found) < hashes * tables:
        if _is_prime(value):
            found.append(value)
        value += 1
    whole = [sum(found[hashes * number : hashes * (number + 1)]) for number in range(tables)]
    return [-(-rows // padded_to) * padded_to for rows in whole]


def _tables(fields: Fields, layers: int) -> dict[int, LookupTable]:
    """The n-gram table of each layer that has one; `ple_layer_ids` count layers from one."""
    owners = sorted(set(fields.whole_list("ple_layer_ids", int))) if fields.has("ple_layer_ids") else []
    if not owners:
        return {}
    for number, layer in enumerate(owners):
        if not 1 <= layer <= layers:
            raise fields.wrong(f"ple_layer_ids[{number}]", Sentence("there is no layer {} among {}", (layer, layers)))
    longest = fields.count_or("ngram_size", 3, least=2)
    hashes = (longest - 1) * fields.count_or("heads_per_ngram", 8, least=1)
    width = fields.count_or("ple_embed_dim", fields.count("hidden_size"), least=1)
    if width % hashes:
        raise fields.wrong("ple_embed_dim", Sentence("{} does not divide among {} [hash|hashes]", (width, hashes)))
    base = fields.count_or("ngram_vocab_size_base", 20_000_000, least=2)
    if hashes * len(owners) > 4096 or base > 2**36:
        raise fields.wrong(
            "ngram_vocab_size_base",
            Sentence("{} [hash|hashes] from {} [row|rows] on are too many", (hashes * len(owners), base)),
        )
    rows = _rows(base, hashes, len(owners), fields.count_or("make_ngram_vocab_size_divisible_by", 128, least=1))
    kernel = fields.count_or("ple_conv_kernel_size", 4, least=1)
    return {
        layer - 1: LookupTable(count, width // hashes, hashes, kernel, longest, by_row=True)
        for layer, count in zip(owners, rows, strict=True)
    }


def qwen4_exp(fields: Fields) -> ModelConfig:
    """
    Qwen3.8-Flash-Next: three layers of gated delta net to one of gated attention whose indexer keeps one key for
    `indexer_compress_ratio` tokens; experts everywhere; some layers look n-grams up.
    """
    layers = layer_count(fields)
    heads = fields.count("num_attention_heads")
    indexer = None
    if any(fields.has(name) for name in _INDEXER):
        count, width, budget, pool = (fields.count(name) for name in _INDEXER)
        indexer = Indexer(count, width, budget, pool, width)
    dim = fields.count("head_dim")
    full = GroupedAttention(
        heads=heads,
        kv_heads=divisor(fields, "num_key_value_heads", heads, "num_attention_heads"),
        head_dim=dim,
        head_dim_v=dim,
        qk_norm=QkNorm.PER_HEAD,
        gated=True,
        qkv_bias=fields.flag("attention_bias", False),
        out_bias=fields.flag("attention_bias", False),
        indexer=indexer,
    )
    delta, tables = delta_net(fields), _tables(fields, layers)
    expert = MoeFfn(
        experts=fields.count("num_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=fields.count("moe_intermediate_size"),
        shared_intermediate=fields.count("shared_expert_intermediate_size"),
        shared_gate=True,
    )
    # The norms before each part belong to the hyper-connections.
    stack = [
        Layer(index, full if attends else delta, expert, norms=0, lookup=tables.get(index))
        for index, attends in enumerate(indexed_layers(fields, layers))
    ]
    drafts = fields.count_or("mtp_num_hidden_layers", 0)
    mtp = numbered_mtp(drafts, layers, Layer(layers, full, expert, norms=0))
    model = assemble(fields, family=fields.family, layers=stack, tied=False, mtp_layers=mtp)
    streams = fields.count_or("hc_count", 4, least=2)
    hyper = HyperConnections(streams, low_rank=fields.count_or("hc_lowrank", 320, least=1))
    return replace(model, hyper=hyper, final_norm=False)
