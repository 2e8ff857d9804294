"""Memory that is dealt out in tokens, as SGLang does it: the static share of a card, and the pools in it."""

from memplan.kv.tokens.static_share import StaticMemory, attention_ranks, sees, start_up, static_share
from memplan.kv.tokens.token_pools import TokenPools, token_pools

__all__ = ["StaticMemory", "TokenPools", "attention_ranks", "sees", "start_up", "static_share", "token_pools"]
