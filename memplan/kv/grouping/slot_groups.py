"""DeepSeek-V4.1's caches dealt to slots: one for each layer that keeps entries, in turn shared by windows and rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.kv.specs import CacheKind, CacheSpec


def slot_groups(specs: Sequence[CacheSpec]) -> list[tuple[CacheSpec, ...]]:
    """
    The members of each group, padded to the pages of their slots.

    A slot holds the entries of one layer with the keys to them, or instead the ring of a compressor or the window of a
    layer; it is as large as the largest of these. Entries are one group, rings another, then a window of every slot
    at a time, then those of drafts (vllm-ascend 0.30.0rc2 models/deepseek_v41/cache_config.py `get_layer_tuples`,
    `group_cache_specs`).
    """
    owners = list(dict.fromkeys(spec.layer for spec in specs if spec.kind is CacheKind.LATENT))
    kept = [[spec for spec in specs if spec.layer == owner and spec.kind is CacheKind.LATENT] for owner in owners]
    windows = [spec for spec in specs if spec.kind is CacheKind.SLIDING_LATENT]
    target = [spec for spec in windows if not spec.speculative]
    drafts = [spec for spec in windows if spec.speculative]
    rings = [spec for spec in specs if spec.kind is CacheKind.RING]
    dealt = [target[slot :: len(owners)] for slot in range(len(owners))]
    pages = [
        max(
            sum(spec.page_bytes for spec in entries),
            *(spec.page_bytes for spec in (*rings[slot : slot + 1], *dealt[slot], *drafts[slot : slot + 1])),
        )
        for slot, entries in enumerate(kept)
    ]

    def padded(members: Sequence[CacheSpec]) -> tuple[CacheSpec, ...]:
        return tuple(replace(spec, page_bytes=page) for spec, page in zip(members, pages, strict=False))

    filled: list[CacheSpec] = []
    for entries, page in zip(kept, pages, strict=True):
        *others, last = entries
        filled += [*others, replace(last, page_bytes=page - sum(spec.page_bytes for spec in others))]
    groups = [tuple(filled), padded(rings), *(padded(row) for row in zip(*dealt, strict=False)), padded(drafts)]
    return [members for members in groups if members]
