"""
Latent caches that are on the dies in part only: layers of a prefill that share buffers, and decoding that fetches the
tokens it picked.

Both are options of vllm-ascend for models with latents (MLA, SFA); `cache_tiers.json` has their rules with sources.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.deployment.cache_tiers import prefill_curve
from memplan.deployment.cases import Case
from memplan.hardware import links
from memplan.hardware.host import host_link
from memplan.kv.budget_parts import KvBudget
from memplan.kv.kept_entries import cache_parts, entry_bytes
from memplan.models.cache_parts import CacheContent
from memplan.models.mixers.latent_attention import LatentAttention

_LATENTS = {CacheContent.LATENT, CacheContent.INDEX_KEYS}


def _source(what: str) -> str:
    return str(table("memplan.deployment", "cache_tiers.json")[what]["source"])


@dataclass(frozen=True, slots=True)
class LayerwiseReuse:
    """
    Layers of a prefill that share few buffers, their caches kept in a pool (`layerwise_num_shared_buffers`).

    `factor` more tokens fit; with `buffers` a layer's load and save are done while the other buffers' layers compute,
    for chunks of `chunk` tokens after `context` cached ones. Nanoseconds of one layer.
    """

    layers: int
    buffers: int
    factor: float
    chunk: int
    context: int
    load_ns: float
    save_ns: float
    compute_ns: float
    hidden: bool
    source: str


def layerwise_reuse(case: Case, budget: KvBudget) -> LayerwiseReuse:
    """
    How many buffers a prefill of the case needs to hide its transfers.

    Raises `InputError` for models without a latent cache and for chips whose link's rate is not known.
    """
    parts = cache_parts(case.model)
    if not parts or not {part.content for part in parts} <= _LATENTS:
        raise InputError(f"layers of {case.model.name} can't share buffers", remedy="only latent caches (MLA, SFA) can")
    known = {item.name: item for item in links(case.chip)}
    inward, outward = known["h2d"], known["d2h"]
    if not inward.bytes_per_second or not outward.bytes_per_second:
        raise InputError(f"the rate of the host's link of {case.chip.name} is not known")
    layers = len(case.model.layers)
    chunk = min(case.started().options.batched_tokens or case.engine.batched_tokens, budget.context)
    cached = budget.context - chunk
    token = budget.bytes_per_token / layers
    load = token * cached / inward.bytes_per_second * 1e9
    save = token * chunk / outward.bytes_per_second * 1e9
    curve = replace(prefill_curve(case, budget.context), cached=cached)
    point = curve.reading(chunk)
    compute = (point.duration_ns - point.overhead_ns) / layers
    needed = 1 + math.ceil((load + save) / compute)
    buffers = max(2, min(needed, layers - 1))
    return LayerwiseReuse(
        layers, buffers, layers / (1 + min(buffers, layers - 1)), chunk, budget.context, load, save, compute,
        load <= compute and save <= compute, _source("layerwise"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SparseOffload:
    """
    Latent caches of decoding sequences in host memory, on the die the indexer's keys and a buffer of picked tokens.

    `buffer_tokens` for each layer and sequence; `sequences` on a die and `host_sequences` that `host_bytes` of a
    replica hold: the smaller runs. If a share of the picked tokens has to be fetched, a step takes that share of
    `fetch_ns` more.
    """

    buffer_tokens: int
    picked: int
    device_bytes: int
    host_sequence_bytes: int
    host_bytes: int
    sequences: int
    host_sequences: int
    before: int
    fetch_ns: float
    source: str


def sparse_offload(case: Case, budget: KvBudget, host_bytes: int) -> SparseOffload:
    """
    What `host_bytes` of a replica add where attention reads picked tokens only.

    Raises `InputError` for models without an indexer, and where the link's rate is not known.
    """
    mixers = [layer.mixer for layer in case.model.layers]
    picked = [item.indexer.topk for item in mixers if isinstance(item, LatentAttention) and item.indexer is not None]
    if not picked or not {part.content for part in cache_parts(case.model)} <= _LATENTS:
        raise InputError(
            f"{case.model.name} has no indexer over latents", remedy="sparse offload needs one (DeepSeek-V3.2, GLM-5)"
        )
    rate = host_link(case.chip, case.layout.tensor).bytes_per_second
    if not rate:
        raise InputError(f"the rate of the host's link of {case.chip.name} is not known")
    latent, index = _split(case, budget)
    block = case.options.caches.block_size or 128
    buffer = -(-2 * picked[0] // block) * block
    device = round(index * budget.context + latent * buffer)
    whole = round(latent * budget.context)
    return SparseOffload(
        buffer_tokens=buffer,
        picked=picked[0],
        device_bytes=device,
        host_sequence_bytes=whole,
        host_bytes=host_bytes,
        sequences=budget.available_bytes // max(1, device),
        host_sequences=host_bytes // max(1, whole),
        before=budget.sequences,
        fetch_ns=latent * picked[0] / rate * 1e9,
        source=_source("sparse"),
    )


def _split(case: Case, budget: KvBudget) -> tuple[float, float]:
    """Bytes a token of all layers' latents and of their indexers' keys on a die; pages are divided as contents are."""
    latent = index = 0
    for part in cache_parts(case.model):
        size = entry_bytes(part, case.engine, case.options.caches, case.layout)
        if part.content is CacheContent.LATENT:
            latent += size
        else:
            index += size
    token = budget.bytes_per_token / (latent + index)
    return token * latent, token * index
