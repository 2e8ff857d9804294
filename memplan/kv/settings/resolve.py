"""What an engine makes of the settings it is started with: those left open, and those it overrules, each with why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.kv.engine import AttentionBackend, Engine
from memplan.kv.kept_entries import CacheOptions, as_kept, cache_parts, engine_of
from memplan.kv.runnable import NGRAM, check_drafts, check_float_cache, check_heads, check_runnable
from memplan.kv.sequence_lengths import sequence_lengths
from memplan.kv.settings.attention_choice import asked_kv, attention_kind, chosen_backend, draft_type, plain_type
from memplan.kv.settings.block_sizes import chosen_block, kernel_block, state_tokens
from memplan.kv.settings.serving_options import GIVEN, Choice, EngineSettings, ServingOptions
from memplan.kv.state_pages import with_states_aligned
from memplan.models import ModelConfig
from memplan.models.cache_parts import CacheContent
from memplan.models.parallel import ONE_RANK, Layout, check_divides

_CHUNKLESS_DRAFTS = ("mtp", "eagle", "eagle3")
"""Drafts beside which layers have no chunks: vllm 0.33.0 config/vllm.py."""


@dataclass(frozen=True, slots=True)
class _CacheTypes:
    """The type of the cache and of a draft's, `None` as the model's own, and what is said of the choice."""

    kv: str | None
    draft: str | None
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scheduling:
    """How many `tokens` a step has at most, and how many are in flight in so many `batches` under way."""

    asynchronous: bool
    batches: int
    tokens: int
    in_flight: int

    @property
    def batches_in_flight(self) -> int:
        """How many steps the tokens in flight are of."""
        return self.batches if self.in_flight != self.tokens else 1


@dataclass(frozen=True, slots=True)
class _KeptStates:
    """
    How states of recurrences are kept: `aligned` with blocks, `whole` one for every block.

    `checkpoints` are the tokens of each recurrence's, `None` for one that makes none.
    """

    recurrent: bool
    aligned: bool
    whole: bool
    checkpoints: tuple[int | None, ...]

    @property
    def checkpointed(self) -> bool:
        """Whether some recurrence makes checkpoints."""
        return any(tokens is not None for tokens in self.checkpoints)


def resolve(model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout = ONE_RANK) -> EngineSettings:
    """
    What `engine` makes of `options` for `model` in `layout`.

    Raises `InputError` where it would refuse them before it looks at memory.
    """
    if options.length < 1:
        raise InputError("a sequence of {} tokens can't be served", options.length)
    model, asked = as_kept(model, engine), options.caches
    _check(model, engine, options, layout)
    # A planner that is told what is in flight is told the block as well: no kernel was asked whether it takes it.
    told = asked if options.in_flight_tokens is None else replace(asked, block_size=None)
    backend = chosen_backend(model, engine, told, layout)
    _check_draft_kernel(model, engine, told, layout, backend)
    types = _cache_types(model, engine, asked, backend)
    size, why_size = chosen_block(model, engine, options, backend)
    prefix, why_prefix = _prefix_caching(model, engine, options)
    scheduling = _scheduling(model, engine, options, layout)
    states = _kept_states(model, engine, asked, prefix)
    caches = _caches(model, engine, asked, layout, types, states, size, backend)
    if states.recurrent and engine.token_pools is None:
        caches, why_size = with_states_aligned(model, engine, caches, layout, why_size)
    choices = (
        *types.choices,
        *_longest(model, engine, options),
        Choice(Sentence("block size"), str(caches.block_size), why_size),
        Choice(Sentence("prefix caching"), Sentence("on" if prefix else "off"), why_prefix),
        *_scheduling_choices(options, scheduling),
    )
    chunked = any(part.chunk is not None for part in cache_parts(model)) and asked.draft_method in _CHUNKLESS_DRAFTS
    resolved = replace(
        options,
        hybrid=options.hybrid and not (chunked and asked.speculative_tokens > 0),
        caches=caches,
        batched_tokens=scheduling.tokens,
        asynchronous=scheduling.asynchronous,
        prefix_caching=prefix,
        in_flight_tokens=scheduling.in_flight,
    )
    return EngineSettings(
        options=resolved,
        batches=scheduling.batches,
        state_blocks=None if states.whole else 1 + asked.speculative_tokens + states.aligned + states.checkpointed,
        block_outermost=_block_outermost(model, backend),
        own_layouts=_own_layouts(model, engine, told, layout, backend),
        choices=choices,
    )


def _check(model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout) -> None:
    """Raise `InputError` for what `engine` refuses whatever kernel it would take."""
    asked = options.caches
    if asked.speculative_tokens:
        check_drafts(model, engine, layout, asked.draft_method)
    if asked.kv in engine.refused_kv:
        raise InputError("{} keeps no cache in {!r}: its chip has no 8-bit attention", engine.name, asked.kv)
    if asked.kv is not None and asked.kv in engine.unplanned_kv:
        raise InputError("caches in {!r} are not planned: {}", asked.kv, engine.unplanned_kv[asked.kv])
    if engine.kv_as_model:
        check_float_cache(model, engine, asked.kv)
    check_runnable(model, engine, layout, attention_kind(model, engine_of(model, engine)), options.runner)
    if engine.checks_heads and options.in_flight_tokens is None:
        headed = model.model_type in engine.context_headed
        check_heads(model, layout, latent=model.model_type in engine.context_unchecked, headed=headed)
        check_divides(model, layout)


def _check_draft_kernel(
    model: ModelConfig, engine: Engine, told: CacheOptions, layout: Layout, backend: AttentionBackend | None
) -> None:
    """Raise `InputError` where no kernel takes the draft, whose layers look for one of their own."""
    if model.draft is None:
        return
    told = replace(told, attention=None)
    if told.kv not in (None, "auto") and model.model_type not in engine.untyped:
        chosen_backend(model.draft, engine, told, layout)
    if layout.pipeline > 1 and any(item.own_layouts for item in engine.backends):
        beside = chosen_backend(model.draft, engine, told, layout)
        if (beside is not None and beside.own_layouts) != (backend is not None and backend.own_layouts):
            # vllm 0.33.0 v1/attention/backends/utils.py resolve_kv_cache_layout: "Workers disagree".
            raise InputError(
                "{} does not draft for {} with pipeline parallelism: stages with and without the draft lay a cache out "
                "otherwise",
                engine.name,
                model.name,
            )


def _cache_types(
    model: ModelConfig, engine: Engine, asked: CacheOptions, backend: AttentionBackend | None
) -> _CacheTypes:
    """The types of caches that the attention kernel gives; as asked where kernels are not told apart."""
    if backend is None:
        return _CacheTypes(plain_type(asked.kv, engine), None)
    name = asked_kv(model, engine, asked)
    kv = backend.kv[name]
    first = Sentence("the first of the engine's that takes the model and its cache type")
    reason = GIVEN if asked.attention is not None and engine.named_kernels else first
    kernel = Choice(Sentence("attention kernel"), backend.name, reason)
    if model.model_type in engine.untyped:
        draft = draft_type(model, engine, backend, asked.kv)
        why = Sentence("the model's class knows of no other")
        return _CacheTypes(kv, draft, (kernel, Choice(Sentence("cache type"), kv, why)))
    if asked.kv in (None, "auto"):
        own = name != "auto"
        why = Sentence("the checkpoint's own") if own else Sentence("as {} keeps it by default", (backend.name,))
        return _CacheTypes(kv, None, (kernel, Choice(Sentence("cache type"), kv, why)))
    return _CacheTypes(kv, None, (kernel,))


def _scheduling(model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout) -> _Scheduling:
    asked, asynchronous = options.caches, options.asynchronous
    if asynchronous is None:
        kept_back = asked.speculative_tokens > 0 and asked.draft_method in engine.scheduling.not_with
        asynchronous = engine.scheduling.asynchronous and not kept_back
    batches = engine.scheduling.batches(model, asynchronous=asynchronous, pipeline=layout.pipeline)
    tokens = engine.step_tokens(model, options.batched_tokens)
    in_flight = options.in_flight_tokens
    if in_flight is None:
        in_flight = tokens * batches if engine.scheduling.in_flight_batches else tokens
    return _Scheduling(asynchronous, batches, tokens, in_flight)


def _scheduling_choices(options: ServingOptions, scheduling: _Scheduling) -> tuple[Choice, ...]:
    values = str(scheduling.batches_in_flight), f"{scheduling.tokens:,}"
    of_batches = Sentence("{} [batch|batches] of {} [token|tokens]", values)
    return (
        Choice(
            Sentence("asynchronous scheduling"),
            Sentence("on" if scheduling.asynchronous else "off"),
            GIVEN if options.asynchronous is not None else Sentence("the engine's default"),
        ),
        Choice(
            Sentence("tokens in flight"),
            f"{scheduling.in_flight:,}",
            GIVEN if options.in_flight_tokens is not None else of_batches,
        ),
    )


def _kept_states(model: ModelConfig, engine: Engine, asked: CacheOptions, prefix: bool) -> _KeptStates:
    recurrences = [part.state for part in cache_parts(model) if part.state is not None]
    aligned = asked.state_aligned
    if aligned is None:
        aligned = prefix and bool(recurrences)
    checkpoints = [engine.states.checkpoint(model, state.recurrence) for state in recurrences] if aligned else []
    whole = aligned and (model.model_type in engine.states.whole or model.family in engine.states.whole)
    if whole and engine.states.rule == "equal_keys" and attention_kind(model, engine_of(model, engine)) is not None:
        aligned = whole = False
    return _KeptStates(bool(recurrences), aligned, whole, tuple(checkpoints))


def _caches(
    model: ModelConfig,
    engine: Engine,
    asked: CacheOptions,
    layout: Layout,
    types: _CacheTypes,
    states: _KeptStates,
    size: int,
    backend: AttentionBackend | None,
) -> CacheOptions:
    """What is asked of caches with nothing left open, in blocks of `size` before states are put beside them."""
    # Without attention a class takes the block for states before the platform forces its own (MambaModelConfig).
    early = states.aligned and engine.forced_block is not None and not engine.states.hybrid(model)
    unaligned = asked.block_size or engine.default_block_size
    # Eight-bit latents have indexes in eight bits, where both have a page of their own.
    eight_bit_index = engine.token_pools is not None and types.kv == "fp8_ds_mla"
    looked_up = asked.draft_method == NGRAM
    return replace(
        asked,
        block_size=size,
        kv=types.kv,
        index_kv="fp8" if eight_bit_index else asked.index_kv,
        draft_kv=types.draft,
        state_aligned=states.aligned,
        state_block=unaligned if early else None,
        stage_block=unaligned if engine.states.by_stage and layout.pipeline > 1 else None,
        mtp=asked.mtp or (asked.speculative_tokens > 0 and not looked_up),
        checkpoint_tokens=state_tokens(model, states.checkpoints, whole=states.whole),
        kernel_block=kernel_block(model, backend),
    )


def _longest(model: ModelConfig, engine: Engine, options: ServingOptions) -> tuple[Choice, ...]:
    """What is said of a sequence that is longer than the model's; nothing of others."""
    most = sequence_lengths(model, engine.lengths).most
    if engine.lengths is None or options.in_flight_tokens is not None or options.length <= most:
        return ()
    why = Sentence("more than {}: refused without {}=1", (f"{most:,}", engine.lengths.variable))
    return (Choice(Sentence("longest sequence"), f"{options.length:,}", why),)


