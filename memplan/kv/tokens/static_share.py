"""
The share of a card's memory that is static, weights and pools of tokens together; the rest is slack for the step.

Sums are in floats and GiB where the engine's are, so that they round alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memplan.core.units import GIB, MIB
from memplan.kv.token_rules import StartUpMemory, TokenPoolRules, among
from memplan.models import ModelConfig
from memplan.models.parallel import Layout


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


def no_room(memory: Sequence[StaticMemory]) -> str:
    """What the engine says where weights leave nothing of the static share."""
    tight = min(memory, key=lambda item: item.rest)
    least = -(-(1 - (tight.found - tight.held) / tight.found) * 1000 // 1) / 1000
    return (
        f"Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static={tight.share}. Raise "
        f"--mem-fraction-static above {least:.3f}"
    )
