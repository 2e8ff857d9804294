"""How much activations take on one die while a step runs: the peak of the step's own op graph."""

from __future__ import annotations

import functools
from dataclasses import replace

from memplan.graph import Graph, TensorKind, live_curve
from memplan.kv.engine import ProfileRules
from memplan.models import ModelConfig
from memplan.models.architecture import Layer
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph

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


@functools.lru_cache(maxsize=256)
def activation_peak(
    model: ModelConfig, layout: Layout, precision: str, tokens: int, sequences: int, profile: ProfileRules
) -> int:
    """
    Bytes of activations at the peak of a prefill of `tokens` tokens on one rank of `layout`, in order and unshared.

    What is alive when `sequences` sequences are sampled by the rules of `profile` is counted where it is more. Kernels'
    own workspace is not in it.
    """
    short = replace(model, layers=_kinds_of_layers(model), mtp_layers=())
    flat = replace(layout, pipeline=1)
    graph = step_graph(short, flat, ServedStep(Phase.PREFILL, batch=layout.data, context=tokens, precision=precision))
    return max(transient_peak(graph), profile.sampling_bytes(model, tokens, sequences))
