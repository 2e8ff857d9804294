"""
Memory dealt out in tokens, as SGLang does it: a static share of the card, less weights, is pools of a number of tokens.

Sums are in floats and GiB where the engine's are, so that they round alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from memplan.core.errors import InputError
from memplan.core.units import GIB, MIB, round_up
from memplan.kv.compressed_pools import CompressedSizes, compressed_sizes, keeps_entries, window_cap
from memplan.kv.engine import Engine
from memplan.kv.kept_entries import engine_of, recurrent_bytes
from memplan.kv.layers import cache_specs
from memplan.kv.settings import ServingOptions
from memplan.kv.specs import CacheKind, CacheSpec
from memplan.kv.token_rules import StartUpMemory, TokenPoolRules, among
from memplan.models import ModelConfig
from memplan.models.architecture import Layer
from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.parallel import Layout, stage_spans

_NO_LIMIT = 2**63 - 1


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


def start_up(rules: TokenPoolRules, total: int) -> StartUpMemory:
    """What is scheduled on a card of `total` bytes, as the framework sees them."""
    return next(item for item in rules.start_up if item.most_mib is None or total // MIB <= item.most_mib)


def attention_ranks(layout: Layout) -> int:
    """Ranks of attention in data parallelism: experts are spread over more ranks than share one attention."""
    return layout.data if layout.expert > layout.tensor else 1


def static_share(
    model: ModelConfig, rules: TokenPoolRules, layout: Layout, total: int, prefill: int, requests: int | None = None
) -> float:
    """
    The share of the memory that is static where none is asked for.

    For prefills of `prefill` tokens and graphs of up to `requests` sequences, where so many are asked for.
    """
    attention, card = attention_ranks(layout), total // MIB
    tensor = layout.tensor * layout.context * attention
    scheduled = start_up(rules, total)
    graph = scheduled.few_ranks if tensor < 4 else scheduled.sequences
    if scheduled.follows_requests and requests is not None:
        graph = min(graph, requests)
    slack = rules.base + max(prefill, 2048) * rules.per_token
    slack += tensor * layout.pipeline / 8 * (rules.per_rank * 8)
    graphs = 0.0 + graph * rules.per_sequence
    if attention > 1:
        graphs += graph * attention * rules.per_attention_rank
        if graph > rules.large_graph:
            graphs += graph * attention * rules.per_large
    slack += graphs
    if card > rules.large_card:
        slack = max(slack, rules.least_slack)
    share = round((card - slack) / card, 3)
    return share * _vision_factor(model, rules) if sees(model, rules) else share


def sees(model: ModelConfig, rules: TokenPoolRules) -> bool:
    """Whether the engine takes pictures or sounds of the model."""
    return (model.vision is not None and not among(model, rules.unseen)) or among(model, rules.heard)


def _vision_factor(model: ModelConfig, rules: TokenPoolRules) -> float:
    tower = model.vision
    if tower is None or among(model, rules.unadjusted):
        return 1.0
    named = not tower.model_type.startswith(tuple(rules.unnamed_depth))
    layers = tower.layers if named and tower.layers else rules.vision_layers
    width = tower.hidden_size or rules.vision_width
    towers = layers * width**2 / (rules.vision_layers * rules.vision_width**2)
    least, most = rules.vision_bounds
    return rules.vision_share * max(least, min(most, 1.0 - rules.vision_slope * (towers - 1.0)))


@dataclass(frozen=True, slots=True)
class StaticMemory:
    """
    Memory of one rank in bytes: `found` free at start, `held` by weights, the static `share`, and what is `reserved`
    for pictures in MiB. What is `given` for caches stands in place of what is left.
    """

    found: int
    held: int
    share: float
    reserved: int = 0
    given: int | None = None

    @property
    def rest(self) -> float:
        """GiB of the static share that weights leave, or what is given."""
        if self.given is not None:
            return self.given / GIB
        return (self.found - self.held) / GIB - self.found / GIB * (1 - self.share) - self.reserved / 1024


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
    per_state = _state_bytes(model, options, layout, stages)
    rests, states = [], None
    for item in memory:
        rest = item.rest
        if per_state:
            rest, held = _take_states(model, rules, options, rest, per_state, wanted)
            states = held if states is None else min(states, held)
        rests.append(rest)
    rooms = tuple(int(rest * GIB) for rest in rests)
    if states is not None and states <= 0:
        text = "Not enough GPU memory for hybrid (mamba/linear-attention) state cache."
        return TokenPools(page, 0, 0, 0.0, states=0, state_bytes=per_state, refusal=text), rooms
    if min(rests) <= 0:
        return TokenPools(page, 0, 0, 0.0, refusal=_no_room(memory)), rooms
    # Ranks of attention share a prefill (arg_groups/parallel_hook.py).
    prefill = (options.batched_tokens or engine.batched_tokens) // attention_ranks(layout)
    own = replace(options, batched_tokens=prefill)
    sizes = [compressed_sizes(model, engine, rules, own, page, span, wanted or 0) for span in stages]
    known = [size for size in sizes if size is not None]
    if known:
        full = min(size.tokens(room, page) for size, room in zip(known, rooms, strict=True))
        return _bounded(model, _compressed_pools(known[0], full, page, wanted or 0), rules, options, wanted), rooms
    cells = [_Cell.of(model, engine, options, layout, span) for span in stages]
    first = next((cell for cell in cells if cell.windows), cells[0])
    window = None if first.window is None else first.window - among(model, rules.exclusive_windows)
    cap = None
    if window is not None and first.full and options.requests is not None and not options.prefix_caching:
        cap = window_cap(rules, options, page, window, wanted or 0, prefill)
        cells = [replace(cell, cap=cap) for cell in cells]
    full = min(cell.tokens(room, rules) for cell, room in zip(cells, rooms, strict=True))
    # Models of states alone are given the tokens of one context (_zero_kv_max_tokens).
    full = (options.length if full == _NO_LIMIT else full) // page * page
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
    alone = not any(_attends(layer) for layer in model.layers)
    if not options.prefix_caching or alone or not _recurrences(model.layers):
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
        requests = min(requests, pools.states // _slots(model, rules, options))
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


def _no_room(memory: Sequence[StaticMemory]) -> str:
    tight = min(memory, key=lambda item: item.rest)
    least = -(-(1 - (tight.found - tight.held) / tight.found) * 1000 // 1) / 1000
    return (
        f"Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static={tight.share}. Raise "
        f"--mem-fraction-static above {least:.3f}"
    )


def _slots(model: ModelConfig, rules: TokenPoolRules, options: ServingOptions) -> int:
    """Slots of states that a request holds (_calculate_mamba_ratio)."""
    if not options.prefix_caching:
        return rules.bare_slots
    return rules.one_buffer_slots if model.model_type in rules.one_buffer else rules.state_slots


def _recurrences(layers: Sequence[Layer]) -> list[CachePart]:
    parts = [part for layer in layers if layer.mixer is not None for part in layer.mixer.caches()]
    return [part for part in parts if part.content is CacheContent.RECURRENT]


def _stated(part: CachePart) -> CachePart:
    """States whose type the config leaves open are float32 (configs/mamba_utils.py mamba2_state_dtype)."""
    if part.state is None or part.state.dtype != "auto":
        return part
    return replace(part, state=replace(part.state, dtype="float32"))


def _state_bytes(model: ModelConfig, options: ServingOptions, layout: Layout, stages: Sequence[range]) -> int:
    """Bytes of the recurrent states of one request on the stage that has most of them."""
    plain = replace(options.caches, speculative_tokens=0)
    parts = [_stated(part) for part in _recurrences(model.layers)]
    total = sum(sum(recurrent_bytes(part, plain, layout)) for part in parts)
    if not parts or layout.pipeline == 1:
        return total
    most = max(len(_recurrences([model.layers[index] for index in span])) for span in stages)
    return int(total * (most / len(parts)))


def _take_states(
    model: ModelConfig,
    rules: TokenPoolRules,
    options: ServingOptions,
    rest: float,
    per_state: int,
    wanted: int | None,
) -> tuple[float, int]:
    """GiB left after the slots of states, and how many there are (kv_cache_configurator.py _handle_max_mamba_cache)."""
    drafts = options.caches.speculative_tokens
    steps = drafts + 1 if drafts else 0
    if not options.prefix_caching and wanted is not None:
        slots = wanted
        if steps:
            rest -= per_state * (slots + 1) * steps / GIB
    else:
        budget = rest * rules.state_share / (1 + rules.state_share) * GIB
        slots = int((budget - per_state) // per_state)
        if steps:
            ratio = _slots(model, rules, options)
            slots = int((budget - per_state * (1 + steps)) // (per_state * (1 + steps / ratio)))
            rest -= per_state * (min(wanted or slots, slots // ratio) + 1) * steps / GIB
    return rest - (slots + 1) * per_state / GIB, slots


@dataclass(frozen=True, slots=True)
class _Cell:
    """
    Bytes that one token of one rank's stage takes: of full attention, of windows, and of drafting layers.

    Windows have `cap` tokens whatever the number of others, where that is set.
    """

    full: int
    windows: int
    drafts: int
    window: int | None
    cap: int | None = None

    @classmethod
    def of(cls, model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout, span: range) -> _Cell:
        rules = engine.token_pools
        specs = cache_specs(_apart(model), engine, options.caches, options.length, layout)
        here = [spec for spec in specs if spec.layer in span and spec.kind is not CacheKind.STATE]
        apart = rules is not None and among(model, rules.windowed)
        windows = [spec for spec in here if apart and not spec.kind.grows]
        full = [spec for spec in here if spec not in windows]
        held = _per_token(full)
        drafts = 0
        counted = rules is not None and not among(model, rules.uncounted_drafts)
        if options.caches.speculative_tokens and model.mtp_layers and counted:
            keys = [spec for spec in full if spec.layout[0] == "index"]
            layers = len({spec.layer for spec in full})
            count = sum(_attends(layer) for layer in model.mtp_layers)
            drafts = int((held - _per_token(keys)) * count / layers) if layers else 0
            if keys:
                drafts += _per_token(keys[:1]) * count
        window = next((spec.window or spec.chunk for spec in windows), None)
        return cls(held, _per_token(windows), drafts, window)

    def nbytes(self, rules: TokenPoolRules) -> float:
        """Bytes of a token of the larger pool, with its share of the smaller."""
        if not self.windows or self.cap is not None:
            return self.full + self.drafts
        if not self.full:
            return self.windows + self.drafts
        return self.full + self.drafts + rules.window_share * self.windows

    def tokens(self, room: int, rules: TokenPoolRules) -> int:
        """Tokens that `room` bytes hold."""
        size = self.nbytes(rules)
        room -= (self.cap or 0) * self.windows
        return int(room // size) if size else _NO_LIMIT


def _apart(model: ModelConfig) -> ModelConfig:
    """`model` as its pools are sized: layers that read another's keys and values count with their own."""
    layers = (
        replace(layer, mixer=layer.mixer.alike) if isinstance(layer.mixer, GroupedAttention) else layer
        for layer in model.layers
    )
    return replace(model, layers=tuple(layers))


def _attends(layer: Layer) -> bool:
    return layer.mixer is not None and any(part.state is None for part in layer.mixer.caches())


def _per_token(specs: Sequence[CacheSpec]) -> int:
    return sum(spec.page_bytes // spec.block_size for spec in specs)
