"""How an engine that deals its memory out in tokens does it: the figures and names that its formulas read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memplan.models import ModelConfig


@dataclass(frozen=True, slots=True)
class StartUpMemory:
    """
    What an engine schedules on a card of up to `most_mib`: tokens of one prefill, and sequences of one decode graph.

    Layouts of fewer than four ranks have `few_ranks` sequences, others `sequences`, no more than may run where it
    `follows_requests`.
    """

    most_mib: int | None
    prefill_tokens: int
    few_ranks: int
    sequences: int
    follows_requests: bool = False


@dataclass(frozen=True, slots=True)
class TokenPoolRules:
    """
    How an engine deals its memory out in tokens, as SGLang does: a share of the card is static, the rest is slack.

    `start_up` says what it schedules, by the size of the card. The slack's parts are in MiB: `base`, `per_token` of a
    prefill, `per_rank` of the layout, `per_sequence` of a decode graph (`per_attention_rank` and `per_large` more with
    attention in data parallelism), at least `least_slack` on cards larger than `large_card`. Models with a vision tower
    keep `vision_share` of the static share less `vision_slope` for each further tower of `vision_layers` layers of
    `vision_width`, within `vision_bounds`, and `vision_cache` MiB; not those of the families `unseen`, and the share of
    `unadjusted` ones stays; the depth of towers of the types `unnamed_depth` is not read. `heard` families, which the
    engine knows to take sounds, or whose tower stands elsewhere in the file, have the MiB alone.

    `windowed` are the families whose windows have a pool of their own, of `window_share` of the tokens of the other
    (those of `exclusive_windows` without the token itself);
    `compressed_share` is that of windows beside compressed entries, but windows of `capped` families are sized for
    their requests, each with `eviction_interval` tokens not yet given back. `state_share` is the memory of states to
    that of the cache, `state_slots` how many a request holds (`bare_slots` without prefix caching). Requests are
    `requests_per_context` for every context that fits, within `requests_bounds`, or as many as `family_requests`, or
    `drafting_requests` with drafts, say. The engine looks for drafting layers under one name of the config, which those
    of `uncounted_drafts` lack: their caches are left out.

    Families of `windowed` must have windows, but for `windowless` ones, and `picked_blocks` are how many blocks an
    indexer that pools may pick.

    Not run at all are models of the types `other_kernels`, for which the engine asks for attention kernels that the
    device lacks, those of `undivided` with attention in data parallelism, those of `one_buffer` that attend with
    prefixes kept in pages of more than one token, and others with states where pages don't divide `state_interval`
    tokens.
    """

    start_up: tuple[StartUpMemory, ...]
    base: float
    per_token: float
    per_rank: float
    per_sequence: float
    per_attention_rank: float
    per_large: float
    large_graph: int
    least_slack: float
    large_card: int
    vision_share: float
    vision_slope: float
    vision_bounds: tuple[float, float]
    vision_layers: int
    vision_width: int
    vision_cache: int
    unseen: tuple[str, ...]
    heard: tuple[str, ...]
    unadjusted: tuple[str, ...]
    unnamed_depth: tuple[str, ...]
    windowed: tuple[str, ...]
    windowless: tuple[str, ...]
    exclusive_windows: tuple[str, ...]
    picked_blocks: tuple[int, ...]
    window_share: float
    compressed_share: float
    capped: tuple[str, ...]
    state_share: float
    state_slots: int
    one_buffer_slots: int
    bare_slots: int
    eviction_interval: int
    requests_per_context: int
    requests_bounds: tuple[int, int]
    family_requests: Mapping[str, int]
    drafting_requests: int
    uncounted_drafts: tuple[str, ...]
    other_kernels: tuple[str, ...]
    undivided: tuple[str, ...]
    one_buffer: tuple[str, ...]
    state_interval: int


def token_pool_rules(row: Mapping[str, Any]) -> TokenPoolRules:
    """The rules that `row` of an engine's file states."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    values["start_up"] = tuple(StartUpMemory(**entry) for entry in row["start_up"])
    return TokenPoolRules(**values)


def among(model: ModelConfig, families: Sequence[str]) -> bool:
    """Whether `model` is one of `families`, by the beginning of its type or family."""
    return model.model_type.startswith(tuple(families)) or model.family.startswith(tuple(families))