def _block_outermost(model: ModelConfig, backend: AttentionBackend | None) -> bool:
    # Rings of keys not pooled yet lie in blocks that hold all layers (KpoolTailBackend, QSAStateBackend).
    rings = any(part.content is CacheContent.KEY_TAIL for part in cache_parts(model))
    return backend is not None and (backend.block_outermost or rings)


def _own_layouts(
    model: ModelConfig, engine: Engine, told: CacheOptions, layout: Layout, backend: AttentionBackend | None
) -> bool:
    """Whether the kernel that attends, of a draft beside a model without any, has a layout of its own."""
    if backend is None and model.draft is not None:
        backend = chosen_backend(model.draft, engine, told, layout)
    return backend is not None and backend.own_layouts


def _prefix_caching(model: ModelConfig, engine: Engine, options: ServingOptions) -> tuple[bool, Text]:
    if options.prefix_caching is not None:
        return options.prefix_caching, GIVEN
    if all(part.content is not CacheContent.RECURRENT for part in cache_parts(model)):
        return engine.paged, Sentence("the engine's default")
    if not engine.states.hybrid(model):
        # vllm 0.23.0 and 0.33.0 config/model.py is_prefix_caching_supported
        return False, Sentence("off without attention")
    reason = (
        Sentence("the engine's default") if engine.states.prefix_caching else Sentence("off beside recurrent states")
    )
    return engine.states.prefix_caching, reason
