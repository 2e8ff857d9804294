"""How much activations take on one die while a step runs: the peak of the step's own op graph."""

from __future__ import annotations

import functools
from dataclasses import replace

from memplan.graph import Graph, Op, TensorKind, live_curve
from memplan.kv.engine import ProfileRules
from memplan.models import ModelConfig
from memplan.models.architecture import Layer
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, model_graph

_TRANSIENT = tuple(kind for kind in TensorKind if not kind.persistent)


def transient_peak(graph: Graph) -> int:
    """The most bytes alive at once in `graph`, run in order, beside weights, caches and inputs."""
    return int(live_curve(graph, kinds=_TRANSIENT).max())


def _kinds_of_layers(model: ModelConfig) -> tuple[Layer, ...]:
    """One layer of every kind, and those whose caches others read: a longer stack has the same peak."""
    if model.per_layer_inputs is not None:
        # Every layer adds to what is alive from the start.
        return model.layers
    kept: dict[int, Layer] = {}
    seen: set[tuple[object, ...]] = set()
    for layer in model.layers:
        mixer = layer.mixer
        owner = None if mixer is None else mixer.reads
        kind = (None if mixer is None else mixer.alike, owner is None, layer.ffn, layer.lookup)
        if kind in seen:
            continue
        seen.add(kind)
        if owner is not None:
            kept[owner] = model.layers[owner]
        kept[layer.index] = layer
    return tuple(kept[index] for index in sorted(kept))


_LAST_PRODUCTS = ("o_proj", "down_proj", "shared_experts.down_proj")
"""Where a class's `forward` ends: attention, a feed-forward part, shared experts."""
_INSIDE_ONE_CALL = ("experts.", "dispatch", "gating", "combine", "router")
"""Parts of one fused call, whose results no frame of a class names."""


def held_by_frames(graph: Graph) -> Graph:
    """
    `graph` as uncompiled classes run it: a part's input and what it computed first live until its last product.

    The caller of `forward` names the input, `forward` itself the products (vllm 0.23.0
    model_executor/models/llama.py LlamaMLP, LlamaAttention, LlamaDecoderLayer); compiled graphs free them once read.
    """
    ops: list[Op] = []
    frame: list[int] = []
    for op in graph.ops:
        part = "" if op.scope is None else op.scope.part
        if part.startswith("norm."):
            frame = list(op.outputs)
        elif part in _LAST_PRODUCTS:
            op = replace(op, inputs=(*op.inputs, *(held for held in frame if held not in op.inputs)))
        elif not part.startswith(_INSIDE_ONE_CALL) and "quant" not in part:
            frame += op.outputs
        ops.append(op)
    return replace(graph, ops=tuple(ops))


@functools.lru_cache(maxsize=256)
def activation_peak(
    model: ModelConfig,
    layout: Layout,
    precision: str,
    tokens: int,
    sequences: int,
    profile: ProfileRules,
    *,
    eager: bool = False,
) -> int:
    """
    Bytes of activations at the peak of a prefill of `tokens` tokens on one rank of `layout`, in order and unshared.

    `eager` says that the model is run uncompiled. What is alive when `sequences` sequences are sampled by the rules of
    `profile` is counted where it is more. Kernels' own workspace is not in it.
    """
    short = replace(model, layers=_kinds_of_layers(model), mtp_layers=())
    flat = layout.one_stage
    graph = model_graph(
        short, None, flat, ServedStep(Phase.PREFILL, batch=layout.data, context=tokens, precision=precision)
    )
    return max(
        transient_peak(held_by_frames(graph) if eager else graph), profile.sampling_bytes(model, tokens, sequences)
    )
