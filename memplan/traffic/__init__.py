"""Traffic of a served model: requests as they arrive, and how much of their prompts a prefix cache holds already."""

from memplan.traffic.arrivals import MOONCAKE_BLOCK, Arrival, read_arrivals
from memplan.traffic.prefix_hits import CacheTier, PrefixHits, TierHits, prefix_hits

__all__ = [
    "MOONCAKE_BLOCK",
    "Arrival",
    "CacheTier",
    "PrefixHits",
    "TierHits",
    "prefix_hits",
    "read_arrivals",
]
