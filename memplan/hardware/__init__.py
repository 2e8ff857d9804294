"""Chips and links with every figure's source; the figures are data files, edited by hand."""

from memplan.hardware.chip import CUBE_DTYPES, Chip, DispatchBuffer, Fabric, SourcedValue
from memplan.hardware.database import Alias, alias, chip, chips
from memplan.hardware.host import HostTier, LinkRates, host_tier
from memplan.hardware.links import Link, link, links

__all__ = [
    "CUBE_DTYPES",
    "Alias",
    "Chip",
    "DispatchBuffer",
    "Fabric",
    "HostTier",
    "Link",
    "LinkRates",
    "SourcedValue",
    "alias",
    "chip",
    "chips",
    "host_tier",
    "link",
    "links",
]
