"""Pools of tokens beside compressed entries, as SGLang sizes them (pool_configurator.py DSV4PoolConfigurator)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memplan.core.units import round_up
from memplan.kv.engine import Engine
from memplan.kv.kept_entries import compressed_layout, engine_of
from memplan.kv.settings import ServingOptions
from memplan.kv.token_rules import TokenPoolRules, among
from memplan.models import ModelConfig
from memplan.models.architecture import Layer
from memplan.models.cache_parts import CacheContent, CachePart

_STATE_BYTES = 4
"""States of compressors are float32 (environ.py SGLANG_DSV4_COMPRESS_STATE_DTYPE)."""


@dataclass(frozen=True, slots=True)
class CompressedSizes:
    """
    What a token takes on one stage, windows included, and what does not grow with tokens.

    Windows have `window_cap` tokens, or `window_share` of all. `rows` are those of a compressor's ring by ratio, of
    compressed entries of `ratios`.
    """

    window_share: float
    window_cap: int | None
    per_token: float
    fixed: int
    rows: Mapping[int, int]
    ratios: tuple[int, ...]

    def tokens(self, room: int, page: int) -> int:
        """Tokens that `room` bytes hold, in whole pages."""
        return int(max(room - self.fixed, 0) / self.per_token) // page * page

    def window_tokens(self, full: int, page: int) -> int:
        """Tokens of windows beside `full` tokens."""
        return int(full * self.window_share) // page * page if self.window_cap is None else self.window_cap


def window_cap(
    rules: TokenPoolRules, options: ServingOptions, page: int, window: int, requests: int, prefill: int
) -> int:
    """Tokens of windows that so many requests and two prefills hold at most (compute_swa_request_cap), in pages."""
    drafts = options.caches.speculative_tokens
    decoded = page if not drafts else 2 * round_up(drafts + 1, page)
    held = window + rules.eviction_interval * (drafts + 1) + page + decoded
    return round_up(held * requests + 2 * prefill + page, page)


def keeps_entries(model: ModelConfig) -> bool:
    """Whether layers keep compressed entries beside windows."""
    return any(part.content is CacheContent.ENTRIES for layer in model.layers for part in _parts(layer))


def compressed_sizes(
    model: ModelConfig,
    engine: Engine,
    rules: TokenPoolRules,
    options: ServingOptions,
    page: int,
    span: range,
    requests: int,
) -> CompressedSizes | None:
    """
    What the layers of `span` keep where up to `requests` run at once; `None` for a model without compressed entries.

    Raises `InputError` where the engine has no way known to keep them.
    """
    parts = [part for index in span for part in _parts(model.layers[index]) if not part.reused]
    if not any(part.content is CacheContent.WINDOW for part in parts):
        return None
    kept = compressed_layout(engine_of(model, engine))
    drafts = options.caches.speculative_tokens
    owners: dict[int, int] = {}
    for part in parts:
        if part.content is CacheContent.ENTRIES:
            owners[part.ratio] = owners.get(part.ratio, 0) + 1
    latent = next(part for part in parts if part.content is CacheContent.WINDOW)
    keys = next((part.elements for part in parts if part.content is CacheContent.ENTRY_KEYS), 0)
    entry = next(iter(kept.formats.values())).size(latent.elements)
    key = kept.indexes[""].size(keys)
    rings = _rings(drafts)
    width, layers = latent.elements, len(span)
    state = 4 * (width + keys) * _STATE_BYTES
    window_token = entry * layers + rings[4] * (4 in owners) / page * state * owners.get(4, 0)
    share = 0 if among(model, rules.capped) else rules.compressed_share
    per_token = share * window_token
    for ratio in (4, 128, 1, 2):
        if ratio in owners:
            per_token += _entry_share(ratio, entry, key) * owners[ratio]
    if drafts:
        per_token *= (layers + 1) / layers
        window_token *= (layers + 1) / layers
    cap = None
    if among(model, rules.capped):
        window, prefill = latent.window or 0, options.batched_tokens or engine.batched_tokens
        cap = window_cap(rules, options, page, window, requests, prefill)
        cap += 4 * requests * (window + page) if options.prefix_caching else 0
    slots = requests + 1
    fixed = 0
    if 128 in owners:
        rows = round_up(slots * rings[128] + rings[128] + 1, 128)
        fixed += rows * 2 * width * _STATE_BYTES * owners[128]
    if 2 in owners:
        rows = round_up(slots * rings[2] + rings[2] + 1, 2)
        fixed += rows * 2 * width * _STATE_BYTES * owners[2]
    fixed += 0 if cap is None else int(cap * window_token)
    rows_of: dict[int, int] = {ratio: rings[ratio] for ratio in (4, 128) if ratio in owners}
    return CompressedSizes(share, cap, per_token, fixed, rows_of, tuple(sorted(owners)))


def _parts(layer: Layer) -> Sequence[CachePart]:
    return () if layer.mixer is None else layer.mixer.caches()


def _entry_share(ratio: int, entry: int, key: int) -> float:
    """Bytes a token adds to one layer of compressed entries (pool_configurator.py _compressed_bytes_per_full_token)."""
    if ratio in (1, 2):
        return (entry + key) / ratio
    if ratio == 4:
        return 1 / 4 * entry + 1 / 4 * key
    return 1 / ratio * entry


def _rings(drafts: int) -> dict[int, int]:
    """Rows of a compressor's ring by ratio (deepseek_v4_memory_pool.py get_compress_state_ring_size)."""
    if not drafts:
        return {2: 2, 4: 8, 128: 128}
    return {2: 1 << (drafts + 2).bit_length(), 4: 16, 128: 256}
