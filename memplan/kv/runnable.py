"""What an engine refuses whatever memory there is: models, layouts and runners that it does not put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.kv.engine import Engine
from memplan.kv.kept_entries import cache_parts, engine_of
from memplan.kv.specs import CacheKind, CacheSpec
from memplan.models import ModelConfig
from memplan.models.cache_parts import CacheContent
from memplan.models.parallel import Layout, stage_spans

NGRAM = "ngram"
"""Drafts looked up in the prompt: no layers, but more tokens verified at once, and no steps scheduled ahead."""


def check_runnable(model: ModelConfig, engine: Engine, layout: Layout, kind: str | None, runner: str | None) -> None:
    """
    Raise `InputError` where `engine` does not run `model` in `layout`; `kind` is what its kernels call the attention
    of `model`, `runner` the model runner asked for.
    """
    experts = model.experts
    unserved = next((name for name in (model.model_type, model.architecture) if name in engine.unserved), None)
    if unserved is not None:
        raise InputError(
            "{} has no class for {}",
            engine.name,
            unserved,
            remedy="name another release with --engine, such as vllm-0.33.0-h100 or vllm-0.23.0",
        )
    if experts is not None and not experts.gated and not engine.plain_experts:
        raise InputError("{} runs no experts without a gate, as {} has", engine.name, model.name)
    if engine.checks_heads and experts is None and layout.expert > 1:
        raise InputError(
            "{} does not share experts among ranks where a model has none, as {}",
            engine.name,
            model.name,
            remedy="leave expert parallelism out",
        )
    unpiped = engine.unpiped if model.architecture else (*engine.unpiped, *engine.unnamed_unpiped)
    if layout.pipeline > 1 and model.model_type in unpiped:
        raise InputError("{} does not run {} with pipeline parallelism", engine.name, model.model_type)
    if layout.pipeline > 1 and any(layer.lookup is not None and layer.lookup.by_row for layer in model.layers):
        # vllm 0.33.0 models/qwen4_exp: later stages are not given the tokens that rows are looked up by.
        raise InputError("{} does not run the n-gram tables of {} with pipeline parallelism", engine.name, model.name)
    check_pictures(model, engine, layout)
    fitted = engine_of(model, engine)
    if kind not in ("compressed", "shared_compressed"):
        return
    for kept in fitted.compressed[:1]:
        if kept.tensor and (layout.tensor not in kept.tensor or layout.pipeline > 1 or layout.context > 1):
            sizes = ", ".join(map(str, kept.tensor))
            raise InputError(
                "{} runs {} with tensor parallelism of {} and without pipeline or context parallelism only",
                engine.name,
                model.name,
                sizes,
            )
        if kept.runner is not None and runner != kept.runner:
            raise InputError(
                "{} runs {} on model runner {} only",
                engine.name,
                model.name,
                kept.runner,
                remedy="set VLLM_USE_V2_MODEL_RUNNER=1, here --model-runner V2",
            )


def check_float_cache(model: ModelConfig, engine: Engine, kv: str | None) -> None:
    """
    Refuse a cache in another float type than the model runs in, which is that of its file unless that has 32 bits.

    vllm 0.33.0 config/vllm.py _reject_mismatched_float_kv_cache, config/model.py _resolve_auto_dtype.
    """
    own = "float16" if model.dtype == "float16" else "bfloat16"
    if kv in ("float16", "bfloat16") and kv != own:
        raise InputError(
            "{} keeps no cache in {!r} of a model in {!r}",
            engine.name,
            kv,
            own,
            remedy="leave the type of the cache out",
        )


def check_heads(model: ModelConfig, layout: Layout, *, latent: bool = False, headed: bool = False) -> None:
    """
    Raise `InputError` where query heads don't divide among the ranks, or ranks that share tokens don't repeat
    key/value heads, which the engine does not ask of models that it takes to keep a `latent`; of a `headed` one it
    takes every query head to have its own.

    vllm 0.23.0 and 0.33.0 config/model.py verify_with_parallel_config, config/parallel.py.
    """
    ranks, shared = layout.tensor, layout.context
    mixers = {layer.mixer for layer in model.layers if layer.mixer is not None}
    counts = sorted({mixer.query_heads or 0 for mixer in mixers})
    for heads in counts:
        if heads % ranks:
            raise InputError(
                "{} attention heads can't be divided among {} ranks of tensor parallelism",
                heads,
                ranks,
                remedy="use a number of ranks that divides them",
            )
    if shared == 1:
        return
    most = max(counts, default=0)
    if ranks % shared:
        raise InputError("{} context-parallel ranks do not divide the {} ranks of tensor parallelism", shared, ranks)
    if latent:
        return
    parts = cache_parts(model)
    if all(part.content is CacheContent.RECURRENT for part in parts):
        raise InputError("{} keeps no tokens for {} context-parallel ranks to share", model.name, shared)
    kept = [most] if headed else [part.heads for part in parts if part.content is CacheContent.HEADS]
    for heads in kept:
        if shared > ranks // heads:
            raise InputError(
                "{} context-parallel ranks would have to repeat {} key/value heads {} times or more among {} "
                "ranks of tensor parallelism",
                shared,
                heads,
                shared,
                ranks,
                remedy=Sentence("use at least {} [rank|ranks] of tensor parallelism", (shared * heads,)),
            )
        if most // heads % shared:
            raise InputError(
                "{} context-parallel ranks do not divide the {} query heads of each key/value head",
                shared,
                most // heads,
            )


def check_drafts(model: ModelConfig, engine: Engine, layout: Layout, method: str) -> None:
    """Refuse drafts that the model has no layers for, or that the engine does not run, as in pipelines."""
    methods = engine.drafting.methods.get(model.model_type)
    if methods is not None and method not in methods:
        remedy = Sentence("it drafts by {}", (", ".join(methods),))
        raise InputError("{} does not draft for {} by {}", engine.name, model.name, method, remedy=remedy)
    if method == NGRAM:
        return
    if not model.mtp_layers:
        raise InputError("{} has no layers of multi-token prediction to draft with", model.name)
    if model.draft is not None and engine.checks_heads:
        # Its own settings know of no context parallelism (config/speculative.py create_draft_parallel_config).
        check_heads(model.draft, replace(layout, context=1))
    if layout.pipeline == 1:
        return
    if model.draft is not None:
        if not engine.drafting.models:
            raise InputError("{} does not draft by a model of its own with pipeline parallelism", engine.name)
        return
    pipelined = engine.drafting.pipelined
    if pipelined is not None and model.model_type not in pipelined:
        raise InputError("{} does not draft by multi-token prediction with pipeline parallelism", engine.name)


def check_draft_names(model: ModelConfig, engine: Engine, specs: Sequence[CacheSpec], layout: Layout) -> None:
    """
    Refuse a draft whose layer the engine gives the name of another layer that keeps something else, or that stands on
    the same stage.

    vllm 0.33.0 model_executor/models/llama_eagle.py (`start_layer_id`), v1/core/kv_cache_utils.py: a name stands for
    one cache, whatever stage it is on.
    """
    rules = engine.drafting
    # Classes that see pictures call their decoder by a name of its own.
    wrapped = model.vision is not None or model.architecture.endswith("ForConditionalGeneration")
    apart = wrapped or {model.model_type, model.family} & set(rules.named_apart)
    if layout.pipeline == 1 or model.draft_method not in rules.counted_by_stage or apart:
        return
    last = stage_spans(len(model.layers), layout)[-1]
    kept = {spec.layer: spec for spec in specs if spec.kind is not CacheKind.STATE}
    for number, drafting in enumerate(model.mtp_layers):
        taken = model.layers[len(last) + number : len(last) + number + 1]
        if not taken or taken[0].mixer is None or taken[0].mixer.query_heads is None:
            continue
        named = taken[0].index
        other = kept.get(named)
        if named in last or (other is not None and other.identity != kept[drafting.index].identity):
            raise InputError(
                "{} fails with {} and {} pipeline stages: it names the draft's layer {}, as one of the model's own",
                engine.name,
                model.draft_method,
                layout.pipeline,
                named,
                remedy="serve without pipeline parallelism, or without the draft",
            )


def check_pictures(model: ModelConfig, engine: Engine, layout: Layout) -> None:
    """
    Refuse stages that begin among the layers that a tower adds its own states to, and a tower whose heads don't divide
    among the ranks where its class asserts that they do.

    vllm 0.33.0 model_executor/models/qwen3_vl.py: "start_layer should be greater than or equal to";
    distributed/utils.py divide.
    """
    tower = model.vision
    if (
        tower is not None
        and engine.checks_heads
        and model.model_type in engine.towers.divided
        and not layout.whole_towers
        and tower.heads % layout.tensor
    ):
        raise InputError(
            "{} attention heads of the vision tower can't be divided among {} ranks of tensor parallelism",
            tower.heads,
            layout.tensor,
            remedy="set --mm-encoder-tp-mode data, or use a number of ranks that divides them"
            if model.model_type in engine.towers.whole
            else "use a number of ranks that divides them",
        )
    added = 0 if model.vision is None else model.vision.deep_states
    starts = [span.start for span in stage_spans(len(model.layers), layout)[1:]]
    if engine.checks_heads and any(start < added for start in starts):
        raise InputError(
            "{} runs the first {} layers of {} on the first pipeline stage only: its pictures are added there",
            engine.name,
            added,
            model.name,
            remedy="use fewer stages",
        )
