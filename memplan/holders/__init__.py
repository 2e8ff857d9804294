"""Who holds memory: measured blocks joined to the tensors of a plan."""

from memplan.holders.block_join import JOINED_BY, BlockJoin, JoinedBy, join_blocks
from memplan.holders.peak_holders import Holder, HolderRow, PeakHolders, peak_holders

__all__ = [
    "JOINED_BY",
    "BlockJoin",
    "Holder",
    "HolderRow",
    "JoinedBy",
    "PeakHolders",
    "join_blocks",
    "peak_holders",
]
