"""What one token takes in the pools of a rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memplan.kv.engine import Engine
from memplan.kv.layers import cache_specs
from memplan.kv.settings import ServingOptions
from memplan.kv.specs import CacheKind, CacheSpec
from memplan.kv.token_rules import TokenPoolRules, among
from memplan.models import ModelConfig
from memplan.models.architecture import Layer
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.parallel import Layout

NO_LIMIT = 2**63 - 1
"""Tokens that fit where they take nothing."""


@dataclass(frozen=True, slots=True)
class TokenCell:
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
    def of(cls, model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout, span: range) -> TokenCell:
        """What the layers `span` of a pipeline take, which is one stage's."""
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
            count = sum(attends(layer) for layer in model.mtp_layers)
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
        return int(room // size) if size else NO_LIMIT


def _apart(model: ModelConfig) -> ModelConfig:
    """`model` as its pools are sized: layers that read another's keys and values count with their own."""
    layers = (
        replace(layer, mixer=layer.mixer.alike) if isinstance(layer.mixer, GroupedAttention) else layer
        for layer in model.layers
    )
    return replace(model, layers=tuple(layers))


def attends(layer: Layer) -> bool:
    """Whether `layer` keeps something for every token."""
    return layer.mixer is not None and any(part.state is None for part in layer.mixer.caches())


def _per_token(specs: Sequence[CacheSpec]) -> int:
    return sum(spec.page_bytes // spec.block_size for spec in specs)
