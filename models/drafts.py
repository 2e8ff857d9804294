"""Models that draft for another: EAGLE's few layers behind a decoder's, or a whole smaller model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.models.architecture import ModelConfig
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.weight_shapes import Weight, WeightGroup, matrix_weight, vector_weight
from memplan.models.weights import layer_weights, outer_weights

_STATES_READ = {"eagle": 2, "eagle3": 3, "draft_model": 0}
"""
Hidden states that a draft projects to its own width: its input beside the target's last, or three layers' of the target
(vllm 0.23.0 model_executor/models/llama_eagle.py, llama_eagle3.py), by the ways in which a model of its own drafts.
"""


def with_draft(model: ModelConfig, draft: ModelConfig, method: str) -> ModelConfig:
    """
    `model` with the layers of `draft` behind its own, where those of multi-token prediction stand otherwise.

    Raises `InputError` for a method that is not known.
    """
    if method not in _STATES_READ:
        raise InputError(
            "no way of drafting is called {!r:.40}", method, remedy=Sentence("known: {}", (", ".join(_STATES_READ),))
        )
    first = len(model.layers)
    window = _one_window(model)
    layers = tuple(
        replace(layer, index=first + layer.index, mixer=_windowed(layer.mixer, window)) for layer in draft.layers
    )
    return replace(model, mtp_layers=layers, draft=draft, draft_method=method)


def _one_window(model: ModelConfig) -> int | None:
    """The window of `model` if all its layers have the same: engines give it to every layer that says none itself."""
    windows = {layer.mixer.window if isinstance(layer.mixer, GroupedAttention) else None for layer in model.layers}
    return windows.pop() if len(windows) == 1 else None


def _windowed(mixer: TokenMixer | None, window: int | None) -> TokenMixer | None:
    plain = isinstance(mixer, GroupedAttention) and mixer.window is None and mixer.chunk is None
    return replace(mixer, window=window) if plain and isinstance(mixer, GroupedAttention) else mixer


def draft_weights(model: ModelConfig) -> Iterator[Weight]:
    """
    The weights of the draft of `model`, in the layers behind those of `model`.

    EAGLE shares the target's embedding, and its head unless the draft has a head for fewer words.
    """
    draft, first = model.draft, len(model.layers)
    if draft is None:
        return
    hidden, states = draft.hidden_size, _STATES_READ[model.draft_method]
    found = [weight for layer in draft.layers for weight in layer_weights(draft, layer)]
    if not states:
        found += outer_weights(draft)
    else:
        found.append(matrix_weight("fc", WeightGroup.DENSE_FFN, hidden, states * model.hidden_size))
    if model.draft_method == "eagle3":
        found = [_reads_embedding(weight, hidden) for weight in found]
        found += [vector_weight(name, WeightGroup.NORM, hidden) for name in ("norm", "hidden_norm")]
    head = draft_head(model)
    if head is not None:
        found.append(head)
    for weight in found:
        layer = first + (weight.layer or 0)
        local = weight.name if weight.layer is None else weight.name.split(".", 2)[-1]
        yield replace(weight, name=f"layers.{layer}.{local}", layer=layer)


def draft_head(model: ModelConfig) -> Weight | None:
    """The head for fewer words that EAGLE's third kind drafts by, `None` where drafts share the head of `model`."""
    draft = model.draft
    if draft is None or model.draft_method != "eagle3" or not draft.draft_vocab:
        return None
    head = next((weight for weight in outer_weights(draft) if weight.name == "lm_head"), None)
    words = draft.draft_vocab
    return None if head is None else replace(head, shape=(words, draft.hidden_size), units=words)


def _reads_embedding(weight: Weight, hidden: int) -> Weight:
    """`weight`, twice as wide in the first layer's attention, which reads the embedding beside the hidden state."""
    first = weight.layer == 0 and weight.name.endswith((".q_proj", ".k_proj", ".v_proj"))
    return replace(weight, shape=(*weight.shape[:-1], 2 * hidden)) if first else weight
