"""Pools of a number of tokens in what weights leave of the static share, as SGLang deals memory out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from memplan.core.errors import InputError
from memplan.core.units import GIB, round_up
from memplan.kv.engine import Engine
from memplan.kv.kept_entries import engine_of
from memplan.kv.settings import ServingOptions
from memplan.kv.token_rules import TokenPoolRules, among
from memplan.kv.tokens.compressed_pools import CompressedSizes, compressed_sizes, keeps_entries, window_cap
from memplan.kv.tokens.state_slots import recurrences, request_state_bytes, slots_of_request, take_states
from memplan.kv.tokens.static_share import StaticMemory, attention_ranks, no_room
from memplan.kv.tokens.token_cells import NO_LIMIT, TokenCell, attends
from memplan.models import ModelConfig
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.parallel import Layout, stage_spans


@dataclass(frozen=True, slots=True)
class TokenPools:
    """
    The pools of one rank, the same on every pipeline stage.

    `tokens` are what all requests share, in pages of `page`. Windows have a pool of `window_tokens`, compressed entries
    one of `entries` by ratio, their compressors one of `state_rows` by ratio; `None` and nothing where they are not
    apart. `states` are slots of recurrent states of `state_bytes` each. At most `requests` run at once. A token takes
    `token_bytes` of all pools, `fixed_bytes` don't grow with them. `refusal` is what the engine says where it does not
    start.
    """

    page: int
    tokens: int
    requests: int
    token_bytes: float
    fixed_bytes: int = 0
    window_tokens: int | None = None
    entries: Mapping[int, int] = field(default_factory=dict)
    state_rows: Mapping[int, int] = field(default_factory=dict)
    states: int | None = None
    state_bytes: int = 0
    refusal: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of the pools that hold tokens."""
        return int(self.tokens * self.token_bytes) + self.fixed_bytes

    def table_bytes(self, length: int, drafts: int) -> int:
        """Bytes of the table from requests to tokens, outside the static share (memory_pool.py ReqToTokenPool)."""
        return (self.requests + 1) * (length + 4 + (drafts + 1 if drafts else 0)) * 4

    def held_at_once(self, length: int, window: int | None, slack: int) -> int:
        """Requests of `length` tokens that find all their pages at the same time."""
        most = min(self.requests, self.tokens // round_up(length, self.page))
        if self.window_tokens is None or window is None:
            return most
        kept = round_up(min(length, window + slack), self.page) + self.page
        return min(most, self.window_tokens // kept)


def asked_requests(model: ModelConfig, rules: TokenPoolRules, options: ServingOptions, layout: Layout) -> int | None:
    """Most requests of one rank of attention, where the user or the model says so."""
    asked = options.requests
    if asked is None:
        asked = rules.family_requests.get(model.model_type) or rules.family_requests.get(model.family)
    if asked is None and options.caches.speculative_tokens:
        asked = rules.drafting_requests
    return None if asked is None else max(1, asked // attention_ranks(layout))


def token_pools(
    model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout, memory: Sequence[StaticMemory]
) -> tuple[TokenPools, tuple[int, ...]]:
    """
    The pools for the static memory of every pipeline stage, and the bytes that each stage has for them.

    Options are as the engine resolves them. Raises `InputError` for caches that it does not keep.
    """
    rules = engine.token_pools
    if rules is None:
        raise ValueError(f"{engine.name} has one pool of blocks")
    kept = next(iter(engine_of(model, engine).compressed), None) if keeps_entries(model) else None
    page = (kept and kept.page_tokens) or options.caches.block_size or engine.default_block_size
    _check_started(model, engine, rules, options, layout)
    stages = stage_spans(len(model.layers), layout)
    # The cap keeps states of the largest stage on all of them, so that the stages agree.
    wanted = asked_requests(model, rules, options, layout)
    if options.caches.speculative_tokens and among(model, rules.capped):
        raise InputError("{} does not draft with the layers of multi-token prediction of {}", engine.name, model.name)
    per_state = request_state_bytes(model, options, layout, stages)
    rests, states = [], None
    for item in memory:
        rest = item.rest
        if per_state:
            rest, held = take_states(model, rules, options, rest, per_state, wanted)
            states = held if states is None else min(states, held)
        rests.append(rest)
    rooms = tuple(int(rest * GIB) for rest in rests)
    if states is not None and states <= 0:
        text = "Not enough GPU memory for hybrid (mamba/linear-attention) state cache."
        return TokenPools(page, 0, 0, 0.0, states=0, state_bytes=per_state, refusal=text), rooms
    if min(rests) <= 0:
        return TokenPools(page, 0, 0, 0.0, refusal=no_room(memory)), rooms
    # Ranks of attention share a prefill (arg_groups/parallel_hook.py).
    prefill = (options.batched_tokens or engine.batched_tokens) // attention_ranks(layout)
    own = replace(options, batched_tokens=prefill)
    sizes = [compressed_sizes(model, engine, rules, own, page, span, wanted or 0) for span in stages]
    known = [size for size in sizes if size is not None]
    if known:
        full = min(size.tokens(room, page) for size, room in zip(known, rooms, strict=True))
        return _bounded(model, _compressed_pools(known[0], full, page, wanted or 0), rules, options, wanted), rooms
    cells = [TokenCell.of(model, engine, options, layout, span) for span in stages]
    first = next((cell for cell in cells if cell.windows), cells[0])
    window = None if first.window is None else first.window - among(model, rules.exclusive_windows)
    cap = None
    if window is not None and first.full and options.requests is not None and not options.prefix_caching:
        cap = window_cap(rules, options, page, window, wanted or 0, prefill)
        cells = [replace(cell, cap=cap) for cell in cells]
    full = min(cell.tokens(room, rules) for cell, room in zip(cells, rooms, strict=True))
    # Models of states alone are given the tokens of one context (_zero_kv_max_tokens).
    full = (options.length if full == NO_LIMIT else full) // page * page
    windows = cap
    if cap is None and first.windows:
        windows = int(full * rules.window_share) // page * page if first.full else full
    fixed = 0 if cap is None else cap * first.windows
    found = TokenPools(
        page, full, 0, max(cell.nbytes(rules) for cell in cells), fixed, windows, states=states, state_bytes=per_state
    )
    return _bounded(model, found, rules, options, wanted, window=window if cap is None else None), rooms


def _check_started(
    model: ModelConfig, engine: Engine, rules: TokenPoolRules, options: ServingOptions, layout: Layout
) -> None:
    """Raise `InputError` for what the engine refuses when it reads its arguments (arg_groups/model_hook.py)."""
    page = options.caches.block_size or engine.default_block_size
    if model.model_type in rules.other_kernels:
        raise InputError("{} runs {} with attention kernels that NPUs don't have", engine.name, model.model_type)
    pooled = among(model, rules.windowed) and not among(model, rules.windowless)
    kept = [part for layer in model.layers if layer.mixer is not None for part in layer.mixer.caches()]
    if pooled and not any(part.window or part.chunk for part in kept):
        raise InputError("{} runs {} only with layers that have a window", engine.name, model.model_type)
    blocks = {layer.mixer.indexer for layer in model.layers if isinstance(layer.mixer, GroupedAttention)}
    for indexer in blocks - {None}:
        if indexer is not None and indexer.pool > 1 and indexer.topk // indexer.pool not in rules.picked_blocks:
            raise InputError(
                "{} picks {} blocks of {} tokens, not {}",
                engine.name,
                " or ".join(map(str, rules.picked_blocks)),
                indexer.pool,
                indexer.topk // indexer.pool,
            )
    if model.model_type in rules.undivided and attention_ranks(layout) > 1:
        raise InputError("{} does not run {} with attention in data parallelism", engine.name, model.model_type)
    alone = not any(attends(layer) for layer in model.layers)
    if not options.prefix_caching or alone or not recurrences(model.layers):
        return
    if model.model_type in rules.one_buffer and page > 1:
        raise InputError(
            "{} keeps no prefixes of {} in pages of {} tokens, only of one",
            engine.name,
            model.model_type,
            page,
            remedy="add --no-enable-prefix-caching, or --block-size 1",
        )
    if rules.state_interval % page:
        raise InputError(
            "{} keeps states every {} tokens, which pages of {} do not divide",
            engine.name,
            rules.state_interval,
            page,
            remedy="choose another --block-size, or add --no-enable-prefix-caching",
        )


def _compressed_pools(sizes: CompressedSizes, full: int, page: int, requests: int) -> TokenPools:
    windows = sizes.window_tokens(full, page)
    rows = {ratio: (requests + 1) * count for ratio, count in sizes.rows.items() if ratio == 128}
    if 4 in sizes.rows:
        rows[4] = windows // page * sizes.rows[4]
    entries = {ratio: full // ratio for ratio in sizes.ratios}
    return TokenPools(page, full, requests, sizes.per_token, sizes.fixed, windows, entries, rows)


def _bounded(
    model: ModelConfig,
    pools: TokenPools,
    rules: TokenPoolRules,
    options: ServingOptions,
    wanted: int | None,
    window: int | None = None,
) -> TokenPools:
    """With the requests that may run, and the engine's refusal of pools that are too small."""
    least, most = rules.requests_bounds
    requests = wanted
    if requests is None:
        requests = max(min(int(pools.tokens / options.length * rules.requests_per_context), most), least)
    requests = min(requests, pools.tokens // 2)
    if pools.states is not None:
        requests = min(requests, pools.states // slots_of_request(model, rules, options))
    refusal = ""
    if pools.tokens <= 0:
        refusal = "Not enough memory. Please try to increase --mem-fraction-static."
    elif window is not None and pools.window_tokens is not None and window + pools.page >= pools.window_tokens:
        refusal = (
            f"SWA pool ({pools.window_tokens} tokens) cannot hold even one request: the prefill admission floor is "
            f"sliding_window_size ({window}) + page_size ({pools.page})."
        )
    elif requests <= 0:
        refusal = "Hybrid (mamba/linear-attention) state cache is too small to serve any requests."
    return replace(pools, requests=requests, refusal=refusal)
