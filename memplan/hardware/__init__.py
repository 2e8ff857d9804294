"""Chips and links with every figure's source; the figures are data files, made by tools/make_chips.py or by hand."""

from memplan.hardware.chip import Chip, Value
from memplan.hardware.database import Alias, alias, chip, chips
from memplan.hardware.links import Link, link, links

__all__ = ["Alias", "Chip", "Link", "Value", "alias", "chip", "chips", "link", "links"]
