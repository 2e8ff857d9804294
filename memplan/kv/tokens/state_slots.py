"""Slots of recurrent states beside pools of tokens: how large each is, and how many a static share holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.core.units import GIB
from memplan.kv.kept_entries import recurrent_bytes
from memplan.kv.settings import ServingOptions
from memplan.kv.token_rules import TokenPoolRules
from memplan.models import ModelConfig
from memplan.models.architecture import Layer
from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.parallel import Layout


def slots_of_request(model: ModelConfig, rules: TokenPoolRules, options: ServingOptions) -> int:
    """Slots of states that a request holds (_calculate_mamba_ratio)."""
    if not options.prefix_caching:
        return rules.bare_slots
    return rules.one_buffer_slots if model.model_type in rules.one_buffer else rules.state_slots


def recurrences(layers: Sequence[Layer]) -> list[CachePart]:
    """The recurrent states that `layers` keep."""
    parts = [part for layer in layers if layer.mixer is not None for part in layer.mixer.caches()]
    return [part for part in parts if part.content is CacheContent.RECURRENT]


def _stated(part: CachePart) -> CachePart:
    """States whose type the config leaves open are float32 (configs/mamba_utils.py mamba2_state_dtype)."""
    if part.state is None or part.state.dtype != "auto":
        return part
    return replace(part, state=replace(part.state, dtype="float32"))


def request_state_bytes(model: ModelConfig, options: ServingOptions, layout: Layout, stages: Sequence[range]) -> int:
    """Bytes of the recurrent states of one request on the stage that has most of them."""
    plain = replace(options.caches, speculative_tokens=0)
    parts = [_stated(part) for part in recurrences(model.layers)]
    total = sum(sum(recurrent_bytes(part, plain, layout)) for part in parts)
    if not parts or layout.pipeline == 1:
        return total
    most = max(len(recurrences([model.layers[index] for index in span])) for span in stages)
    return int(total * (most / len(parts)))


def take_states(
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
            ratio = slots_of_request(model, rules, options)
            slots = int((budget - per_state * (1 + steps)) // (per_state * (1 + steps / ratio)))
            rest -= per_state * (min(wanted or slots, slots // ratio) + 1) * steps / GIB
    return rest - (slots + 1) * per_state / GIB, slots
